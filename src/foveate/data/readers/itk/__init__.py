"""MetaImage and NRRD: strict headers, confined data files, counted streams."""

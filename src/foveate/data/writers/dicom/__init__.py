"""Predictions as DICOM objects that refer to the images that they are of."""

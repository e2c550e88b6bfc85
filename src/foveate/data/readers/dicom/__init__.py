"""DICOM: pictures, series and enhanced files."""

"""Structures of DICOM: contours (RTSTRUCT) and segmentations (SEG), as label maps of their images."""

"""The Python of a bundle: it needs torch, MONAI and NumPy, and no foveate."""

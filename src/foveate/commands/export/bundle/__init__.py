"""A MONAI bundle of a fine-tuned run; `plain` holds the Python that lies inside the bundle."""

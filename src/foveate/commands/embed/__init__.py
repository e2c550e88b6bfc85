"""`foveate embed`: features of images, and what they say without a label."""

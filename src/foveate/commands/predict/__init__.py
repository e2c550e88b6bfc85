"""`foveate predict`: masks or classes of images."""

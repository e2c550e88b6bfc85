"""`foveate methods`: what can be trained."""

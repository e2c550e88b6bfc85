"""`foveate scan`: what a folder holds."""

"""`foveate plan`: what a pre-training run will cost."""

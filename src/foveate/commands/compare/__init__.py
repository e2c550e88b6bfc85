"""`foveate compare`: does pre-training help? A fair grid of arms, labels and seeds."""

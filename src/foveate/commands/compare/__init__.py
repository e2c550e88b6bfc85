"""`foveate compare`: compares pre-training methods and random weights over labels and seeds."""

"""`foveate pretrain`: learn from images without labels."""

"""`foveate evaluate`: scores a fine-tuned run on labelled images."""

"""`foveate evaluate`: how good a fine-tuned run is on labelled images."""

"""`foveate demo`: pre-trains and fine-tunes on virtual brains."""

"""`foveate convert`: weights of other projects come in."""

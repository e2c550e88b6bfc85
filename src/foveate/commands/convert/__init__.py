"""`foveate convert`: converts weights of other projects."""

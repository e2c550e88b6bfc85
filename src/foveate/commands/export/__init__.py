"""`foveate export`: writes the weights of a run for other libraries."""

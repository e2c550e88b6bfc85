"""`foveate prepare`: a cache for many runs."""

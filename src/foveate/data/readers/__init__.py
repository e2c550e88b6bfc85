"""One file per family of image formats; each turns a file into a `Volume` or refuses it with a reason."""

"""What a file is for, from its name, its siblings and its values."""

"""Images decoded once, as memory-mapped arrays: how they are made and how they are read."""

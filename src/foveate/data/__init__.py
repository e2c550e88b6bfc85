"""From files on disk to windows of a memory-mapped cache."""

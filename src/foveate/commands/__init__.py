"""One package per command: its configuration, its run and its own parts."""

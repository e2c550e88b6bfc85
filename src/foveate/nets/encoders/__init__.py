"""One file per family of encoders, with its Config and its entry; `catalogue` lists them."""

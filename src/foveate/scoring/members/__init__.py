"""Several answers to one image: side by side, averaged, and how far they agree."""

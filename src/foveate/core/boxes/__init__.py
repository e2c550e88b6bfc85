"""Boxes: where they lie, and the tasks whose answers they are."""

"""Boxes that tables and lists hold, and the maps that are painted from them."""

"""Boxes from the maps of a detector, FROC and average precision, their figures."""

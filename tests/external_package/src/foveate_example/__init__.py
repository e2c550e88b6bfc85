"""Additions to foveate, from outside."""

"""Downstream tasks: one file each, over the same encoder and the same loop."""

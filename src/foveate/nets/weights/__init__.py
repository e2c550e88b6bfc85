"""Weights in and out: files, cards, known families, and what goes where."""

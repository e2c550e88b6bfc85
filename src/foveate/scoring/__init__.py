"""Measures of what was learned: metrics, probes, statistics; nothing here trains a network."""

"""Encoders, decoders, heads, and the weights that go in and out of them."""

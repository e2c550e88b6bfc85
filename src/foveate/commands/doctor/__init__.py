"""`foveate doctor`: what a run finds on this machine, and what is likely to go wrong."""

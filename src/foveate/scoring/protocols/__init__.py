"""What the protocols of some tasks score beyond the metrics of masks and answers."""

"""What a run takes of its machine: memory, CPUs and GPUs."""

"""foveate: self-supervised pre-training of medical image models that keeps local detail."""

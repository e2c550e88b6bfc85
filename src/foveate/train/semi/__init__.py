"""Semi-supervised training: who labels, boxes pasted both ways, the model, its health."""

"""`foveate finetune`: learns a task from labelled images."""

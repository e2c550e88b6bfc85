"""`foveate finetune`: learn a task from labels."""

"""What foveate writes for others: predictions in formats of their own."""

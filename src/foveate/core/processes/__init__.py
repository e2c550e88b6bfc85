"""Processes beside each other: locks that one of them holds, and signals that ask a run to stop."""

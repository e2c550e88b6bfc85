"""Processes beside each other: work that they share, locks that one holds, signals that ask a run to stop."""

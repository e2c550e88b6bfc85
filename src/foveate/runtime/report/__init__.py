"""Pages of folders that commands wrote: runs, evaluations, comparisons, features. They need no model."""

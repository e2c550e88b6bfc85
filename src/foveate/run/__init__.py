"""The composition root: configuration to objects to a run. Only this package knows everything."""

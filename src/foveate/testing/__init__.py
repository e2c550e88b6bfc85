"""What other packages test their additions with: `pytest --pyargs foveate.testing --foveate_method NAME`."""

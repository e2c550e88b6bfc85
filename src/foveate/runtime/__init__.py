"""What commands share: run configuration, registries, run folder, images, models, launching, processes."""

"""Geometry (which voxels a view shows) and appearance (how it shows them)."""

"""What a folder holds, in three passes: names, headers, voxels."""

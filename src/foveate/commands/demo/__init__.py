"""`foveate demo`: the main job on virtual brains."""

"""`foveate watch`: the page of a run on this machine's loopback while it goes on."""

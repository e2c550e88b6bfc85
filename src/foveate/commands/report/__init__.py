"""`foveate report`: one page that shows what commands wrote."""

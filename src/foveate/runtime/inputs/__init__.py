"""What training images were like, and whether an image that comes later is like them."""

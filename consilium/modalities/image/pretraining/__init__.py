"""What an image encoder can learn from images alone."""

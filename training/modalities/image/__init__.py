"""Training's side of images; open `image_training` first."""

"""Training's side of notes; open `text_training` first."""

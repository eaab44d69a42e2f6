"""Training's side of laboratory values and vital signs; open `observations_training` first."""

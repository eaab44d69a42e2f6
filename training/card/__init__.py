"""The model card. Open `card` first."""

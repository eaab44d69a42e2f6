"""What encoders of notes learn without labels, and how notes hold sentences."""

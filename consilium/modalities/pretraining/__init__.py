"""What a modality may declare for pretraining: objectives of its own, and how its records hold sentences."""

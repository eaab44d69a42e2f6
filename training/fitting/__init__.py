"""One training run: objectives, schedule, Lightning module and callbacks. Open `fit` first."""

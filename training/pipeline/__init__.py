"""From a cohort to a registered model. `train` reads top-down; open it first."""

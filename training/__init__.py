"""From a cohort to a registered model. `training.pipeline.train` reads top-down; open it first."""

import os

# Threads that spin while they wait take the core that the one they wait for needs: on two cores, with any other process
# busy, training steps were seen several times slower than with threads that sleep. Read once, when torch
# is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from __future__ import annotations

import pytest

from training.cohorts import load_cohort
from training.cohorts.cohort import Cohort
from training.cohorts.phantom.write import write_phantom

SIZE = 64


@pytest.fixture(scope="package")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Sixty studies, a patient each."""
    root = tmp_path_factory.mktemp("altered") / "phantom"
    write_phantom(root, 60, seed=5, size=SIZE, workers=1)
    return load_cohort("phantom", root)

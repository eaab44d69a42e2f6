"""What a trained model leaves for those who watch it in service: see `consilium.monitoring.reference`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from consilium.calibration import Calibration
from consilium.monitoring.categories import PRESENT, study_categories
from consilium.monitoring.reference import HeldOut, MonitoringReference
from training.data.cached_cohort import CachedCohort
from training.evaluation.predictions import Predictions


def monitoring_reference(
    cached: CachedCohort, learned: Predictions, held_out: Sequence[Predictions], calibration: Calibration, seed: int
) -> MonitoringReference:
    """The reference of a model.

    Parameters
    ----------
    learned : Predictions
        Of the model, of the studies that it learned from.
    held_out : sequence of Predictions
        Of studies that it has not learned from; without features where other models made them.
    """
    pooled = Predictions.concatenate(held_out)
    return MonitoringReference.fit(
        learned.features,
        learned.as_present(learned.probabilities(calibration)),
        HeldOut(
            pooled.features,
            pooled.as_present(pooled.probabilities(calibration)),
            _categories(cached, pooled),
        ),
        cached.cohort.findings.names,
        seed,
    )


def _categories(cached: CachedCohort, predictions: Predictions) -> list[dict[str, str]]:
    place = {record.study_id: row for row, record in enumerate(cached.cohort.records)}
    found = [study_categories(cached.studies[place[study]]) for study in predictions.study_ids.tolist()]
    for modality, there in predictions.present.items():
        for categories, has in zip(found, np.where(there, "yes", "no").tolist(), strict=True):
            categories[f"{PRESENT}{modality}"] = has
    return found

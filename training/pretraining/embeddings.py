"""What pretrained encoders make of studies: a place in the common space and features, for each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from consilium.domain.errors import TrainingError
from consilium.domain.study import Study
from consilium.network.aligned_encoders import AlignedEncoders
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from training.cohorts.splits import Indices
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import StudyDataset, study_loader

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """N studies as the encoders see them.

    Attributes
    ----------
    rows : int [N]
        Positions in the cohort.
    places : dict of modality to float32 [N, E]
        Of length 1; NaN where the study lacks the modality.
    features : dict of modality to float32 [N, 2 D]
        Mean and maximum over the tokens; NaN likewise.
    """

    rows: Indices
    places: dict[str, Floats]
    features: dict[str, Floats]

    def present(self, modality: str) -> npt.NDArray[np.bool_]:
        """Which studies have `modality`, bool [N]."""
        there: npt.NDArray[np.bool_] = np.isfinite(self.places[modality][:, 0])
        return there


def embed_rows(model: AlignedEncoders, preprocessing: Preprocessing, cached: CachedCohort, rows: Indices) -> Embeddings:
    """Of the studies at `rows`; those in which nothing can be read are left out.

    Raises
    ------
    TrainingError
        Where no study remains.
    """
    dataset = StudyDataset(cached, preprocessing, rows)
    if not len(dataset):
        raise TrainingError("there is no study that these encoders can read")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    found = [
        embed_batch(model, batch.to(device)) for batch in study_loader(dataset, preprocessing, preprocessing.recipe)
    ]
    model.cpu()
    places, features = ({m: np.concatenate([part[k][m] for part in found]) for m in model.modalities} for k in (0, 1))
    return Embeddings(np.array(dataset.rows, np.int64), places, features)


@torch.inference_mode()
def embed_batch(model: AlignedEncoders, batch: Batch) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """`Embeddings.places` and `Embeddings.features` of one batch."""
    tokens = model.encode(batch)
    places = {name: place.cpu().numpy() for name, place in model.places(tokens).items()}
    return places, {name: own.summary().cpu().numpy() for name, own in tokens.items()}


def embed_studies(
    model: AlignedEncoders, preprocessing: Preprocessing, studies: Sequence[Study], batch_size: int = 64
) -> dict[str, Floats]:
    """`Embeddings.places` of studies of no cohort, such as prompts."""
    chunks = [studies[start : start + batch_size] for start in range(0, len(studies), batch_size)]
    found = [
        embed_batch(model, preprocessing.collate([preprocessing.prepare(study) for study in chunk]))[0]
        for chunk in chunks
    ]
    return {name: np.concatenate([part[name] for part in found]) for name in model.modalities}

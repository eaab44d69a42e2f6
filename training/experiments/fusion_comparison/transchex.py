"""MONAI's `Transchex` as a peer: images and notes, end to end, on the same splits.

It has random weights like everything it is compared with, and its layers have the size of the recipe's text model: at
its default size (768 channels, 63 million parameters) a step on a CPU takes minutes. Two properties are its own and
stay: it has no notion of an absent modality, so that it sees only studies with an image and a note; and it masks
nothing, so that padding is attended to, wherefore every note is padded to the recipe's length.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consilium.configuration.recipe import Recipe
from consilium.domain.errors import TrainingError
from consilium.domain.findings import FindingSet
from consilium.modalities.draws import Draws
from consilium.modalities.image.backbones.monai_networks import nets
from consilium.modalities.registry import subset_key
from consilium.preprocessing.batch import Batch
from consilium.preprocessing.collate import Preprocessing
from training.data.augmentation import augmentations
from training.data.cached_cohort import CachedCohort
from training.data.datamodule import EpochSampler, StudyDataset, study_loader
from training.evaluation.predictions import Predictions
from training.experiments.fusion_comparison.small_training import Fitted, SmallTraining, fit_small
from training.fitting.objectives.likelihood import Summed, log_likelihood_sum, negative_log_likelihood
from training.fitting.scheduled_module import seeded

READS = ("image", "text")
SUBSET = subset_key(READS)

_PATCHES = 8  # a side, as of 256 pixels in patches of 32
_LAYERS = 2  # of language, of vision and of both together, as in MONAI's own example

Indices = npt.NDArray[np.int64]


class Peer(nn.Module):
    """`Transchex` on our batches: the first image of each study, and its notes.

    Parameters
    ----------
    recipe : Recipe
    findings : FindingSet
    vocabulary : int
        Word pieces of the tokenizer.
    """

    def __init__(self, recipe: Recipe, findings: FindingSet, vocabulary: int) -> None:
        super().__init__()
        side, text = recipe.modalities["image"].size, recipe.modalities["text"]
        self.length = text.max_tokens
        with tempfile.TemporaryDirectory() as folder:
            # It reads a checkpoint whenever it is made, from a model hub unless a folder has one; this one is empty.
            torch.save({}, Path(folder) / "pytorch_model.bin")
            self.net = nets.Transchex(
                in_channels=1,
                img_size=(side, side),
                patch_size=(side // _PATCHES, side // _PATCHES),
                num_classes=len(findings),
                num_language_layers=_LAYERS,
                num_vision_layers=_LAYERS,
                num_mixed_layers=_LAYERS,
                hidden_size=text.width,
                intermediate_size=4 * text.width,
                num_attention_heads=text.heads,
                max_position_embeddings=text.max_tokens,
                vocab_size=vocabulary,
                path_or_repo_id=folder,
            )

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, F]."""
        ids, images = batch.inputs["text"]["input_ids"], batch.inputs["image"]["images"]
        padded = nn.functional.pad(ids, (0, self.length - ids.shape[1]))
        # Standardised roughly, as our own image encoder does.
        return self.net(padded, vision_feats=(images[:, 0] - 0.5) / 0.25)


def fit_peer(
    cached: CachedCohort, recipe: Recipe, train: Indices, validation: Indices, folder: Path
) -> tuple[Fitted[Peer], Preprocessing]:
    """Train on the studies at `train` that have an image and a note, with the recipe's schedule and augmentation.

    Raises
    ------
    TrainingError
        No study of a split has both, or the validation loss is not finite.
    """
    recipe = _reading_both(recipe)
    findings = cached.cohort.findings
    preprocessing = cached.preprocessing(recipe, train.tolist())
    tokenizer = preprocessing.preparations["text"].tokenizer
    data = _with_both(cached, preprocessing, train)
    kept = _with_both(cached, preprocessing, validation)
    model = seeded(lambda: Peer(recipe, findings, len(tokenizer)), recipe.seed)
    augment = augmentations(preprocessing)["image"]

    def loss(batch: Batch, seed: int) -> Tensor:
        assert batch.labels is not None
        own = batch.inputs["image"]
        draws = Draws.alone(len(batch), torch.Generator(own["mask"].device).manual_seed(seed))
        changed = batch.with_inputs("image", **augment(own, draws))
        return negative_log_likelihood(model(changed), batch.labels, exclusive=findings.exclusive)

    def watched(batch: Batch) -> Iterator[tuple[str, Summed]]:
        assert batch.labels is not None
        yield SUBSET, log_likelihood_sum(model(batch), batch.labels, exclusive=findings.exclusive)

    batches = study_loader(data, preprocessing, recipe, sampler=EpochSampler(len(data), recipe.seed))
    training = SmallTraining("transchex", loss, watched)
    fitted = fit_small(training, model, recipe, batches, study_loader(kept, preprocessing, recipe), folder)
    return fitted, preprocessing


def predict_peer(
    model: Peer, preprocessing: Preprocessing, cached: CachedCohort, recipe: Recipe, rows: Indices
) -> Predictions:
    """Uncalibrated logits of those of the studies at `rows` that have an image and a note."""
    recipe = _reading_both(recipe)
    data = _with_both(cached, preprocessing, rows)
    device = next(model.parameters()).device
    with torch.inference_mode():
        batches = study_loader(data, preprocessing, recipe)
        logits = torch.cat([model(batch.to(device)) for batch in batches]).double().cpu().numpy()
    records = [cached.cohort.records[row] for row in data.rows]
    return Predictions(
        study_ids=np.array([record.study_id for record in records]),
        patient_ids=np.array([record.patient_id for record in records]),
        labels=data.labels.astype(np.float64),
        present=dict.fromkeys(READS, np.ones(len(records), bool)),
        fused={SUBSET: logits},
        unimodal={},
    )


def _reading_both(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"modalities": {name: recipe.modalities[name] for name in READS}})


def _with_both(cached: CachedCohort, preprocessing: Preprocessing, rows: Indices) -> StudyDataset:
    """The studies that have an image and a note."""
    every = StudyDataset(cached, preprocessing, rows)
    both = np.array(every.rows, np.int64)[np.all([every.present[modality] for modality in READS], axis=0)]
    if not len(both):
        raise TrainingError("no study of a split has both an image and a note, which Transchex needs")
    return StudyDataset(cached, preprocessing, both)

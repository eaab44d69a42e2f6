"""A model of phantoms and its answers about other cohorts, as the service would keep them (`monitoring.py`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch

from consilium.artifacts.artifact import load_artifact
from consilium.domain.diagnosis import ABSENT, PRESENT, Diagnosis, ModelIdentity
from consilium.inference.diagnostician import Diagnostician
from consilium.monitoring.categories import study_categories
from consilium.monitoring.monitored_answer import ConfirmedOutcome, MonitoredAnswer
from consilium.preprocessing.batch import Prepared
from consilium.system.durable import replace_file
from training.cohorts import cohort_kind, load_cohort
from training.cohorts.phantom.named_shifts import STANDARD, parse_shift
from training.cohorts.phantom.write import write_phantom
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.data.datamodule import StudyDataset
from training.evaluation.out_of_distribution import Case, all_kinds
from training.evaluation.out_of_distribution.detection import alter
from training.monitoring.answers import AnswerTable, Layout
from training.pipeline.train import train
from training.recipes import find_recipe

HOME = "none"
SEED = 1009
"""Of every cohort that is answered: the same patients and evidence, so that nothing but the shift differs."""
IDENTITY = ModelIdentity(name="phantom", version="1", manifest_digest="0")
_EPOCH = datetime.fromtimestamp(0, UTC)
SHIFTS: Mapping[str, Sequence[str]] = {
    **STANDARD,
    "missing value": ("missing-value:absent=0.5", "missing-value:present=0.5"),
}
ALTERED = {"exposure": "shifted exposure", "units": "mixed units"}
"""Every study of a fresh cohort from home, altered in one of the ways of `all_kinds`."""


def trained(work: Path, studies: int, size: int, epochs: int) -> Path:
    """The model's folder; trained once."""
    note = work / "model.json"
    if not note.exists():
        if not (work / "home").exists():
            write_phantom(work / "home", studies, 7, size, workers=1)
        settings = [f"training.epochs={epochs}", "evaluation.bootstrap=20", f"modalities.image.size={size}"]
        model = train(find_recipe("phantom-tiny", settings), work / "home")
        replace_file(note, json.dumps(str(model.folder)).encode())
    return Path(json.loads(note.read_text()))


def pool(work: Path, model: Path, name: str, studies: int, size: int) -> AnswerTable:
    """The model's answers about one cohort, with every outcome; made once."""
    file = work / f"{name.replace(' ', '-')}.npz"
    if not file.exists():
        print(f"answers: {name}", flush=True)
        root, shift = work / "cohorts" / name, parse_shift(SHIFTS.get(name, ()))
        if not root.exists():
            write_phantom(root, studies, SEED, size, splits=None, shift=shift, workers=1)
        table = answers_of(model, root, ALTERED.get(name), "new scanner" if name == "device" else "")
        shutil.rmtree(root)
        _save(table, file)
    return _load(file)


def answers_of(model: Path, root: Path, altered: str | None, device: str) -> AnswerTable:
    """Everything that the service would keep of the studies in `root`, with every outcome."""
    artifact = load_artifact(model)
    assert artifact.monitoring is not None
    diagnostician = Diagnostician(artifact, IDENTITY)
    cached = cache_cohort(load_cohort("phantom", root, {}), artifact.recipe, file_cache_folder())
    cohort = cached.cohort
    dataset = StudyDataset(cached, artifact.preprocessing, np.arange(len(cohort)))
    renderer, rng = cohort_kind("phantom").load_renderer(root), np.random.default_rng(5)
    [kind] = [one for one in all_kinds() if one.name == altered] or [None]
    items: list[Prepared] = []
    for position, row in enumerate(dataset.rows):
        item = dataset[position][0]
        if kind is not None and kind.modality in item.present:
            case = Case(cohort.records[row], cached.studies[row], renderer, cohort.variables)
            item = alter(artifact.preprocessing, kind, case, item, rng) or item
        items.append(item)
    kept = []
    for start in range(0, len(items), 32):
        batch = items[start : start + 32]
        with torch.inference_mode():
            features = diagnostician.model(artifact.preprocessing.collate(batch)).features
        projected = artifact.monitoring.project({part: values.numpy() for part, values in features.items()})
        for place, answer in enumerate(diagnostician.diagnose_prepared(batch)):
            row = dataset.rows[start + place]
            site = cohort.records[row].source or ""
            categories = study_categories(batch[place].study)
            categories |= {"site": site, "device": device or f"scanner of {site}"}
            directions = {part: tuple(values[place].tolist()) for part, values in projected.items()}
            labels = dict(zip(cohort.findings.names, cohort.labels[row] == 1, strict=True))
            kept.append(_kept(int(row), answer, directions, categories, labels))
    return AnswerTable.of(kept, Layout.of(artifact.monitoring))


def _kept(
    row: int,
    answer: Diagnosis,
    directions: Mapping[str, tuple[float, ...]],
    categories: Mapping[str, str],
    labels: Mapping[str, bool],
) -> MonitoredAnswer:
    present = frozenset(answer.modalities)
    return MonitoredAnswer(
        result_id=UUID(int=row),
        time=_EPOCH,
        role="serving",
        model_name=answer.model.name,
        model_version=answer.model.version,
        manifest_digest=answer.model.manifest_digest,
        probabilities={one.finding: one.probability for one in answer.findings},
        prediction_sets={one.finding: one.prediction_set for one in answer.findings},
        referred=bool(answer.refer_reasons) or any(one.refer_reasons for one in answer.findings),
        present=present,
        p_values={one.part: one.p_value for one in answer.out_of_distribution},
        projections={part: one for part, one in directions.items() if not np.isnan(one).any()},
        categories=categories,
        latency_ms=1.0,
        outcomes=tuple(
            ConfirmedOutcome(name, PRESENT if there else ABSENT, _EPOCH, "import", influenced=False)
            for name, there in labels.items()
        ),
    )


def _save(table: AnswerTable, file: Path) -> None:
    columns: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        parts = value.items() if isinstance(value, dict) else ()
        columns |= {f"{field.name}/{name}": part for name, part in parts} or {field.name: value}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **columns)
    partial.rename(file)


def _load(file: Path) -> AnswerTable:
    with np.load(file, allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    read: dict[str, Any] = {}
    for name, value in columns.items():
        field, slash, key = name.partition("/")
        if slash:
            read.setdefault(field, {})[key] = value
        else:
            read[field] = tuple(value.tolist()) if name == "findings" else value
    return AnswerTable(**read)

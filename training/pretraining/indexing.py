"""From a cohort and pretrained encoders to a search index (`consilium.inference.search_index`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from consilium.artifacts.pretrained_encoders import PretrainedEncoders, load_encoders, resolve_encoders
from consilium.configuration.pretraining_stages import recipe_of_stages
from consilium.domain.errors import InputError
from consilium.domain.study import Study
from consilium.explain.similar_cases import Neighbours
from consilium.explain.vector_index import VectorIndex
from consilium.inference.search_index import Floats, SearchIndex, joint_places, unique_sentences
from consilium.modalities.pretraining.sentences import Sentences
from consilium.modalities.registry import find_modality
from consilium.system.installed import load
from consilium.system.threads import limit_threads
from training.data.cache_folders import file_cache_folder
from training.data.cached_cohort import cache_cohort
from training.pretraining.embeddings import embed_rows, embed_studies
from training.pretraining.measured import read_cohort

_log = logging.getLogger(__name__)


def index_cohort(
    source: str, cohort_root: Path, out: Path, *, advance: Callable[[], None] | None = None
) -> SearchIndex:
    """Write an index of every study of the cohort in `cohort_root` that the encoders `source` can read; all or nothing.

    Parameters
    ----------
    source : str
        Folder of encoders, ``models:/name@alias`` or ``models:/name/version``.
    out : Path
        Must not exist.

    Raises
    ------
    InputError
        `out` exists, or the cohort cannot be read with these encoders.
    """
    if out.exists():
        raise InputError("index", str(out), "must be a folder that does not exist yet")
    resolved = resolve_encoders(source)
    encoders = load_encoders(resolved.folder)
    recipe = recipe_of_stages(encoders.recipe)
    limit_threads(recipe.training.threads)
    cohort = read_cohort(recipe, cohort_root)
    cached = cache_cohort(cohort, recipe, file_cache_folder(), advance)
    found = embed_rows(encoders.model, encoders.preprocessing, cached, np.arange(len(cohort)))
    rows = found.rows.tolist()
    cases = Neighbours.fit(
        joint_places(found.places),
        cohort.labels[rows],
        {name: found.present(name) for name in found.places},
        [cohort.records[row].study_id for row in rows],
        cohort.digest,
        cohort.findings,
    )
    sentences, owners, places = _sentences(encoders, [cached.studies[row] for row in rows], found.places)
    identity = resolved.identity
    named = f"models:/{identity.name}/{identity.version}" if source.startswith("models:") else str(resolved.folder)
    index = SearchIndex(cases, sentences, VectorIndex.build(places), owners, named, identity.manifest_digest)
    index.save(out)
    _log.info("%d cases, %d different sentences", len(cases), len(sentences))
    return index


def _sentences(encoders: PretrainedEncoders, studies: list[Study], embedded: dict[str, Floats]) -> Any:
    """The different sentences of all modalities that hold words, whose they are, and where they lie."""
    width = next(iter(embedded.values())).shape[1]
    words: dict[str, tuple[str, Any]] = {}
    written: list[tuple[int, str]] = []
    for name, section in encoders.preprocessing.recipe.modalities.items():
        if not find_modality(name).sentences:
            continue
        made: Sentences = load(find_modality(name).sentences)
        for case, study in enumerate(studies):
            for record in study.parts.get(name, ()):
                if section.reads(record):
                    for one in made.split(record):
                        words.setdefault(made.words(one), (name, one))
                        written.append((case, made.words(one)))
    sentences, owners = unique_sentences(written)
    places = np.zeros((len(sentences), width), np.float32)
    for name in {name for name, _ in words.values()}:
        at = [row for row, sentence in enumerate(sentences) if words[sentence][0] == name]
        alone = [Study({name: (words[sentences[row]][1],)}) for row in at]
        places[at] = embed_studies(encoders.model, encoders.preprocessing, alone)[name]
    return sentences, owners, places

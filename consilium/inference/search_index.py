"""The search index: a cohort's studies and sentences in the common space of pretrained encoders.

Asked with any mix of records, it gives the cases that are most alike and the sentences that fit, each with the case
that it was written about. Cases are kept as those beside an explanation are (`consilium.explain.similar_cases`). The
sentences are the cohort's own words: the folder is to be guarded like the cohort.

    index.json              format, and which encoders it was made by
    cases/                  the cases
    sentences.safetensors   places of the sentences, and whose they are
    sentences.json          the sentences
    manifest.json           format, SHA-256 and size of every file above

As of an artifact, the manifest's SHA-256 names the index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from consilium.api.schemas import SearchInformation
from consilium.artifacts.artifact import write_folder
from consilium.artifacts.manifest import verify
from consilium.artifacts.pretrained_encoders import PretrainedEncoders, load_encoders, resolve_encoders
from consilium.domain.diagnosis import ModelIdentity, Neighbour
from consilium.domain.errors import ArtifactError, InputError
from consilium.domain.found_cases import Found, FoundSentence
from consilium.domain.study import Study
from consilium.domain.variables import VariableTable
from consilium.explain.similar_cases import FILES as NEIGHBOURS_FILES
from consilium.explain.similar_cases import Neighbours
from consilium.explain.vector_index import VectorIndex
from consilium.modalities.registry import in_order
from consilium.preprocessing.batch import Prepared

Floats = npt.NDArray[np.float32]

Chosen = npt.NDArray[np.bool_]

_FORMAT = 2
_INDEX, _CASES, _TENSORS, _TEXTS = "index.json", "cases", "sentences.safetensors", "sentences.json"
_FILES = (_INDEX, *(f"{_CASES}/{name}" for name in NEIGHBOURS_FILES), _TENSORS, _TEXTS)
_OWNER_ALONE = 0o700


@dataclass(frozen=True, slots=True, eq=False)
class SearchIndex:
    """N cases and S different sentences.

    Attributes
    ----------
    cases : Neighbours
    sentences : tuple of str, [S]
    places : VectorIndex
        Of the sentences, [S, E].
    owners : tuple of int arrays, [S]
        Positions of the cases that each sentence was written about.
    source, encoders_digest : str
        Of the encoders: what they are called, and their manifest's SHA-256.
    digest : str
        SHA-256 of the index's own manifest; empty where it was not loaded.
    """

    cases: Neighbours
    sentences: tuple[str, ...]
    places: VectorIndex
    owners: tuple[npt.NDArray[np.int64], ...]
    source: str
    encoders_digest: str
    digest: str = ""

    def search(
        self, place: Floats, k: int, among: Chosen | None = None
    ) -> tuple[tuple[Neighbour, ...], tuple[FoundSentence, ...]]:
        """The `k` cases and the `k` sentences nearest to `place` [E].

        Parameters
        ----------
        among : bool [N], optional
            Which cases are searched; sentences are those that were written about one of them.

        Raises
        ------
        InputError
            Where `place` is of another space, or `k` is below 1.
        """
        return self.cases.nearest(place, k, among), self._sentences(place, k, among)

    def _sentences(self, place: Floats, k: int, among: Chosen | None) -> tuple[FoundSentence, ...]:
        written = None if among is None else np.array([among[own].any() for own in self.owners], bool)
        rows, fits = self.places.nearest(place, k, written)
        found: list[FoundSentence] = []
        for row, fit in zip(rows.tolist(), fits.tolist(), strict=True):
            owners = self.owners[row] if among is None else self.owners[row][among[self.owners[row]]]
            alike = self.cases.states.vectors[owners] @ place
            case = self.cases.pseudonyms[int(owners[np.argmax(alike)])]
            found.append(FoundSentence(self.sentences[row], float(np.clip(fit, -1, 1)), case))
        return tuple(found)

    def save(self, folder: Path) -> str:
        """Write it into `folder`, which must not exist, and give its manifest's SHA-256; only its owner may read it.

        The folder appears whole and on disk, or not at all.

        Raises
        ------
        ArtifactError
            Where `folder` exists.
        """
        return write_folder(folder, "index", self._write, _OWNER_ALONE)

    def _write(self, folder: Path) -> None:
        self.cases.save(folder / _CASES)
        lengths = np.array([len(owners) for owners in self.owners], np.int64)
        flat = np.concatenate([np.zeros(0, np.int64), *self.owners])
        places = {"places": self.places.vectors, **self.places.tensors()}
        save_file({**places, "lengths": lengths, "owners": flat}, folder / _TENSORS)
        (folder / _TEXTS).write_text(json.dumps(list(self.sentences)), encoding="utf-8")
        about = {"format": _FORMAT, "encoders": self.source, "digest": self.encoders_digest}
        (folder / _INDEX).write_text(json.dumps(about), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SearchIndex:
        """Read what `save` wrote; nothing is unpickled.

        Raises
        ------
        ArtifactError
            Where it was altered, is of another format, or does not fit together.
        InputError
            Where it is none.
        """
        if not (folder / _INDEX).is_file():
            raise InputError("index", str(folder), "must be a folder that consilium index wrote")
        try:
            about = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            if about["format"] != _FORMAT:
                raise ArtifactError(f"search index of format {about['format']!r}; this version reads {_FORMAT}")
            digest = _verified(folder)
            tensors = load_file(folder / _TENSORS)
            texts = json.loads((folder / _TEXTS).read_text(encoding="utf-8"))
            owners = np.split(tensors["owners"], np.cumsum(tensors["lengths"])[:-1]) if texts else []
            cases = Neighbours.load(folder / _CASES)
            made_by = about["encoders"], about["digest"]
            places = VectorIndex.of(tensors["places"], tensors)
            index = cls(cases, tuple(texts), places, tuple(owners), *made_by, digest)
        except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
            raise ArtifactError(f"the search index cannot be read ({type(error).__name__})") from None
        index._check()
        return index

    def _check(self) -> None:
        width = self.cases.states.vectors.shape[1]
        sound = self.places.vectors.shape == (len(self.sentences), width) and len(self.owners) == len(self.sentences)
        if not sound or any(not len(o) or o.min() < 0 or o.max() >= len(self.cases) for o in self.owners):
            raise ArtifactError("the search index does not fit together")


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for, besides a study.

    Attributes
    ----------
    count : int
        Most cases, and most sentences.
    labels : mapping of finding to bool
        Only among cases that are known to have it, or not to have it.
    having : tuple of str
        Only among cases that have all of these modalities.
    """

    count: int = 5
    labels: Mapping[str, bool] = field(default_factory=dict)
    having: tuple[str, ...] = ()


class Searcher:
    """An index and the encoders that it was made by.

    Parameters
    ----------
    index : SearchIndex
    encoders : PretrainedEncoders
    identity : ModelIdentity
        What the encoders are called.
    """

    def __init__(self, index: SearchIndex, encoders: PretrainedEncoders, identity: ModelIdentity) -> None:
        self.index = index
        self.encoders = encoders
        self.identity = identity
        self._device = next(encoders.model.parameters()).device

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Searcher:
        """The index in `folder` with its encoders, verified; these on `device`.

        Raises
        ------
        ArtifactError, RegistryError, InputError
            One of them cannot be had, or the encoders are not those that the index was made by.
        """
        index = SearchIndex.load(folder)
        resolved = resolve_encoders(index.source)
        if resolved.identity.manifest_digest != index.encoders_digest:
            raise ArtifactError(f"{index.source} are other encoders than the search index was made by: make it anew")
        return cls(index, load_encoders(resolved.folder, device), resolved.identity)

    @property
    def variables(self) -> VariableTable:
        """Of the values that the encoders read."""
        return self.encoders.preprocessing.variables

    @property
    def modalities(self) -> tuple[str, ...]:
        """What can be searched with."""
        return in_order(self.encoders.preprocessing.recipe.modalities)

    def prepare(self, study: Study) -> Prepared:
        """What the encoders read of `study`; `InputError` where that is nothing."""
        return self.encoders.preprocessing.prepare(study)

    @property
    def information(self) -> SearchInformation:
        """What ``GET /v1/model`` says of it."""
        index = self.index
        return SearchInformation(
            encoders=self.identity,
            index_digest=index.digest,
            modalities=self.modalities,
            findings=index.cases.findings,
            cases=len(index.cases),
            sentences=len(index.sentences),
        )

    def require_known(self, query: Query) -> None:
        """`InputError` for a finding or a modality that no case was asked for: before the work for the answer."""
        self._among(query)

    def _among(self, query: Query) -> Chosen | None:
        if not query.labels and not query.having:
            return None
        return self.index.cases.having(query.labels, query.having)

    def search(self, study: Study, query: Query | None = None) -> Found:
        """What is most like `study`, of whatever modalities it has.

        Raises
        ------
        InputError
            Where it has nothing that the encoders read, or the query breaks a rule.
        """
        return self.search_prepared(self.prepare(study), query or Query())

    def search_prepared(self, item: Prepared, query: Query) -> Found:
        """The same for a study that `prepare` has seen."""
        model = self.encoders.model
        with torch.inference_mode():
            tokens = model.encode(self.encoders.preprocessing.collate([item]).to(self._device))
            places = {name: place.cpu().numpy() for name, place in model.places(tokens).items()}
        cases, sentences = self.index.search(joint_places(places)[0], query.count, self._among(query))
        present = item.present
        return Found(
            cases=cases,
            sentences=sentences,
            modalities=tuple(name for name in self.modalities if name in present),
            absent=tuple(name for name in self.modalities if name not in present),
            encoders=self.identity,
            index_digest=self.index.digest,
            input_digests=item.study.input_digests(),
            warnings=item.warnings,
        )


def _verified(folder: Path) -> str:
    try:
        return verify(folder, _FILES)
    except ArtifactError as error:
        raise ArtifactError(f"search index: {error}") from None


def joint_places(places: Mapping[str, Floats]) -> Floats:
    """The mean direction of the modalities that each study has, float32 [N, E] of length 1."""
    mean = np.nanmean(np.stack(list(places.values())), axis=0)
    joint: Floats = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return joint


def unique_sentences(
    written: Sequence[tuple[int, str]],
) -> tuple[tuple[str, ...], tuple[npt.NDArray[np.int64], ...]]:
    """The different sentences of pairs of case and sentence, in the order of their first case, and their cases."""
    cases: dict[str, list[int]] = {}
    for case, sentence in written:
        found = cases.setdefault(sentence, [])
        if not found or found[-1] != case:
            found.append(case)
    return tuple(cases), tuple(np.array(found, np.int64) for found in cases.values())

"""The search index: nearest cases and sentences by hand, and what is stored."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import ArtifactError, InputError
from consilium.explain.similar_cases import Neighbours, pseudonym
from consilium.explain.vector_index import VectorIndex
from consilium.inference.search_index import SearchIndex, joint_places, unique_sentences
from tests.consilium.tiny import FINDINGS

WRITTEN = [(0, "No effusion."), (0, "Heart normal."), (1, "Large effusion."), (2, "No effusion."), (2, "No effusion.")]
PLACES = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)


def index() -> SearchIndex:
    cases = Neighbours.fit(
        PLACES,
        np.array([[0, 1], [1, np.nan], [0, 0]]),
        {"image": np.array([True, True, False]), "text": np.ones(3, bool)},
        ["a", "b", "c"],
        "digest",
        FINDINGS,
    )
    sentences, owners = unique_sentences(WRITTEN)
    places = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    return SearchIndex(cases, sentences, VectorIndex(places), owners, "models:/consilium-encoders-tiny/1", "0" * 64)


def test_a_sentence_stands_once_with_all_of_its_cases() -> None:
    sentences, owners = unique_sentences(WRITTEN)
    assert sentences == ("No effusion.", "Heart normal.", "Large effusion.")
    assert [cases.tolist() for cases in owners] == [[0, 2], [0], [1]]


def test_the_nearest_come_first_each_sentence_with_its_nearest_case() -> None:
    cases, sentences = index().search(np.array([0.8, 0.6], np.float32), 2)
    assert [case.pseudonym for case in cases] == [pseudonym("digest", "c"), pseudonym("digest", "a")]
    assert cases[1].similarity == pytest.approx(0.8, abs=1e-3)
    assert [one.sentence for one in sentences] == ["Heart normal.", "No effusion."]
    # Of the two studies that it was written about, the one that is more like what was asked.
    assert sentences[1].case == pseudonym("digest", "c")
    assert sentences[1].similarity == pytest.approx(0.8)


def test_a_study_lies_in_the_mean_direction_of_what_it_has() -> None:
    places = {
        "image": np.array([[1, 0], [np.nan, np.nan]], np.float32),
        "text": np.array([[0, 1], [0.6, 0.8]], np.float32),
    }
    assert joint_places(places) == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    made = index()
    made.save(tmp_path / "index")
    loaded = SearchIndex.load(tmp_path / "index")
    asked = np.array([0, 1], np.float32)
    assert loaded.search(asked, 3) == made.search(asked, 3)
    assert (tmp_path / "index").stat().st_mode & 0o077 == 0
    with pytest.raises(ArtifactError, match="must be a folder that does not exist yet"):
        made.save(tmp_path / "index")


def test_a_killed_run_leaves_nothing_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("consilium.inference.search_index.save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            index().save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []
    index().save(tmp_path / "index")
    assert len(SearchIndex.load(tmp_path / "index").sentences) == 3


def test_the_manifest_names_the_index(tmp_path: Path) -> None:
    digest = index().save(tmp_path / "index")
    assert SearchIndex.load(tmp_path / "index").digest == digest
    assert hashlib.sha256((tmp_path / "index" / "manifest.json").read_bytes()).hexdigest() == digest


def test_an_index_without_words_finds_cases(tmp_path: Path) -> None:
    empty = SearchIndex(index().cases, (), VectorIndex(np.zeros((0, 2), np.float32)), (), "folder", "0" * 64)
    empty.save(tmp_path / "index")
    cases, sentences = SearchIndex.load(tmp_path / "index").search(np.array([0, 1], np.float32), 2)
    assert len(cases) == 2
    assert sentences == ()


def test_only_among_cases_that_are_known_to_be_so() -> None:
    made = index()
    first, second = FINDINGS.names
    assert made.cases.having({}).tolist() == [True, True, True]
    assert made.cases.having({first: True}).tolist() == [False, True, False]
    assert made.cases.having({second: False}).tolist() == [False, False, True]  # of b it is not known
    chosen = made.cases.having({first: False}, ["image"])
    assert chosen.tolist() == [True, False, False]
    cases, sentences = made.search(np.array([0.8, 0.6], np.float32), 3, chosen)
    assert [case.pseudonym for case in cases] == [pseudonym("digest", "a")]
    assert [(one.sentence, one.case) for one in sentences] == [
        ("Heart normal.", pseudonym("digest", "a")),
        ("No effusion.", pseudonym("digest", "a")),
    ]


def test_what_no_case_was_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="labels: got 'gout', must be one of"):
        index().cases.having({"gout": True})
    with pytest.raises(InputError, match="having: got 'smell', must be one of image, text"):
        index().cases.having({}, ["smell"])


@pytest.mark.parametrize("change", ["format", "owners", "texts", "gone"])
def test_a_damaged_index_is_refused(tmp_path: Path, change: str) -> None:
    made = index()
    if change == "owners":
        made = SearchIndex(
            made.cases, made.sentences, made.places, (*made.owners[:2], np.array([9])), made.source, "0" * 64
        )
    made.save(tmp_path / "index")
    if change == "format":
        about = json.loads((tmp_path / "index" / "index.json").read_text())
        (tmp_path / "index" / "index.json").write_text(json.dumps(about | {"format": 9}))
    if change == "texts":
        (tmp_path / "index" / "sentences.json").write_text('["one"]')
    if change == "gone":
        (tmp_path / "index" / "sentences.safetensors").unlink()
    with pytest.raises(ArtifactError, match="search index"):
        SearchIndex.load(tmp_path / "index")


def test_another_folder_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder that consilium index wrote"):
        SearchIndex.load(tmp_path)


def test_what_has_no_place_in_the_space_is_refused() -> None:
    with pytest.raises(InputError, match="must have 2 dimensions"):
        index().search(np.array([1, 0, 0], np.float32), 2)

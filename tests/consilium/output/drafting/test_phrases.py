"""Phrases of a site: read whole, or refused with the key and the rule."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from consilium.domain.certainty import Certainty
from consilium.domain.errors import InputError
from consilium.output.drafting.phrases import LANGUAGES, built_in_phrases, read_phrases

PACKAGE = "consilium.output.drafting"


def given(**changes: Any) -> dict[str, Any]:
    return yaml.safe_load((files(PACKAGE) / "phrases_en.yaml").read_text("utf-8")) | changes


def read(folder: Path, content: Any) -> Any:
    path = folder / "phrases.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return read_phrases(path, "--phrases")


def test_every_built_in_language_has_all_words_and_no_two_alike() -> None:
    for language in LANGUAGES:
        phrases = built_in_phrases(language)
        assert phrases.language == language
        assert len(set(phrases.certainty.values())) == len(Certainty)


def test_a_language_that_is_not_built_in_is_refused() -> None:
    with pytest.raises(InputError, match="must be one of en, de"):
        built_in_phrases("../en")


def test_a_sites_file_is_read(tmp_path: Path) -> None:
    own = {"effusion": {"name": "pleural effusion", "sentences": {"very unlikely": "No effusion."}}}
    phrases = read(tmp_path, given(findings=own, language="de-AT"))
    assert phrases.findings["effusion"].sentences[Certainty.VERY_UNLIKELY] == "No effusion."


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"finding": "{finding} is there."}, "--phrases.finding", "must name {finding} and {certainty} in braces"),
        ({"finding": "{finding.__class__} {certainty}"}, "--phrases.finding", "must name"),
        ({"finding": "{finding!r} {certainty}"}, "--phrases.finding", "must name"),
        ({"finding": "{finding:>999999999} {certainty}"}, "--phrases.finding", "must name"),
        ({"finding": "{finding} {finding} {certainty}"}, "--phrases.finding", "each once"),
        ({"cohort": "Not {{sound}}."}, "--phrases.cohort", "must name nothing in braces"),
        ({"no_indication": "None.\n\nImpression\nNo effusion."}, "--phrases.no_indication", "must be one line"),
        ({"no_comparison": "None\u2028at all."}, "--phrases.no_comparison", "must be one line"),
        ({"missing": "\u202e{modalities}"}, "--phrases.missing", "changes of direction"),
        ({"read": "\x1b[2J{modalities}"}, "--phrases.read", "control characters"),
        ({"findings": {"a": {"name": "a\nb"}}}, "--phrases.findings.a.name", "must be one line"),
        ({"modalities": {"image": " "}}, "--phrases.modalities.image", "must not be blank"),
        ({"modalities": {"sound": "Sounds"}}, "--phrases.modalities.sound", "must be one of image, text"),
        ({"disclaimer": "A {draft}."}, "--phrases.disclaimer", "must name nothing in braces"),
        ({"disclaimer": "A {draft"}, "--phrases.disclaimer", "must be a sentence with names in braces"),
        ({"colour": "red"}, "--phrases.colour", "Extra inputs are not permitted"),
        ({"language": "English"}, "--phrases.language", "String should match pattern"),
        ({"certainty": {"probable": "likely"}}, "--phrases.certainty.very unlikely", "must be given"),
        ({"certainty": {"maybe": "perhaps"}}, "--phrases.certainty.maybe", "Input should be"),
        ({"headings": {}}, "--phrases.headings.notice", "must be given"),
        ({"findings": {"a": {"sentences": {"possible": "{x}"}}}}, "--phrases.findings.a.sentences.possible", "nothing"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_key_and_the_rule(
    tmp_path: Path, changes: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, given(**changes))
    assert caught.value.field == field
    assert rule in caught.value.rule


@pytest.mark.parametrize("content", ["a: [", "!!python/object/apply:os.system ['true']", "", "- x", "\x00"])
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError):
        read(tmp_path, content)


@pytest.mark.parametrize("key", ["certainty", "headings"])
def test_two_words_that_nobody_could_tell_apart_are_refused(tmp_path: Path, key: str) -> None:
    words = given()[key]
    one, other, *_ = sorted(words)
    with pytest.raises(InputError, match=f"{key}.{other}: got '{words[one].upper()}', must differ from that of {one}"):
        read(tmp_path, given(**{key: words | {other: words[one].upper()}}))


def test_german_names_every_modality_that_german_readers_call_otherwise() -> None:
    assert set(built_in_phrases("de").modalities) == {"image", "text", "observations", "ecg", "volume", "audio"}


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--phrases"):
        read_phrases(tmp_path / "none.yaml", "--phrases")
    with pytest.raises(InputError, match="no larger than"):
        read(tmp_path, "#" * (1 << 20) + "\nlanguage: en")

"""The sentences of drafts in one language: built in, or a site's own, in a YAML file of the same keys."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from consilium.domain.certainty import Certainty
from consilium.domain.errors import InputError
from consilium.domain.report_draft import SECTIONS, SectionName
from consilium.formats.text_files import read_text
from consilium.modalities.registry import modality_names
from consilium.output.drafting.strict_yaml import strict_yaml

_MOST_BYTES = 1 << 20
LANGUAGES = ("en", "de")
"""Of the built-in phrases."""


_BREAKS = ("Cc", "Cs", "Zl", "Zp")
"""Categories of what ends a line, commands a terminal or is no character."""
_TURNS = ("LRE", "RLE", "LRO", "RLO", "LRI", "RLI", "FSI", "PDF", "PDI")
"""What shows the characters behind it in another order."""


def _line(text: str) -> str:
    """One line that reads as it is written: a sentence must not pass for a heading and another sentence."""
    if not text.strip():
        raise ValueError("must not be blank")
    if any(unicodedata.category(one) in _BREAKS or unicodedata.bidirectional(one) in _TURNS for one in text):
        raise ValueError("must be one line, without control characters and changes of direction")
    return text


def _modality(name: str) -> str:
    if name not in modality_names():
        raise ValueError(f"must be one of {', '.join(modality_names())}")
    return name


def _words(most: int) -> Any:
    return Annotated[str, Field(min_length=1, max_length=most), AfterValidator(_line)]


def _template(*names: str) -> Any:
    """A sentence that names each of `names` in braces, once."""

    def check(sentence: str) -> str:
        try:
            parts = list(Formatter().parse(sentence))
        except ValueError:
            raise ValueError("must be a sentence with names in braces") from None
        found = sorted(name for _, name, _, _ in parts if name is not None)
        plain = not any(spec or conversion for _, _, spec, conversion in parts)
        if found != sorted(names) or not plain or (not names and set(sentence) & set("{}")):
            wanted = " and ".join(f"{{{name}}}" for name in names) or "nothing"
            once = "each once, " if len(names) > 1 else "once, " if names else ""
            raise ValueError(f"must name {wanted} in braces, {once}and nothing else")
        return sentence

    return Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_line), AfterValidator(check)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnPhrases(_Strict):
    """A site's own sentences for one finding: by the word for its probability; `name` stands in all others."""

    name: _words(200) | None = None  # type: ignore[valid-type]
    sentences: dict[Certainty, _template()] = Field(default_factory=dict)  # type: ignore[valid-type]


class Phrases(_Strict):
    """All that a draft says of itself.

    Attributes
    ----------
    certainty : mapping
        The word of the language for each `Certainty`.
    finding : str
        Of a finding that the model judges: ``{finding}``, ``{certainty}``.
    undetermined, referred : str
        Of a finding that it does not judge here; the latter with ``{reasons}``.
    modalities : mapping
        What the site calls a modality; its English name unless given.
    findings : mapping of str to OwnPhrases
        By the name of the finding.
    """

    language: str = Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
    headings: dict[SectionName, _words(200)]  # type: ignore[valid-type]
    certainty: dict[Certainty, _words(100)]  # type: ignore[valid-type]
    disclaimer: _template()  # type: ignore[valid-type]
    study_referred: _template("reasons")  # type: ignore[valid-type]
    cohort: _template()  # type: ignore[valid-type]
    no_indication: _template()  # type: ignore[valid-type]
    no_comparison: _template()  # type: ignore[valid-type]
    read: _template("modalities")  # type: ignore[valid-type]
    missing: _template("modalities")  # type: ignore[valid-type]
    finding: _template("finding", "certainty")  # type: ignore[valid-type]
    undetermined: _template("finding")  # type: ignore[valid-type]
    referred: _template("finding", "reasons")  # type: ignore[valid-type]
    called: _template("findings")  # type: ignore[valid-type]
    not_called: _template("findings")  # type: ignore[valid-type]
    not_judged: _template("findings")  # type: ignore[valid-type]
    grade: _template("target", "answer")  # type: ignore[valid-type]
    modalities: dict[Annotated[str, AfterValidator(_modality)], _words(200)] = Field(  # type: ignore[valid-type]
        default_factory=dict
    )
    findings: dict[str, OwnPhrases] = Field(default_factory=dict)

    @property
    def missing_words(self) -> list[str]:
        """Words and headings that a language must have and this one lacks."""
        words = [f"certainty.{one.value}" for one in Certainty if one not in self.certainty]
        return words + [f"headings.{one}" for one in SECTIONS if one not in self.headings]


def built_in_file(language: str) -> str:
    """The built-in phrases of `language` as YAML, for a site to change.

    Raises
    ------
    InputError
    """
    if language not in LANGUAGES:
        raise InputError("language", language, f"must be one of {', '.join(LANGUAGES)}, or give phrases of your own")
    return (files(__package__) / f"phrases_{language}.yaml").read_text("utf-8")


@cache
def built_in_phrases(language: str) -> Phrases:
    """Those of `language`.

    Raises
    ------
    InputError
    """
    return _read(built_in_file(language), f"phrases_{language}.yaml")


def read_phrases(path: Path, field: str) -> Phrases:
    """A site's own, whole file.

    Raises
    ------
    InputError
        Names the key below `field`.
    """
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise InputError(field, str(path), f"must be no larger than {_MOST_BYTES} bytes")
    return _read(read_text(path, field), field)


def known_phrases(own: Path | None, field: str) -> Mapping[str, Phrases]:
    """By their language: the built-in ones, and a site's `own` in place of those of the same language.

    Raises
    ------
    InputError
    """
    found = {language: built_in_phrases(language) for language in LANGUAGES}
    if own is not None:
        phrases = read_phrases(own, field)
        found[phrases.language] = phrases
    return found


def _read(content: str, field: str) -> Phrases:
    given = strict_yaml(content, field)
    try:
        phrases = Phrases.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(one) for one in first["loc"] if one != "[key]")
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(".".join(filter(None, (field, place))), first["input"], rule) from None
    if phrases.missing_words:
        raise InputError(f"{field}.{phrases.missing_words[0]}", None, "must be given")
    for key, said in (("certainty", phrases.certainty), ("headings", phrases.headings)):
        first_of: dict[str, str] = {}
        for one, words in said.items():
            if (other := first_of.setdefault(words.strip().casefold(), one)) != one:
                raise InputError(f"{field}.{key}.{one}", words, f"must differ from that of {other}")
    return phrases

"""Names and identifiers that are given: each part is looked for, in any script, case, and with or without accents."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from consilium.masking.ideographs import Phrases
from consilium.masking.words import (
    ACTS,
    EPONYM_NOUN,
    GENERIC,
    LISTS,
    PARTICLES,
)

NAME, IDENTIFIER = "[name]", "[id]"

_MARKS = r"\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u0655\u0670\u0900-\u0963\u0971-\u0dff\u200c\u200d"
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
)
_LETTER = rf"(?:[^\W\d_{_UNSPACED}]|[{_MARKS}])"
_WORD = re.compile(rf"{_LETTER}+(?:['’ʼ׳]{_LETTER}+)*")
_INNER = re.compile(r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|['’ʼ]")
_GAP = re.compile(r"[ \t]{0,2}[-–,^=/·.]?[ \t\n]?[ \t]{0,2}")
_TITLED = re.compile(
    r"\b(?:Dr|Mr|Mrs|Ms|Miss|Mx|Prof|Herrn?|Hr|Frau|Doctor|Professor|Sir|Lady|Lord|Sister|Nurse|Mme|Mlle|Monsieur|Madame|Señora?|"
    r"Sra?|Pt|Patient(?:in)?|Name|Baby|Master)\b[.:]?\s{0,2}$",
    re.IGNORECASE,
)
_SENTENCE_BEGINS = re.compile(r"(?:^|[.!?:;•\n(*-])\s*$")

_INITIAL = re.compile(r"(?<![^\W_])([^\W\d_])\.\s?$")

_EXPANDED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe", "ß": "ss"})
_CONTRACTED = re.compile(r"([aou])e(?=[^aeiou])")
"""An umlaut that was spelt out where a keyboard has none."""

_STROKES = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "æ": "ae", "œ": "oe", "ß": "ss", "ʼ": "'"}
)
_CYRILLIC_ENDINGS = re.compile(r"(?:ыми|ого|ому|ами|ыми|ыми|ими|ым|ой|ою|ей|ем|ом|ах|ам|ых|их|им|ую|ая|ий|ый|ии)$")
_CYRILLIC_TAIL = "аеиоуыэюяйьё"
_GREEK_ENDINGS = re.compile(r"(?:ους|ος|ου|ον|ης|ας|ες|ων|ισ|ουσ|οσ|ησ|ασ|εσ)$")
_GREEK_TAIL = "αεηιοωσς"
_SLAVIC = re.compile(r"(?:sk|ck|dzk)[iya]$")
_SHORTEST_STEM, _LONGEST_ENDING = 3, 4
_FAMILY_PARTICLES = frozenset(
    ("van", "von", "vom", "de", "di", "da", "du", "ter", "ten", "zu", "zum", "bin", "ben", "abu")
)


_EPONYMS = LISTS["eponyms"] | LISTS["always_words"]


@dataclass(slots=True)
class _Parts:
    """The parts of all known names, folded."""

    sure: set[str] = field(default_factory=set)
    sometimes: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    """Masked only beside a name or a title."""
    particles: set[str] = field(default_factory=set)
    """Those in known names, of the kind that begins a family name."""
    initials: set[str] = field(default_factory=set)
    stems: set[str] = field(default_factory=set)
    glued: set[str] = field(default_factory=set)
    phrases: Phrases = field(default_factory=Phrases)
    identifiers: set[str] = field(default_factory=set)


_WITHIN = "within"
"""The kind of a word that is no name, in which one may be."""


@dataclass(slots=True)
class _Token:
    start: int
    end: int
    text: str
    kind: str


class KnownNames:
    """Names and identifiers, ready to be looked for."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parts = _parts(names)
        self._kinds: dict[str, str] = {}

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and placeholder of what of the names stands in `text`."""
        parts = self._parts
        yield from ((start, end, IDENTIFIER) for start, end in _identifiers(text, parts.identifiers))
        yield from ((start, end, NAME) for start, end in parts.phrases.find(text))
        if parts.sure or parts.sometimes or parts.beside or parts.glued or parts.stems:
            yield from ((start, end, NAME) for start, end in self._words(text))

    def _words(self, text: str) -> list[tuple[int, int]]:
        parts, kinds = self._parts, self._kinds
        tokens: list[_Token] = []
        for match in _WORD.finditer(text):
            word = match[0]
            kind = kinds.get(word)
            if kind is None:
                kind = kinds[word] = _kind(word, parts) or (_WITHIN if _INNER.search(word) else "")
            if kind == _WITHIN:
                tokens += _within(word, match.start(), parts)
            elif kind:
                tokens.append(_Token(match.start(), match.end(), word, kind))
        return _named(text, tokens, parts)


# --- known names -----------------------------------------------------------------------------------------------------


def _parts(names: Iterable[str]) -> _Parts:
    parts = _Parts()
    for name in names:
        if "^" not in name and any(map(str.isdigit, name)):
            _add_identifier(parts, name)
            continue
        for group in name.split("="):
            _add_name(parts, group)
    return parts


def _add_identifier(parts: _Parts, identifier: str) -> None:
    flat = "".join(c for c in identifier.casefold() if c.isalnum())
    # A short number is rather a measurement than an identifier.
    for form in (flat, flat.lstrip("0")):
        if len(form) >= (5 if form.isdigit() else 4):
            parts.identifiers.add(form)


def _add_name(parts: _Parts, group: str) -> None:
    if parts.phrases.add(group):
        return
    components = [part for part in group.split("^")[:3] if part.strip()]
    if len(components) == 1 and len(whole := re.split(r"[\s,]+", components[0].strip())) > 1:
        components = whole
    joined = []
    for component in components:
        words = [word for word in re.split(r"[\s,.;()/^]+|(?<=[^\W\d_])-(?=[^\W\d_])", component) if word]
        joined.append("".join(words))
        for word in words:
            _add_word(parts, word, alone=len(words) == 1)
    for one, other in ((a, b) for a in joined for b in joined if a != b):
        parts.glued |= {form for form in _forms(one + other) if len(form) >= 5}


def _add_word(parts: _Parts, word: str, *, alone: bool) -> None:
    if any(map(str.isdigit, word)):
        _add_identifier(parts, word)
        return
    plain = _forms(word)
    folded = plain[0]
    if folded in PARTICLES and alone:  # a family name of its own: Le, Van
        parts.beside.update(plain)
        return
    if folded in GENERIC or not folded:
        parts.particles |= {folded} & _FAMILY_PARTICLES
        return
    parts.initials.add(folded[0])
    if (
        len(folded) == 1
        or folded in LISTS["always_words"]
        or (len(folded) == 2 and folded in LISTS["two_letter_words"])
    ):
        parts.beside.update(plain)
    elif folded in LISTS["sometimes_words"]:
        parts.sometimes.update(plain)
    else:
        parts.sure.update(plain, {_CONTRACTED.sub(r"\1", folded)} if len(folded) > 4 else ())
        if "'" in word or "’" in word:
            pieces = [p for p in re.split(r"['’ʼ]", word) if len(p) > 2]
            parts.sure.update(form for piece in pieces for form in _forms(piece))
        if stem := _stem(folded):
            parts.stems.add(stem)


@lru_cache(maxsize=4096)
def _letter(character: str) -> str:
    """A letter without case and accents."""
    return "".join(
        c
        for c in unicodedata.normalize("NFKD", character)
        if not ("\u0300" <= c <= "\u036f" or "\u0591" <= c <= "\u05c7" or "\u064b" <= c <= "\u0655" or c == "\u0670")
    )


def _folded(word: str) -> str:
    if word.isascii():
        return word.lower().replace("'", "")
    plain = "".join(map(_letter, word.casefold().translate(_STROKES)))
    return plain.replace("'", "").replace("’", "").replace("\u200c", "").replace("\u200d", "")


def _forms(word: str) -> tuple[str, ...]:
    """How a word may be written: without accents, and with the umlauts spelt out."""
    folded = _folded(word)
    if word.isascii():
        return (folded,)
    expanded = _folded(unicodedata.normalize("NFC", word).casefold().translate(_EXPANDED))
    return (folded,) if expanded == folded else (folded, expanded)


def _stem(folded: str) -> str:
    """What a name keeps in all its cases, in languages that decline names; empty in others."""
    first = folded[:1]
    if "а" <= first <= "я" or first in "ёіїє":
        stem = _CYRILLIC_ENDINGS.sub("", folded).rstrip(_CYRILLIC_TAIL)
    elif "α" <= first <= "ω":
        stem = _GREEK_ENDINGS.sub("", folded).rstrip(_GREEK_TAIL)
    elif _SLAVIC.search(folded):
        stem = folded[:-1]
    else:
        return ""
    return stem if len(stem) >= _SHORTEST_STEM else ""


# --- where it stands -------------------------------------------------------------------------------------------------


def _named(text: str, tokens: list[_Token], parts: _Parts) -> list[tuple[int, int]]:
    """Start and end of those `tokens` of `text` that are names where they stand."""
    for token in tokens:
        if token.kind == "sometimes":
            token.kind = "name" if _stands_as_name(text, token, parts.initials) else "beside"
        if token.kind in ("beside", "initial") and _TITLED.search(text, max(0, token.start - 16), token.start):
            token.kind = "name"
    for run in _runs(text, tokens):
        _name_run(run, parts)
    return [
        (token.start, token.end)
        for token in tokens
        if token.kind == "name" and not (_folded(token.text) in _EPONYMS and EPONYM_NOUN.match(text, token.end))
    ]


def _runs(text: str, tokens: list[_Token]) -> Iterator[list[_Token]]:
    """Tokens that follow each other with no more than a sign between them."""
    run: list[_Token] = []
    for token in tokens:
        if run and not _is_gap(text, run[-1], token):
            yield run
            run = []
        run.append(token)
    if run:
        yield run


def _name_run(run: list[_Token], parts: _Parts) -> None:
    """What stands in a row with a name, or with the particle that begins one, is of the name."""
    kinds = {token.kind for token in run}
    begins = any(token.kind == "particle" and _folded(token.text) in parts.particles for token in run)
    beside = {_folded(token.text) for token in run if token.kind == "beside"}
    if "name" in kinds or len(beside) > 1 or (begins and beside):
        places = [i for i, token in enumerate(run) if token.kind in ("name", "beside", "initial")]
        first = next((i for i, token in enumerate(run) if _folded(token.text) in parts.particles), places[0])
        for token in run[min(first, places[0]) : places[-1] + 1]:
            token.kind = "name"


def _within(word: str, start: int, parts: _Parts) -> Iterator[_Token]:
    """Those parts of a word that are parts of known names."""
    places = [0, *(match.start() for match in _INNER.finditer(word)), len(word)]
    for begin, end in pairwise(places):
        piece = word[begin:end].lstrip("'’ʼ")
        if len(piece) > 1 and _kind(piece, parts) in ("name", "sometimes"):
            yield _Token(start + end - len(piece), start + end, piece, "name")


def _kind(word: str, parts: _Parts) -> str:
    """What a word may be: ``name``, ``sometimes`` or ``beside`` as `_Parts` has it, ``initial``, ``particle``."""
    if len(word) == 1:
        folded = _folded(word)
        return "initial" if word.isupper() and (folded in parts.initials or folded in parts.beside) else ""
    capital = word[0].isupper() or word[0].lower() == word[0].upper()
    kinds = (_kind_of_form(word, form, parts, capital=capital) for form in _forms(word))
    return next(filter(None, kinds), "")


def _kind_of_form(word: str, form: str, parts: _Parts, *, capital: bool) -> str:
    if form in parts.sure and (len(form) > 2 or capital):
        return "beside" if len(word) == 2 and word.isupper() and word.isascii() else "name"
    if form in parts.sometimes or form in parts.beside:
        kind = "sometimes" if form in parts.sometimes else "beside"
        return kind if capital else ""
    if form in parts.glued or _inflected(form, parts, capital=capital):
        return "name"
    return "particle" if form in PARTICLES else ""


def _inflected(form: str, parts: _Parts, *, capital: bool) -> bool:
    """Whether `form` is a known name in another case, or with a prefix that is written together with it."""
    if len(form) > 4 and form.endswith("s") and form[:-1] in parts.sure:
        return True
    if "\u0590" <= form[0] <= "\u06ff":
        return any(form[cut:] in parts.sure for cut in (1, 2) if len(form) - cut >= 2) or (
            form.removeprefix("ال") in parts.sure or f"ال{form}" in parts.sure
        )
    if not capital or not parts.stems:
        return False
    if _stem(form) in parts.stems:
        return True
    return form[0].isascii() and any(form[:-cut] in parts.stems for cut in range(1, _LONGEST_ENDING + 1))


def _stands_as_name(text: str, token: _Token, initials: set[str]) -> bool:
    """Whether a word that may be a name stands after its initial, before what only people do, or within a sentence."""
    initial = _INITIAL.search(text, max(0, token.start - 4), token.start)
    if (initial and _folded(initial[1]) in initials) or ACTS.match(text, token.end):
        return True
    if token.text.isupper():
        return False
    return not _SENTENCE_BEGINS.search(text, max(0, token.start - 12), token.start)


def _is_gap(text: str, one: _Token, other: _Token) -> bool:
    gap = text[one.end : other.start]
    if "." in gap and len(one.text) > 1:
        return False
    return bool(_GAP.fullmatch(gap))


_BETWEEN = re.compile(r"[\W_]+")
_SPREAD = re.compile(r"[^\W_](?:[-./_ ]?[^\W_])*")
"""An identifier with at most a sign between two of its letters and digits."""


def _identifiers(text: str, identifiers: set[str]) -> Iterator[tuple[int, int]]:
    if not identifiers:
        return
    flat = _BETWEEN.sub("", text)
    if len(flat.lower()) == len(flat) and not any(identifier in flat.lower() for identifier in identifiers):
        return
    places = [i for i, character in enumerate(text) if character.isalnum()]
    flat = "".join(text[i] for i in places).lower()
    if len(flat) != len(places):  # a letter whose lower case has two
        flat = "".join(text[i].lower()[0] for i in places)
    for identifier in identifiers:
        at = flat.find(identifier)
        while at >= 0:
            start, end = places[at], places[at + len(identifier) - 1] + 1
            if _whole(text, start, end) and _SPREAD.fullmatch(text, start, end):
                yield start, end
            at = flat.find(identifier, at + 1)


def _whole(text: str, start: int, end: int) -> bool:
    """Whether no letter or digit of the same kind goes on."""

    def goes_on(here: str, there: str) -> bool:
        return (
            there.isascii()
            and there.isalnum()
            and (here.isdigit() == there.isdigit() or here.isalpha() == there.isalpha())
        )

    before = start > 0 and goes_on(text[start], text[start - 1])
    return not before and not (end < len(text) and goes_on(text[end - 1], text[end]))

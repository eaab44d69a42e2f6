"""Dates: by their form where that is one of a date alone, else by their form and what stands beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from consilium.masking.clues import Clues, matches_at, words_of
from consilium.masking.words import LISTS, is_measured

_D, _M, _Y = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_LEFT, _RIGHT = r"(?<![\d/.,:-])", r"(?![\d/]|[.,:-]\d)"
_WORD_BEGINS, _WORD_ENDS = r"(?<![0-9A-Za-zÀ-ɏͰ-ӿ])", r"(?![A-Za-zÀ-ɏͰ-ӿ]|-[A-ZÀ-Þ](?-i:[a-zß-ÿ]))"
"""Scripts that set no blanks go on before and behind a word of another; a name goes on behind a hyphen."""

_TIME = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?"

_FIRST = (
    rf"(?:(?:{_D}\.?[-–]|(?:{_D}\.\s?{_M}\.|{_D}/{_M})\s?(?:[-–]|to|bis|until|till|und)(?:\szum)?\s?)"
    rf"(?={_D}\s?[-/.]))?"
)
"""The first day of a range whose last has the year."""

_WORDS_TOO = ("may", "march", "mar", "mars", "sep", "dec")
_MONTH_WORDS = LISTS["months"].union(_WORDS_TOO)
_MONTH = "(?:" + "|".join(sorted(_MONTH_WORDS, key=lambda word: (-len(word), word))) + ")"

_SURE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_LEFT}{_Y}([-/.]){_M}\1{_D}{_TIME}{_RIGHT}",
        rf"{_LEFT}{_FIRST}(?:{_D}\s?([-/.])\s?{_M}|{_M}\s?([-/.])\s?{_D})\s?(?:\1|\2)\s?{_Y}{_TIME}{_RIGHT}",
        rf"{_LEFT}(?:0[1-9]|[12]\d|3[01])\.\s(?:0[1-9]|1[0-2])\.\s\d\d{_RIGHT}",
        rf"{_LEFT}{_D}\s?\.\s?[IVX]{{1,4}}\.\s?{_Y}{_RIGHT}",
        rf"{_LEFT}(?:{_M}/|(?:0[1-9]|1[0-2])\.){_Y}{_RIGHT}",
        rf"(?<=\b(?:on|am|in) )(?:19|20)\d\d-(?:0[1-9]|1[0-2]){_RIGHT}",
    )
)
_EASTERN = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:(?:(?:19|20)\d\d|(?:令和|平成|昭和)\s?(?:\d{1,2}|元))\s?年\s?)?(?<!\d)\d{1,2}\s?月\s?\d{1,2}\s?[日号號]",
        r"(?<!\d)(?:(?:19|20)\d\d|(?:令和|平成|昭和)\s?(?:\d{1,2}|元))\s?年(?:\s?\d{1,2}\s?月)?(?![間间])",
        r"(?<!\d)(?:(?:19|20)\d\d\s?년\s?)?\d{1,2}\s?월\s?\d{1,2}\s?일|(?<!\d)(?:19|20)\d\d\s?년\s?\d{1,2}\s?월",
    )
)
_COMPACT = re.compile(
    r"(?<![0-9A-Za-z_.,])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-5]\d){0,3}(?![0-9A-Za-z_]|[.,]\d)"
)
_SHORT_YEAR = re.compile(rf"{_LEFT}(?:{_D}([-/.]){_M}|{_M}([-/.]){_D})(?:\1|\2)\d\d(?!\d|[./-]\d|-?[A-Za-z])")
_DAY_MONTH = re.compile(
    rf"(?<![\d./-])(?:{_D}(?:st|nd|rd|th|\.)?(?:[-–]|\s(?:to|bis)\s))?"
    rf"({_D})(st|nd|rd|th|\.|er|º)?(?:(\s?[-/]\s?)|\s{{0,3}})(?:of\s+|de\s+)?({_MONTH}){_WORD_ENDS}\.?"
    rf"(?:(?:,?\s+|(?<=\.))(?:del?\s+)?({_Y}|['’]\d\d)(?!\d)|\3({_Y}|\d\d)(?!\d|[.,:]\d)|(?<=[^\W\d_])({_Y}|"
    rf"\d\d)(?!\d|[.,:]\d))?(?:\s?г\.)?",
    re.IGNORECASE,
)
_MONTH_DAY = re.compile(
    rf"{_WORD_BEGINS}({_MONTH})\.?[\s-]+(?:the\s+)?({_D})(st|nd|rd|th)?(?!\w|[.,/:-]?\d|[./%])(?:,?\s+({_Y})(?!\d))?",
    re.IGNORECASE,
)
_YEAR_MONTH = re.compile(
    rf"(?<![\d./-]){_Y}(?:(?P<sign>[-/.])|\s)(?:{_MONTH})\.?(?(sign)(?P=sign)|\s){_D}(?:st|nd|rd|th)?(?!\w|[.,]\d)",
    re.IGNORECASE,
)
_MONTH_SIGN_DAY = re.compile(rf"{_WORD_BEGINS}(?:{_MONTH})([-/.]){_D}\1(?:{_Y}|\d\d)(?!\w|[.,]\d)", re.IGNORECASE)
_IN = re.compile(r"(?<!\w)(?:in|im|en)\s$", re.IGNORECASE)
"""Before a month without a day: a number behind it counts something."""

_MONTH_YEAR = re.compile(
    rf"{_WORD_BEGINS}({_MONTH})\.?,?(?:\s+(?:of\s+|de\s+)?{_Y}|\s?['’]\d\d)(?!\d|[.,]\d)", re.IGNORECASE
)
_BORN = re.compile(
    rf"(?<!\w)(?:DOB|D\.O\.B\.?|date of birth|born(?:\s+on)?|geb(?:oren)?\.?(?:-Dat\.)?(?:\s+am)?|Geburtsdatum|"
    rf"née?\s+le|д\.р\.)\s*:?\s*"
    rf"(\d{{1,2}}\s?[./-]\s?\d{{1,2}}\s?[./-]\s?(?:\d{{4}}|\d\d)|\d\d ?\d\d ?{_Y}|{_Y})(?!\d)",
    re.IGNORECASE,
)
_DAY_DOT_MONTH = re.compile(rf"{_D}\.\s?{_M}\.(?!\d)")
_BEFORE_DAY_DOT = re.compile(r"(?<!\w)(?:am|vom|seit|seit dem|bis|bis zum|ab|ab dem|den|zum|on)\s{1,3}$", re.IGNORECASE)
_DAYS_DOT_MONTHS = re.compile(rf"{_LEFT}{_D}\.{_M}\.\s?[-–]\s?{_D}\.{_M}\.(?!\d)")
_ZERO_DAY_DOT_MONTH = re.compile(r"(?<![\d.,/-])0[1-9]\.(?:0[1-9]|1[0-2])\.(?!\d)")
_DAY_SLASH_MONTH = re.compile(
    rf"(?:\d\d/{_M}|{_D}/(?!52)\d\d)(?![\d/.%])(?!\s+(?:of|occasion|day|night|test|dose))", re.IGNORECASE
)
_BEFORE_DAY_SLASH = re.compile(r"(?<!\w)(?:on|dated|until|till|am|vom)\s{1,3}$", re.IGNORECASE)

_DATING = re.compile(
    r"(?:\b(?:on|since|from|until|till|by|before|after|dated|date|of|the|am|vom|seit|bis|ab|den|dem|le|du|el|del|DOB)|"
    r"[(:])"
    r"[\s:]*$",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\s+(?:be|not|also|have|has|need|require|represent|reflect|indicate|suggest|benefit|well|still|result|cause|"
    r"respond|"
    r"improve|show|warrant|consider|continue|take|go|come|return|repeat|increase|decrease|start|stop|resume|use|"
    r"proceed|"
    r"relate|occur|develop|help|mean|include|contribute|explain|tolerate|undergo|receive|eat|drink|walk|mobili[sz]e|"
    r"fracture|foot|step)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"\s?[-/.–]{1,2}\s?[\dIVXivx]")
_BIRTH = frozenset(("dob", "birth", "d", "born", "geb", "geboren", "geburtsdatum", "né", "née", "ne", "nee", "д"))
_DOSE = re.compile(r"(?<!\d)[1-9]\d?-[1-9]\d?-[1-9]\d(?!\d)")


_AND = re.compile(r"\s?(?:,|und|and|or|oder|bis(?:\szum)?|to)\s?")
_LOOK_BACK = 20
"""Characters before a number that may say that it is a date."""


def dates(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    """Start, end and placeholder of what is a date in `text`."""
    if not clues.digits:
        return
    for pattern in _EASTERN if clues.foreign else ():
        yield from ((*match.span(), "[date]") for match in pattern.finditer(text))
    numbers = list(zip(clues.places, clues.numbers, strict=True))
    separated = [place for place, number in numbers if _SEPARATOR.match(text, place + len(number))]
    if separated:
        yield from _of_numbers(text, separated)
    if clues.any_of(_BIRTH):
        yield from ((*match.span(1), "[date]") for match in _BORN.finditer(text))
    for match in matches_at(_COMPACT, text, [place for place, number in numbers if len(number) >= 8]):
        if not is_measured(text, *match.span()):
            yield *match.span(), "[date]"
    if clues.any_of(_MONTH_WORDS):
        yield from _with_month_names(text, clues)


def _of_numbers(text: str, separated: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    """Dates of numbers alone, which begin at some of the numbers that a sign separates from the next."""
    for pattern in (*_SURE, _DAYS_DOT_MONTHS, _ZERO_DAY_DOT_MONTH):
        yield from ((*match.span(), "[date]") for match in matches_at(pattern, text, separated))
    for before, pattern in ((_BEFORE_DAY_DOT, _DAY_DOT_MONTH), (_BEFORE_DAY_SLASH, _DAY_SLASH_MONTH)):
        done = 0
        for match in matches_at(pattern, text, separated):
            follows = done > 0 and _AND.fullmatch(text, done, match.start())
            if follows or before.search(text, max(0, match.start() - _LOOK_BACK), match.start()):
                done = match.end()
                yield *match.span(), "[date]"
    for match in matches_at(_SHORT_YEAR, text, separated):
        dosed = _DOSE.fullmatch(match[0]) and not _DATING.search(
            text, max(0, match.start() - _LOOK_BACK), match.start()
        )
        if not dosed and not is_measured(text, *match.span()):
            yield *match.span(), "[date]"


def _with_month_names(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    months = words_of(text, _MONTH_WORDS)
    for match in matches_at(_MONTH_YEAR, text, months):
        if not is_measured(text, *match.span()):
            yield *match.span(), "[date]"
    for pattern, places in ((_YEAR_MONTH, clues.places), (_MONTH_SIGN_DAY, months)):
        yield from ((*match.span(), "[date]") for match in matches_at(pattern, text, places))
    for match in matches_at(_DAY_MONTH, text, clues.places):
        year = match[5] or match[6] or match[7]
        if year or match[2] in ("st", "nd", "rd", "th") or _is_month(text, match, 4):
            yield match.start(), match.end(), "[date]"
    for match in matches_at(_MONTH_DAY, text, months):
        plain = match[3] is None and match[4] is None
        if plain and _IN.search(text, max(0, match.start() - _LOOK_BACK), match.start()):
            continue
        if not plain or (_is_month(text, match, 1) and not is_measured(text, *match.span())):
            yield *match.span(), "[date]"


def _is_month(text: str, match: re.Match[str], group: int) -> bool:
    """Whether the month's name is one here, where neither a year nor an ordinal number says so."""
    word = match[group]
    if word.lower() not in _WORDS_TOO and len(word) > 3:
        return True
    if not word[0].isupper() or (word.lower() in ("may", "march") and _VERB.match(text, match.end(group))):
        return False
    return not word.isupper() or bool(_DATING.search(text, max(0, match.start() - _LOOK_BACK), match.start()))

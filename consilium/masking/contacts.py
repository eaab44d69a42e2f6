"""Addresses of mail, web and street, and telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import compress

from consilium.masking.clues import Clues
from consilium.masking.words import LISTS, is_measured

_CAP = r"[A-ZÀ-ÖØ-Þ][\w'’-]+"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Close|Court|Ct|Way|Square|Sq|Boulevard|Blvd|Crescent|Terrace|"
    r"Place|Grove|Gardens|Parkway|Highway|Mews|Hill)"
)
_HOUSE = r"(?<![\w.,/-])(?:(?:Flat|Apt\.?|Apartment|Unit|Suite)\s\w{1,4},?\s)?\d{1,5}[A-Za-z]?,?\s"
_UK_POSTCODE = r"(?![CTLS]\d{1,2} )[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}"
_TOWN = (
    r"(?:,?\s(?:Apt|Flat|Unit|Suite|#)\.?\s?\w{1,5})?"
    rf"(?:,?\s(?:[A-Z]{{1,2}}-?)?\d{{4,5}}\s{_CAP}(?:[ -]{_CAP})?"
    rf"|,\s{_CAP}(?:\s{_CAP})?(?:,?\s(?:[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?|{_UK_POSTCODE}))"
    rf"|,?\s{_UK_POSTCODE})"
)

_UK_POSTCODE_ALONE = re.compile(r"[A-Z]{2}(?<!\w..)\d[A-Z\d]? \d(?!ST|ND|RD|TH)[ABD-HJLNP-UW-Z]{2}(?!\w)")
_BEFORE_TOWN = re.compile(r"\d[a-f]?,\s\d{4,5}\s[A-ZÄÖÜ]")
_TOWNED = re.compile(
    rf"(?<![\w-]){_CAP}(?:[ -][\w.-]{{2,30}}){{0,3}}\s\d{{1,3}}[a-f]?,\s(?:\d{{5}}|\d{{4}}\s[A-Z]{{2}})\s"
    r"(?!Thrombo|Leuko|Ery|Zellen|Einheiten|Kopien|Schritte)[A-ZÄÖÜ][a-zäöüß]{2,30}"
)
"""Of a street that only the town behind it shows."""
_NO_STREET = re.compile(r"(?i:\b(?:lobe|vessel|segment|zone|valve|lead|lumen)\b)")

_WESTERN = tuple(
    (list_of, re.compile(pattern))
    for list_of, pattern in (
        (
            "streets",
            rf"{_HOUSE}(?:(?:{_CAP}|\d{{1,3}}(?:st|nd|rd|th)|of|the|[NSEW]\.?)\s){{1,4}}{_STREET}\b\.?(?:\s[NSEW]{{1,2}}\b)?{_TOWN}?",
        ),
        (
            "streets",
            r"(?<![\w.,/-])\d{1,5}\s(?!(?:lane|level|vessel)\b)[a-z]{3,15}\s(?:street|road|avenue|boulevard)\b",
        ),
        ("boxes", rf"\b(?:P\.?O\.?\s?Box|Postfach)\s\d{{1,7}}{_TOWN}?"),
        (
            "french_streets",
            (
                r"(?<![\w.,-])\d{1,4}(?:\s?bis)?,?\s(?:rue|avenue|boulevard|place|chemin|allée|quai|impasse)\s"
                rf"(?:(?:de|du|des|la|le|les|l'|d')\s?){{0,3}}{_CAP}(?:[ -]{_CAP})*{_TOWN}?"
            ),
        ),
        (
            "southern_streets",
            rf"\b(?:[Cc]alle|[Aa]venida|[Pp]laza|[Vv]ia|[Vv]iale|[Pp]iazza|[Rr]ua)\s(?:(?:de|del|della|di|da|la|el)\s){{0,2}}{_CAP}(?:\s{_CAP})*,?\s\d{{1,4}}\b",
        ),
    )
)
_GERMAN = re.compile(
    r"(?<![\w-])(?!(?:Atem|Luft|Harn|Gallen|Leitungs|Nerven|Seh|Hör|Lymph)weg)"
    r"(?:[A-ZÄÖÜ][\wäöüß-]{0,30}(?:[- ][A-ZÄÖÜ][\wäöüß-]{1,30})?[- ])?[A-ZÄÖÜ]?[\wäöüß]{0,30}"
    r"(?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|(?<=\w)weg|[Gg]asse|[Aa]llee|(?<=\w)platz|[Cc]haussee|straat|laan)"
    rf"\s\d{{1,3}}\s?[a-f]?\b{_TOWN}?"
)
"""Of German and Dutch streets, which are one word."""

_OTHERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:г\.\s?[А-ЯЁ][а-яё-]+,\s?)?\b(?:ул|улица|пр|просп|проспект|пер|переулок)\.?\s[А-ЯЁ][А-Яа-яё-]+(?:\s[А-Яа-яё-]+)?,?\s(?:д\.?\s?)?\d{1,4}[а-я]?(?:,?\s(?:корп|к)\.\s?\d+)?(?:,?\s?кв\.\s?\d+)?",
        r"(?:[\u4e00-\u9fff]{2,6}[省市])?(?:[\u4e00-\u9fff]{2,6}[市区县區縣])?[\u4e00-\u9fff]{1,8}[路街道巷弄]\s?\d{1,5}\s?[号號](?:\s?\d{1,4}\s?[室楼樓栋])?",
        r"[\u4e00-\u9fff]{2,3}[都道府県][\u4e00-\u9fff\u3040-\u30ff]{1,8}[市区町村郡][\u4e00-\u9fff\u3040-\u30ff0-9０-９]{0,12}?[0-9０-９]{1,4}(?:(?:丁目|番地|番|号|[-－−])[0-9０-９]{0,4}){0,4}",
        r"[가-힣]{1,8}(?:시|도)\s[가-힣]{1,6}(?:시|구|군)\s(?:[가-힣]{1,6}(?:구|읍|면)\s)?[가-힣0-9]{1,10}(?:로|길)\s?\d{1,4}(?:-\d{1,4})?",
    )
)
_CONTACTS = (
    ("[email]", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")),
    ("[url]", re.compile(r"(?<![A-Za-z])(?:(?:https?|s?ftp)://|www\.)[^\s\ue000]{1,2000}", re.IGNORECASE)),
)
_BARE_URL = re.compile(
    r"(?<![\w@.-])(?:[a-z0-9-]{2,63}\.){1,4}"
    r"(?:(?:com|org|net|edu|gov|info|co\.uk|nhs\.uk)(?![\w-])(?:/[^\s\ue000]{0,2000})?|(?:de|at|ch|fr|uk|eu|nl)/[^\s\ue000]{1,2000})"
)
_DOMAINS = frozenset(("com", "org", "net", "edu", "gov", "info", "uk", "de", "at", "ch", "fr", "eu", "nl"))
_SEPARATED = r"(?:[ ./-]|\)\s?|\s?\()"
_PHONES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![0-9A-Za-z_.])(?:\+|00)[1-9]\d{{0,2}}(?:{_SEPARATED}{{0,2}}\d){{6,13}}(?![0-9A-Za-z_]|[.,]\d)",
        r"(?<![\w.])(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![0-9A-Za-z_]|[.,]\d)",
        # National numbers begin with a zero, which no value of several groups does.
        r"(?<![\w.,:/-])0[1-9](?:[ .-]\d\d){4}(?![0-9A-Za-z_]|[.,/:-]?\d)",
        r"(?<![\w.,:/-])\(?0[1-9]\d{1,4}\)?(?:[ /-]{1,3}\d{2,8}){1,4}(?![0-9A-Za-z_]|[.,/:]\d)",
        r"(?<![\w.,])0[1-9]\d{8,10}(?![0-9A-Za-z_]|[.,]\d)",
    )
)
_LABELLED_PHONE = re.compile(
    r"(?<![^\W\d_])(?:t[eé]l(?:efon|ephone|\.?-?nr)?|phone|mobile|mobil|handy|fax|bleep|pager|ext|contact|durchwahl|tlf|"
    r"тел|电话|手机|電話|전화|연락처)(?:[\s-]?(?:no|nr|number))?[\s:.：]{0,3}"
    r"(\(?\+?\d(?:[ ()./-]{0,2}\d){2,15})(?![0-9A-Za-z_]|[.,]\d)",
    re.IGNORECASE,
)


_STREET_ENDS = ("straße", "strasse", "str", "weg", "gasse", "allee", "platz", "chaussee", "straat", "laan")
_PHONE_BEGINS = ("tel", "tél", "durchwahl", "tlf", "phone", "mobil", "handy", "fax", "bleep", "pager", "ext", "contact")
_FEWEST_DIGITS, _MOST_DIGITS = 7, 15
"""Of a telephone number that no label introduces (ITU-T E.164)."""


def contacts(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    """Start, end and placeholder of what reaches somebody in `text`."""
    if "@" in text or "www." in text.lower() or "://" in text:
        for shown, pattern in _CONTACTS:
            yield from ((*match.span(), shown) for match in pattern.finditer(text))
    if clues.any_of(_DOMAINS) and "." in text:
        yield from ((*match.span(), "[url]") for match in _BARE_URL.finditer(text))
    if not clues.digits:
        return
    yield from ((*match.span(), "[address]") for match in _UK_POSTCODE_ALONE.finditer(text))
    if clues.longest > 3 and _BEFORE_TOWN.search(text):
        yield from ((*match.span(), "[address]") for match in _TOWNED.finditer(text))
    german = any(word.endswith(_STREET_ENDS) for word in clues.words)
    western = (pattern for list_of, pattern in _WESTERN if clues.any_of(LISTS[list_of]))
    for pattern in (*western, *((_GERMAN,) if german else ()), *(_OTHERS if clues.foreign else ())):
        yield from ((*match.span(), "[address]") for match in pattern.finditer(text) if not _NO_STREET.search(match[0]))
    if clues.digits >= _FEWEST_DIGITS:
        yield from _numbers(text, clues)
    labelled = clues.foreign or any(word.startswith(_PHONE_BEGINS) for word in clues.words)
    for match in _LABELLED_PHONE.finditer(text) if labelled else ():
        if sum(map(str.isdigit, match[1])) >= 3 and not is_measured(text, *match.span(1)):
            yield *match.span(1), "[phone]"


def _numbers(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    national = any(number[0] == "0" and len(number) > 1 for number in clues.numbers)
    international = "+" in text or any(number.startswith("00") for number in clues.numbers)
    lengths = [min(len(number), 4) for number in clues.numbers]
    american = any(three == (3, 3, 4) for three in zip(lengths, lengths[1:], lengths[2:], strict=False))
    tried = (international, american, national, national, national and clues.longest >= _FEWEST_DIGITS)
    for pattern in compress(_PHONES, tried):
        for match in pattern.finditer(text):
            digits = sum(map(str.isdigit, match[0]))
            if _FEWEST_DIGITS <= digits <= _MOST_DIGITS and not is_measured(text, *match.span()):
                yield *match.span(), "[phone]"

"""Identifiers of patients, cases, examinations and objects."""

from __future__ import annotations

import re
from collections.abc import Iterator

from consilium.masking.clues import Clues
from consilium.masking.words import is_measured

_FEWEST_DIGITS = 3
_FEWEST_OF_NHS = 6
"""NHS 111 is whom one calls."""

_LABELLED = re.compile(
    r"(?<![^\W\d_])(?:"
    r"(?:MRN|NHS|SSN|URN|passport|reisepass|UHID|KVNR|NHC|DNI|IPP|BSN|PESEL|CPF)(?:[\s-]?(?:no|nr|number|id))?"
    r"|(?:patient(?:en)?|pat|hospital|unit|medical[\s-]record|chart|accession|hosp|case|account|acct|acc|admission|insurance|policy|visit|serial|device|lot|batch|implant|medicare|"
    r"member|passport|licen[cs]e|registration|order|exam|study|file|record|ref(?:erence)?|specimen|episode|encounter|fall|"
    r"aufnahme|akten|versicherten|versicherungs|auftrags|personal|ausweis|untersuchungs|dossier|historia|befund|vers|kv|serien|geräte|chargen)"
    r"\.?[\s-]{0,2}(?:id|no|nr|num(?:mer|ber)?|n°|#)"
    r"|ID|accession|S/N|(?:SN|UDI)(?=[:#])|№\s?истории\sболезни|полис|病历号|住院号|门诊号|病案号|身份证号?|患者\s?ID|カルテ番号|診察券番号|환자번호|등록번호"
    r")(?![^\W\d_])[\s:#.=：]{0,4}"
    r"(?-i:([A-Za-z]{0,4}[-/]?\d[\dA-Za-z]{0,20}(?:[-/.][\dA-Za-z]{1,12}){0,6}(?: \d{2,6}){0,4}))(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_LABEL_ENDS = (
    *("id", "no", "nr", "num", "nummer", "number", "mrn", "nhs", "ssn", "uhid", "kvnr", "nhc", "dni", "ipp"),
    *("bsn", "pesel", "cpf", "accession", "urn", "passport", "reisepass", "s/n", "sn", "udi"),
)
_LABEL_BACKWARDS = re.compile(
    r"[-/]?+(?:[a-z]{0,4}[\s:.=：]{0,3}#|(?:[\s:#.=：]{0,4}+|[a-z]{1,4}+[\s:#.=：]{1,4}+)"
    rf"(?:{'|'.join(end[::-1] for end in _LABEL_ENDS)}))",
    re.IGNORECASE,
)
"""The end of a label before a number, read from the number: most numbers are passed over at the first letter."""

_NAMED_NUMBER = re.compile(
    r"(?<![^\W\d_])(?:patient|pt|pat|case|file|chart|film|study|record|ref|exam|fall|akte|no|nr|number|#)[\s:#.]{1,3}"
    r"(\d{5,12})(?![0-9A-Za-z_]|[.,]\d)",
    re.IGNORECASE,
)
_FORMS = tuple(
    (fewest, clue, re.compile(pattern))
    for fewest, clue, pattern in (
        (4, "-", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
        (1, ".", r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d{0,38})){4,20}(?![\w.]*\d)"),
        (1, "-", r"(?<!\w)[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?!\w)"),
        (4, "", r"(?<![\w-])\d{4}(?:[ -]\d{4}){3}(?![\w-])"),
        (2, ".", r"(?<![\w.])(?=[\d.]{0,12}\d\d)\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)"),
        (
            4,
            "",
            (
                r"(?<![0-9A-Za-z])"
                r"(?!(?:NCT|RID|PMID|PZN|SCTID)-?\d)(?:[A-Z]{1,4}[-/]?\d{6,20}(?:[-/]\d{1,8})?|[A-Z]{1,4}-\d{5}|[A-Z]\d{2}-\d{4,8}|\d{2}-?[A-Z]{1,3}-?\d{5,10})"
                r"(?![0-9A-Za-z])"
            ),
        ),
        (6, "-", r"(?<![\w-])\d{2}-\d{6,8}(?![\w-])"),
        # Of German pensions, of Medicare (United States, Australia), of vehicles.
        (3, "", r"(?<![\w-])\d{2} ?[0-3]\d[01]\d{3} ?[A-Z] ?\d{3}(?!\w)"),
        (1, "-", r"(?<![\w-])[1-9][A-Z][A-Z0-9]\d-[A-Z][A-Z0-9]\d-[A-Z]{2}\d{2}(?![\w-])"),
        (5, "", r"(?<![\w-])[2-6]\d{3} \d{5} \d(?![\w.,])"),
        (4, "", r"(?<!\w)(?=(?:[A-Z]*\d){5})(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{17}(?!\w)"),
        (2, "", r"(?<!\w)[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){3,7}(?: ?[0-9A-Z]{1,3})?(?!\w)"),
    )
)
"""With the fewest digits that its longest number has, and a sign that it has."""

_NUMBER = re.compile(r"(?<![0-9A-Za-z_.,/+*^-])(?:0\d{5,20}|[1-9]\d{6,20})(?![0-9A-Za-z_]|[.,/]\d)")


def identifiers(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    """Start, end and placeholder of what identifies somebody in `text`."""
    if clues.digits < _FEWEST_DIGITS:
        return
    labelled = clues.foreign or any(
        _LABEL_BACKWARDS.match(text[max(0, place - 20) : place][::-1]) for place in clues.places
    )
    for match in _LABELLED.finditer(text) if labelled else ():
        fewest = _FEWEST_OF_NHS if match[0][:3].upper() == "NHS" else _FEWEST_DIGITS
        if sum(map(str.isdigit, match[1])) >= fewest and not is_measured(text, match.end(1), match.end(1)):
            yield *match.span(1), "[id]"
    for match in _NAMED_NUMBER.finditer(text) if clues.longest > 4 else ():
        if not is_measured(text, match.end(1), match.end(1)):
            yield *match.span(1), "[id]"
    for fewest, clue, pattern in _FORMS:
        if clues.longest >= fewest and clue in text:
            yield from ((*match.span(), "[id]") for match in pattern.finditer(text))
    for match in _NUMBER.finditer(text) if clues.longest > 5 else ():
        is_round = match[0].endswith("000") and not match[0].startswith("0")
        if not is_round and not is_measured(text, *match.span()):
            yield *match.span(), "[id]"

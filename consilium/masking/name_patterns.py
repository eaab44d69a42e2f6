"""Names that were not given: beside a title, a label, a signature or a relative, where a script has such a rule."""

from __future__ import annotations

import re
from collections.abc import Iterator

from consilium.masking.clues import Clues
from consilium.masking.words import ACTS, EPONYM_NOUN, LISTS, PARTICLES

NAME = "[name]"

_TITLE = (
    r"(?:(?:Dr|Mrs|Mr|Miss|Ms|Mx|Prof|Professor|Doctor|Sister|Nurse|Sir|Sra|Srta|Sr|Dra|Señora|Señor|Doña|Herrn|Herr|"
    r"Hr|Frau|Oberarzt|Oberärztin|Chefarzt|Pfleger|Dres|Mme|Mlle|Monsieur|Madame|Mevr|Dhr|Dott|Sig(?:\.ra|\.na)?)"
    r"(?![a-zß-ÿ])\.?|DR\.|MR\.|MRS\.|MS\.|PROF\.|(?:MRS|HERR|FRAU)(?![^\W\d_])|г-н|г-жа|господин|госпожа|"
    r"доктор|д-р|пациент(?:ка|ки|ку|у|ом|кой|а)?|Пациент(?:ка)?|"
    r"κ\.|κος|κα|Δρ\.?)"
)
_TITLED = re.compile(
    rf"(?<![^\W_]){_TITLE}(?:\s*(?:{_TITLE}|med\.|h\.\s?c\.|rer\.\s?nat\.|dent\.))*\s{{0,2}}(?=[^\W\d_])"
)
_LABELLED = re.compile(
    r"(?<![^\W_])(?:(?:[Pp]atient(?:'s|’s|en)?[ -]?|Pat\.?[ -]?)?[Nn]ame[ns]?(?: des Patienten| der Patientin)?|"
    r"Name of (?:the )?patient|NAME|Nachname|Vorname|"
    r"Surname|First name|Last name|Given name|Family name|Nom|Prénom|Nombre|Apellidos?|"
    r"Фамилия|ФИО|Ф\.И\.О\.|Имя|Ονοματεπώνυμο|الاسم|שם|नाम|ชื่อ)"
    r"\s?[:=]\s{0,3}(?=[^\W\d_])"
)
_SIGNED = re.compile(
    r"(?<![^\W_])(?:[Rr]eported|[Ss]igned|[Dd]ictated|[Rr]eviewed|[Rr]ead|[Vv]erified|[Aa]pproved|[Ss]een|[Ee]xamined|"
    r"[Rr]eferred|[Tt]ranscribed|[Aa]ttended|[Aa]uthori[sz]ed|"
    r"[Pp]erformed)(?:\s+electronically)?\s+by:?\s+(?=[A-ZÀ-ÖØ-Þ])"
    r"|(?<![^\W_])(?:[Rr]adiologist|[Cc]onsultant|[Pp]hysician|[Rr]egistrar|[Ss]urgeon|[Ss]onographer|[Rr]adiographer|"
    r"[Oo]perator|"
    r"[Aa]uthor|[Ss]igned|[Nn]urse|[Nn]ext of kin|NOK|GP|Pt|[Pp]atient(?:in)?|Arzt|Ärztin|Hausarzt|Befunder|"
    r"Untersucher|Operateur)"
    r"\s?:\s{1,3}(?=[A-ZÀ-ÖØ-Þ])"
    r"|(?<![^\W_])(?:gez\.:?|Mit freundlichen Grüßen,?|MfG,?|(?:Kind|Best) regards,?|"
    r"Yours sincerely,?)\s{1,3}(?=[A-ZÀ-ÖØ-Þ])"
)
_PATIENT = frozenset(("patient", "patientin"))
_ACTING = re.compile(r"(?<![^\W_])[Pp]atient(?:in)?\s(?=[A-ZÀ-ÖØ-Þ][a-zß-ÿ])")
_SIGNING = LISTS["signing"]
_RELATIVES = LISTS["relatives"]
_RELATIVE = re.compile(
    rf"(?<![^\W_])(?:{'|'.join(f'(?i:{word[0]}){word[1:]}' for word in sorted(_RELATIVES))}),?\s(?=[A-Z][a-z])"
)
_PART = re.compile(r"[^\W\d_]+(?:['’ʼ-][^\W\d_]+)*")
_STEP = re.compile(r"\.?[ \t]{0,2}-?")
_LIST_STEP = re.compile(r"\.?,?[ \t]{0,2}-?")
_THING = re.compile(
    r"(?:drug|generic|brand|trade|test|device|file|product|medication|medicine|substance|series|protocol|study)\s$",
    re.IGNORECASE,
)
"""What has a name and is nobody."""

_VALUE = re.compile(r"\s*(?:levels?|value|conc\w*|was|is|of)?\s*[:=]?\s*[<>≤≥~]?\s?\d")
_MOST_PARTS = 5

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\u3005"
_S = f"(?:{'|'.join(sorted(LISTS['compound_surnames']))}|[{''.join(sorted(LISTS['surnames']))}])"
_FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        # Chinese: a family name between a label and a break, or before a title.
        (
            rf"(?:患者|病人|姓名|患儿|产妇|家属)\s?[:：]?\s?({_S}[{_HAN}]{{1,2}}?)"
            rf"(?=[,，。、;；:：\s(（]|男|女|先生|女士|小姐|于|因|[,，]?\d|$)"
        ),
        rf"(?<![病诊就有无未])({_S}[{_HAN}]{{0,2}}?)(?:先生|女士|小姐|太太|大夫|医生|医师|主任|教授|护士)",
        # Japanese: a label, or letters before a form of address.
        (
            rf"(?:氏名|患者名|患者氏名|お名前|名前)\s?[:：]\s?"
            rf"([{_HAN}\u3040-\u30ff]{{1,6}}(?:[ \u3000・][{_HAN}\u3040-\u30ff]{{1,6}})?)"
        ),
        (
            rf"(?<![{_HAN}])(?!患者|奥|娘|息子|家族|摂|華|両|同|看護|主治|担当|各)"
            rf"([{_HAN}]{{2,4}}(?:[ \u3000][{_HAN}]{{1,3}})?)"
            rf"(?:さん|氏(?![名])|殿|先生)"
        ),
        # Korean.
        r"(?:성명|환자명|이름)\s?[:：]?\s?([가-힣]{2,4})(?![가-힣])",
        (
            r"(?<![가-힣])([김이박최정강조윤장임한오서신권황안송류홍전고문양손배백허유남심노하곽성차주우구민나진지엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모탁국][가-힣]{2})\s?(?:씨|"
            r"님)(?![가-힣])"
        ),
        # Russian: a family name with initials, and whatever stands beside a patronymic.
        r"(?<![^\W_])([А-ЯЁ][а-яё-]{2,}\s+[А-ЯЁ]\.\s?[А-ЯЁ]\.)",
        r"(?<![^\W_])([А-ЯЁ]\.\s?[А-ЯЁ]\.\s?[А-ЯЁ][а-яё-]{2,})",
        (
            r"(?<![^\W_])((?:[А-ЯЁ][а-яё-]+\s+){1,2}[А-ЯЁ][а-яё]+(?:вич|вича|вичу|вичем|вна|вны|вне|вной|вну|ична|ичны|"
            r"ичной))(?![^\W_])"
        ),
        # Arabic, Hebrew, Hindi, Thai: what follows a title.
        (
            r"(?<!\w)(?:السيدة|السيد|الدكتورة|الدكتور|الأستاذ)\s+([\u0621-\u064a]{2,}(?:\s+(?:(?:بن|بنت|أبو|"
            r"عبد)\s+[\u0621-\u064a]{2,}|ال[\u0621-\u064a]{2,}))?)"
        ),
        r"(?<!\w)(?:מר|גב['׳]|גברת|ד[\"״]ר|פרופ['׳])\s+([\u05d0-\u05ea]{2,}(?:-[\u05d0-\u05ea]{2,})?)",
        (
            r"(?:श्रीमती|श्री|डॉ\.?|कुमारी)\s+([\u0900-\u0963]{2,}(?:\s+(?!(?:को|ने|का|की|के|से|में|पर|है|हैं|और|"
            r"तथा)\s)[\u0900-\u0963]{2,})?)"
        ),
        r"(?:นางสาว|นาย|นาง|ด\.ช\.|ด\.ญ\.)\s?([\u0e01-\u0e4e]{2,14}\s[\u0e01-\u0e4e]{2,16})(?=\s|$)",
    )
)


def names_by_pattern(text: str, clues: Clues) -> Iterator[tuple[int, int, str]]:
    """Start, end and placeholder of what shows itself as a name in `text`."""
    for match in _TITLED.finditer(text):
        end, _ = _run(text, match.end())
        if end and not _is_value(text, match, end) and not EPONYM_NOUN.match(text, end):
            yield match.end(), end, NAME
    for match in _LABELLED.finditer(text) if ":" in text or "=" in text else ():
        end, _ = _run(text, match.end(), _LIST_STEP, shortest=2)
        if end and not _THING.search(text, max(0, match.start() - 16), match.start()):
            yield match.end(), end, NAME
    for match in _SIGNED.finditer(text) if clues.any_of(_SIGNING) else ():
        end, parts = _run(text, match.end(), _LIST_STEP)
        if parts > 1:
            yield match.end(), end, NAME
    for match in _ACTING.finditer(text) if clues.any_of(_PATIENT) else ():
        end, parts = _run(text, match.end())
        if parts > 1 and ACTS.match(text, end):
            yield match.end(), end, NAME
    for match in _RELATIVE.finditer(text) if clues.any_of(_RELATIVES) else ():
        end, parts = _run(text, match.end())
        if parts in (1, 2) and not EPONYM_NOUN.match(text, end):
            yield match.end(), end, NAME
    for pattern in _FORMS if clues.foreign else ():
        yield from ((*match.span(1), NAME) for match in pattern.finditer(text))


def _run(text: str, start: int, step: re.Pattern[str] = _STEP, *, shortest: int = 4) -> tuple[int, int]:
    """Where the name that begins at `start` ends, and how many parts it has; 0 and 0 where none does.

    Of fewer capitals than `shortest` a word is an abbreviation, unless a full stop says that they are initials.
    """
    end, place, parts = 0, start, 0
    for _ in range(_MOST_PARTS):
        part = _PART.match(text, place)
        if part is None:
            break
        word = part[0]
        if (word.lower() in PARTICLES and not word.isupper()) or word == "v":
            parts += 0
        elif _is_name(text, part, shortest):
            end, parts = part.end(), parts + 1
        else:
            break
        gap = step.match(text, part.end())
        if gap is None or (("." in gap[0]) and len(word) > 1):
            break
        if "." in gap[0] and word[0].isupper():
            end = part.end() + 1
        place = gap.end()
        if place == part.end():
            break
    return end, parts


def _is_name(text: str, part: re.Match[str], shortest: int) -> bool:
    word = part[0]
    if not word[0].isupper() or word.lower() in LISTS["not_names"]:
        return False
    if len(word) == 1:
        return True
    return not (word.isupper() and len(word) < shortest and not text.startswith(".", part.end()))


def _is_value(text: str, title: re.Match[str], end: int) -> bool:
    """Whether ``Sr.`` stands for serum: what follows has a value."""
    return title[0].startswith("Sr") and bool(_VALUE.match(text, end))

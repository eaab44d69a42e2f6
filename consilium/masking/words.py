"""What stands beside a number or a name and says that it is none to mask: units, quantities, medical words."""

from __future__ import annotations

import re
from importlib.resources import files

import yaml

_UNIT = re.compile(
    r"\s{0,2}(?:[%‰°×]|x\s?10|\*\s?10|10\^|/\s?(?:[µuμ]?[lL]|mm|mL|ml|dL|nL|hpf|HPF|min|day|d\b|h\b)|"
    r"(?:mg|g|kg|[µuμ]g|mcg|ng|pg|mmol|[µuμ]mol|nmol|pmol|mol|m?Eq|m?IU|[µuμ]?IU|IE|mU|U|E|units?|Einheiten|mL|ml|dL|"
    r"dl|[µuμ][lL]|fL|L|"
    r"l|cells?|copies|Kopien|CFU|cfu|KBE|cm|mm|km|m|[µuμ]m|nm|Hz|kHz|bpm|mmHg|mm\s?Hg|kPa|cmH2O|sec|s|ms|min|mins|"
    r"minutes?|Minuten|"
    r"h|hrs?|hours?|Std|Stunden?|days?|d|Tagen?|weeks?|wks?|Wochen?|months?|mths?|Monaten?|years?|yrs?|yo|y|Jahren?|"
    r"Fr|French|Ch|"
    r"Gy|cGy|mSv|mGy|kV|mAs?|kcal|cal|tablets?|tabs?|Tabl\w*|caps\w*|Kaps\w*|puffs?|drops|Tropfen|doses?|Hub|times|x|"
    r"mal|"
    r"platelets|Thrombo\w*|Leuko\w*|leuko\w*|white|red|WBC|RBC|steps|Schritten?|points?|beats|breaths|patients|people|"
    r"cases|"
    r"mg/\w+|AU|RU|RLU|Da|kDa|dB|Ω|V|W|N|J|kJ|bar|psi|ppm|ppb|pack)(?![^\W\d_]))"
)
_QUANTITY = re.compile(
    r"(?:[<>≤≥=~≈]|\b(?:platelets?|plts?|thrombo\w*|leu[ck]o\w*|erythro\w*|neutro\w*|lympho\w*|wbc|rbc|count|counts|"
    r"level|levels|load|"
    r"tit(?:er|re)s?|value|values|wert|werte|ferritin|(?:nt[ -]?pro)?bnp|d[ -]?dimers?|troponin\w*|tnt|tni|hs-\w+|"
    r"ck|ck-mb|ldh|ast|alt|ggt|gamma-gt|amylase|lipase|psa|hcg|cea|afp|ca\s?\d{2,3}-?\d?|dose|dosis|units|score|index|"
    r"total|approx|about|around|approximately|"
    r"circa|ca\.|creatinin\w*|kreatinin\w*|myoglobin|tsh|vitamin|igg|ige|iga|igm|alp|bilirubin|urea|glucose|crp|pct|"
    r"sodium|natrium|potassium|kalium|(?:ca|k)lzium|calcium|chloride?|magnesium|phosphate?|lactate?|laktat|h(?:a?em|"
    r"äm)oglobin\w*|hb|hgb|"
    r"cholesterol|triglycerides?|albumin\w*|protein|b(?:eta)?-?hcg|cd4|il-?6|interleukin\w*|iron|insulin|cortisol|"
    r"ammonia|"
    r"apgar|snomed(?:[ -]ct)?|sctid|pmid|orpha|omim|rxnorm|ndc|pzn|procalcitonin|measured|volume|cells|zellen|copies|"
    r"viral|rna|dna|heparin|penicillin|penicillin-g|colistin)\b)"
    r"[^\w.;!?\n]{0,3}(?:(?:count|level|was|were|is|are|of|at|to|from|rose|fell|now|war|bei|von|auf|ist|betrug|today|"
    r"heute|approx|about|"
    r"currently|up|down|only|still|zahl|anzahl|increased|decreased|dropped|with|mit|a|the|"
    r"[=<>≤≥:~])[^\w.;!?\n]{1,3}){0,4}$",
    re.IGNORECASE,
)
_LOOK_BACK, _LOOK_AHEAD = 60, 24


def is_measured(text: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` is measured: a unit follows it, or what is measured precedes it."""
    return bool(_UNIT.match(text, end, end + _LOOK_AHEAD)) or bool(
        _QUANTITY.search(text[max(0, start - _LOOK_BACK) : start])
    )


def _lists() -> dict[str, frozenset[str]]:
    text = files("consilium.masking").joinpath("words.yaml").read_text(encoding="utf-8")
    return {name: frozenset(words.split()) for name, words in yaml.safe_load(text).items()}


LISTS = _lists()
"""The lists of ``words.yaml``, which says what each is for."""

PARTICLES = LISTS["particles"]
GENERIC = PARTICLES | LISTS["generic"]

ACTS = re.compile(
    r"\s(?:was|has|had|is|presented|presents|reports|reported|states|stated|denies|denied|complains|complained|came|"
    r"says|said|"
    r"attended|hustet|klagt|wurde|hat|ist|kommt|berichtet)(?![^\W_])"
)
"""What only people do."""

EPONYM_NOUN = re.compile(
    r"(?:['’]s|s['’]|['’])?[\s-]{1,2}(?:[A-Z][\w’'-]+[\s-])?(?:disease|syndrome|sign|signs|catheter|cath|lines?|"
    r"fractures?|cyst|test|tube|"
    r"procedure|repair|ulcer|hernia|tumou?r|lymphoma|palsy|score|index|criteria|classification|chorea|sarcoma|"
    r"oesophagus|esophagus|"
    r"thyroiditis|phenomenon|pouch|operation|contracture|node|triad|position|manoeuvre|maneuver|pressure|scale|coma|"
    r"units?|grade|"
    r"class|shunt|bodies|body|corpuscles|nodule|lobe|cells?|agent|solution|lactate|monitor|ultrasound|heart|foot|patch|"
    r"krankheit|syndrom|zeichen|katheter|linien|fraktur|schema|pneumonia|dementia|dementsia)(?![^\W\d_])",
    re.IGNORECASE,
)

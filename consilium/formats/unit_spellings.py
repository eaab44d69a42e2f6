"""Units as laboratories spell them, put into UCUM: ``K/uL``, ``gm/dL``, ``mg%``, ``x10E3/µL``, ``BREATHS PER MINUTE``.

UCUM is strict about case and blanks, laboratories are not: one prints ``MG/DL`` and the next ``mg/dl``. What a unit can
mean depends on what is measured, so `readings` gives every UCUM unit that a spelling may stand for, whatever its case,
and `consilium.formats.units` keeps the ones of the dimension asked for: ``G/L`` is giga per litre for a count and grams
per litre for a mass. No prefix above kilo is given to grams, litres or moles, so that ``Mg`` is never a megagram.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_ANNOTATION = re.compile(r"\{[^{}]*\}")
_POWER = re.compile(r"(?:x|×|\*|·)?(?:10\.?(?:\^|\*\*?|e|exp|~|x|×)\+?|e)(\d{1,2})")
_ROUND = re.compile(r"(?:x|×|\*|·)?(10{0,7})")
_PER_TIMES_POWER = re.compile(r"([a-z%\[\]]+)(?:\^|\*\*)?-1")

_PREFIXES = {
    "": "",
    "k": "k",
    "kilo": "k",
    "d": "d",
    "deci": "d",
    "c": "c",
    "m": "m",
    "milli": "m",
    "u": "u",
    "mc": "u",
    "micro": "u",
    "mikro": "u",
    "n": "n",
    "nano": "n",
    "p": "p",
    "pico": "p",
    "f": "f",
    "femto": "f",
}


def _prefixed(stems: Mapping[str, str], prefixes: str) -> dict[str, str]:
    """Every spelling of a prefix with every stem; a word of a prefix goes with a word of a stem as well."""
    allowed = {"", *prefixes.split()}
    return {
        written + stem: prefix + unit
        for written, prefix in _PREFIXES.items()
        if prefix in allowed
        for stem, unit in stems.items()
    }


_MASS = _prefixed(
    dict.fromkeys(
        ("g", "gm", "gms", "gs", "gr", "gram", "grams", "gramme", "grammes", "gramm", "gramo", "gramos"), "g"
    ),
    "k m u n p f",
)
_SUBSTANCE = _prefixed(
    dict.fromkeys(("mol", "mols", "mole", "moles"), "mol")
    | dict.fromkeys(("eq", "eqs", "val", "equiv"), "eq")
    | dict.fromkeys(("osm", "os", "osmol", "osmole", "osmoles", "osmols", "osmo"), "osm"),
    "m u n p f",
)
_VOLUME = _prefixed(dict.fromkeys(("l", "ls", "ltr", "lt", "litre", "liter", "litres", "liters"), "L"), "d c m u n p f")
_CUBES = {
    **dict.fromkeys(("mm3", "mm^3", "mm**3", "mm*3", "cumm", "cmm", "cu.mm", "c.mm", "cubicmm", "mmc"), "uL"),
    **dict.fromkeys(("cc", "cm3", "cm^3", "ccm"), "mL"),
    **dict.fromkeys(("dm3", "dm^3"), "L"),
    **dict.fromkeys(
        ("um3", "um^3", "cumicron", "cumicrons", "cu.micron", "cu.microns", "cumic", "cubicmicron", "cubicmicrons"),
        "fL",
    ),
    **dict.fromkeys(("100ml", "100cc", "100cm3"), "dL"),
}
_ACTIVITY = _prefixed(
    dict.fromkeys(
        (
            "u",
            "iu",
            "ui",
            "ie",
            "e",
            "eu",
            "unit",
            "units",
            "intlunit",
            "intlunits",
            "intunit",
            "intunits",
            "[iu]",
            "[u]",
        ),
        "U",
    ),
    "k m u n p",
) | _prefixed({"kat": "kat", "katal": "kat"}, "m u n p")
_COUNTS = {
    **dict.fromkeys(("k", "thou", "thous", "thousand", "thousands", "tsd", "ths", "th", "kilo"), "10*3"),
    **dict.fromkeys(("m", "million", "millions", "mill", "mio", "mil.l", "mega"), "10*6"),
    **dict.fromkeys(("lakh", "lakhs", "lac", "lacs"), "10*5"),
    **dict.fromkeys(("g", "gpt", "giga", "billion", "billions", "bil"), "10*9"),
    **dict.fromkeys(("t", "tpt", "tera", "trillion", "trillions"), "10*12"),
    "mpt": "10*6",
}
_CELLS = re.compile(
    r"cells?|wbcs?|rbcs?|leu[kc]ocytes?|erythrocytes?|platelets?|plt|plts|particles?|leuk?|ery|zellen|count|copies"
)
_TIME = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek", "sekunde", "sekunden", "seg", "segundos"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "millisec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("min", "mins", "minute", "minutes", "minuten", "mn"), "min"),
    **dict.fromkeys(
        ("h", "hr", "hrs", "hour", "hours", "1h", "1hr", "1sthr", "1sthour", "std", "stunde", "stunden"), "h"
    ),
    **dict.fromkeys(("d", "day", "days", "tag", "24h", "24std", "24hr", "24hrs", "24hours", "24.h"), "d"),
    **dict.fromkeys(("wk", "week", "weeks"), "wk"),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years", "a"), "a"),
}
_PRESSURE = {
    **dict.fromkeys(("mmhg", "mm[hg]", "mm/hg", "torr", "mmofhg", "mm(hg)"), "mm[Hg]"),
    **dict.fromkeys(("cmh2o", "cm[h2o]", "cmh20", "cmofh2o", "cmwater", "cmaq"), "cm[H2O]"),
    **dict.fromkeys(("kpa", "kilopascal", "kilopascals"), "kPa"),
    **dict.fromkeys(("hpa", "mbar", "millibar"), "mbar"),
}
_TEMPERATURE = {
    **dict.fromkeys(
        (
            "c",
            "°c",
            "gradc",
            "gradcelsius",
            "deg.c",
            "degc",
            "cel",
            "celsius",
            "degreec",
            "degreesc",
            "degcelsius",
            "degreescelsius",
        ),
        "Cel",
    ),
    **dict.fromkeys(
        ("f", "°f", "deg.f", "degf", "[degf]", "fahrenheit", "degreef", "degreesf", "degreesfahrenheit"), "[degF]"
    ),
    **dict.fromkeys(("k", "kelvin"), "K"),
}
_LENGTH = {
    **dict.fromkeys(("cm", "cms", "centimeter", "centimeters", "centimetre", "centimetres"), "cm"),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres", "mtr"), "m"),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("in", "inch", "inches", "[ini]", "[inus]", '"'), "[in_i]"),
    **dict.fromkeys(("ft", "feet", "foot", "[fti]"), "[ft_i]"),
}
_POUNDS = dict.fromkeys(("lb", "lbs", "pound", "pounds", "[lbav]"), "[lb_av]") | dict.fromkeys(
    ("oz", "ounce", "ounces", "[ozav]"), "[oz_av]"
)
_FRACTION = {
    **dict.fromkeys(
        ("%", "percent", "pct", "percents", "vol%", "%vol", "vol.%", "vol-%", "vol.-%", "%(v/v)", "prozent", "pcv%"),
        "%",
    ),
    **dict.fromkeys(("fraction", "ratio", "1", "proportion", "inr", "sg", "index"), "1"),
    **dict.fromkeys(("ph", "[ph]", "phunits", "phunit"), "[pH]"),
    **dict.fromkeys(("score", "points", "point", "pts", "punkt", "punkte", "#", "/10", "0-10", "/15", "scale"), "1"),
    **dict.fromkeys(("‰", "permille", "o/oo", "0/00", "/1000"), "[ppth]"),
}
_EVENTS = {
    **dict.fromkeys(
        ("bpm", "beats", "beat", "rpm", "brpm", "breaths", "breath", "resp", "resps", "brth", "br", "b", "insp"), "1"
    ),
    **dict.fromkeys(("pulse", "pulses", "cycles", "puls", "schläge", "atemzüge", "lat", "latidos"), "1"),
}
_SURFACES = ("1.73m2", "1.73m^2", "1.73m*2", "1.73sqm", "1.73", "1,73m2", "1,73m^2", "1,73", "1.73qm", "1.73m", "")
_AREAS = dict.fromkeys(("m2", "m^2", "m**2", "m*2", "sqm", "sq.m", "qm", "(m2)", "(m^2)"), "m2")
_FIELDS = {
    **dict.fromkeys(("hpf", "[hpf]", "highpowerfield", "hpfield", "gf", "gesichtsfeld"), "[HPF]"),
    **dict.fromkeys(("lpf", "[lpf]", "lowpowerfield"), "[LPF]"),
}
_SPECIMEN = re.compile(r"(?<=[gl])(?:h2o|water|serum|plasma|blood|creatinine|kreatinin|creat|crea|krea|kre|crt|cr)$")
_HUNDREDTHS = (
    "100",
    "100wbc",
    "100wbcs",
    "100leukocytes",
    "100leukozyten",
    "100leu",
    "100leuk",
    "100leuko",
    "100rbc",
    "100cells",
    "100ery",
)

_NO_UNIT = ("", "-", "--", "n/a", "na", "none", "null", "nounit", "nounits", "unitless", "ohne", "calc", "inrratio")
_REMARK = re.compile(r"(?<=.)\((?:calc|calculated|berechnet|est|estimated)\.?\)|(?<=.)(?:\(?(?:@|at|bei)?37°?c\)?)$")
"""How a value was got: at which temperature an enzyme works, that it was worked out. Not what it is measured in."""
_PERCENT_OF = re.compile(
    r"%(?:(?:of|der|vom|d\.)[a-z.]+|activity|act|actual/normal|ngsp|dcct|cv|sat|saturation|spo2|so2|o2|hb|hgb|tothgb|hct|wbc)"
)
"""Percent of what; which that is the code says."""
_MOLAR = {"mm": "mmol/L", "um": "umol/L", "nm": "nmol/L", "pm": "pmol/L"}
_LOST_EXPONENT = re.compile(r"(?:[x×][ ]*10[ ]*|10[ ]+)(3|6|9|12)(?=[ ]*/)")
"""A superscript that lost its height: ``10 9/L``, ``x109/L``."""

_NUMERATORS: tuple[Mapping[str, str], ...] = (
    _MASS,
    _SUBSTANCE,
    _VOLUME | _CUBES,
    _ACTIVITY,
    _COUNTS,
    _TIME,
    _PRESSURE,
    _TEMPERATURE,
    _LENGTH,
    _POUNDS,
    _FRACTION,
    _EVENTS,
)
_DENOMINATORS: tuple[Mapping[str, str], ...] = (
    _VOLUME | _CUBES,
    _MASS,
    _SUBSTANCE,
    _TIME | {"m": "min"},
    _FIELDS,
    _AREAS,
)
_ABBREVIATED_RATES = {
    **dict.fromkeys(("bpm", "rpm", "brpm", "/m"), "/min"),
    **dict.fromkeys(("lpm", "slpm"), "L/min"),
    "cpm": "/min",
}


def readings(given: str) -> tuple[str, ...]:
    """Every UCUM unit that `given` may stand for, whatever its case; none where it is not known.

    A remark on how the value was got (``(calc)``, ``37 °C``) is no part of the unit.

    D-dimer units (``{DDU}``) and fibrinogen equivalent units (``{FEU}``) are kept as annotations, others are dropped.
    """
    text = _plain(given)
    equivalents = "".join(f"{{{kind.upper()}}}" for kind in ("feu", "ddu") if kind in text.replace("d-du", "ddu"))
    text = re.sub(r"\{?\(?(?:feu|d-?du)\)?\}?", "", text)
    text = _ANNOTATION.sub("", text)
    return tuple(dict.fromkeys(unit + equivalents for unit in _units(text)))


def _plain(given: str) -> str:
    """Lower case, without blanks, superscripts as ``^9``, every micro sign as ``u``, words for a slash as a slash."""
    text = _RAISED.sub(lambda raised: "^" + raised[0].translate(_SUPERSCRIPTS), given)
    text = unicodedata.normalize("NFKC", text.replace("º", "°")).strip()
    # A micro sign in capitals is the Greek letter My, which is no Latin M.
    text = text.casefold().replace("µ", "u").replace("μ", "u").replace("⁄", "/").replace("÷", "/").replace("\\", "/")
    text = re.sub(r"(?<=\S)\s+per\s+|^per\s+|\s+pro\s+|\s+in\s+(?=1\s*h)", "/", text)
    text = _LOST_EXPONENT.sub(r"10^\1", text)
    text = _REMARK.sub("", re.sub(r"[\s_]+", "", text))
    text = re.sub(r"10\((\d{1,2})\)", r"10^\1", text).removesuffix("/cell")
    return text[1:-1] if re.fullmatch(r"\([^()]*\)|\[(?:[a-z]+/[a-z]+|ratio)\]", text) else text


def says_nothing(given: str) -> bool:
    """Whether `given` stands where no unit was given: empty, ``N/A``, ``-``."""
    return _plain(given) in _NO_UNIT


def _of_the_whole(text: str) -> str | None:
    """The unit that `text` stands for as a whole, whatever its parts could mean."""
    if text in _NO_UNIT:
        return "1"
    if _PERCENT_OF.fullmatch(text):
        return "%"
    return next((table[text] for table in (_FRACTION, _PRESSURE, _ABBREVIATED_RATES) if text in table), None)


def _units(text: str) -> Iterator[str]:
    if whole := _of_the_whole(text):
        yield whole
        return
    if text in _MOLAR:
        yield _MOLAR[text]
    if text.endswith("%") and text[:-1] in _MASS:
        yield f"{_MASS[text[:-1]]}/dL"
        return
    rate = _PER_TIMES_POWER.fullmatch(text)
    if rate and rate[1] in _TIME:
        yield f"/{_TIME[rate[1]]}"
        return
    numerator, *denominators = _slashed(text)
    if len(denominators) == 2 and denominators[1] in _SURFACES:
        denominators = denominators[:1]
    if denominators in ([d] for d in _HUNDREDTHS):
        if not numerator or _CELLS.fullmatch(numerator):
            yield "%"
        return
    below = [unit for unit in (_denominator(part) for part in denominators) if unit is not None]
    if len(below) != len(denominators) or len(denominators) > 2:
        return
    for above in _numerators(numerator, bool(below)):
        yield "/".join([above, *below])


def _slashed(text: str) -> list[str]:
    """`text` at its slashes; surfaces and hundredths of a decilitre stay whole: ``mg/100 mL``."""
    parts = text.split("/")
    return [part.strip(".*") if number else part.strip(".") for number, part in enumerate(parts)]


def _denominator(part: str) -> str | None:
    part = _without_cells(part)
    part = _SPECIMEN.sub("", part)
    for table in _DENOMINATORS:
        if part in table:
            return table[part]
    return None


def _numerators(part: str, over: bool) -> Iterator[str]:
    """What the part before the first slash may be; a count or an event only over something."""
    power, rest = _power_of_ten(part)
    rest = _without_cells(rest)
    if not rest:
        if over:
            yield "" if power == 0 else f"10*{power}"
        elif power == 0:
            yield "1"
        return
    if power:
        # 10^3 K/uL would multiply twice: only counts have a power, and nothing beside it.
        return
    for table in _NUMERATORS:
        if rest in table and (over or table not in (_COUNTS, _EVENTS)):
            yield "" if table is _EVENTS else table[rest]


def _power_of_ten(part: str) -> tuple[int, str]:
    """The power of ten that `part` begins with, and the rest: ``x10E3`` is 3, ``1000`` is 3."""
    if found := _POWER.match(part):
        return int(found[1]), part[found.end() :].lstrip(".*")
    if (found := _ROUND.match(part)) and not part[found.end() : found.end() + 1].isdigit():
        return len(found[1]) - 1, part[found.end() :].lstrip(".*")
    return 0, part


def _without_cells(part: str) -> str:
    """`part` without a word for what is counted: ``10^3 cells``, ``million RBC``."""
    return re.sub(rf"(?:{_CELLS.pattern})$", "", part) if part not in _COUNTS else part

"""Diagnosis + Explanation → one HTML page that needs nothing but itself.

The page is for the radiologist: what the model says, how sure it is, what spoke for it in the image, the words, the
values and the modalities, and when it does not know. No script or picture is fetched; everything is escaped; no colour
alone carries meaning.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image as Pillow

from consilium.domain.diagnosis import (
    Diagnosis,
    Explanation,
    FindingExplanation,
    FindingResult,
    ImageSaliency,
    Neighbour,
    Novelty,
    ObservationWeight,
    Reference,
    WordWeight,
)
from consilium.domain.findings import Finding
from consilium.domain.study import Study
from consilium.modalities.image.image_record import Image
from consilium.output.labels import (
    MODALITY_NAMES,
    audit_in_words,
    figure,
    measured,
    novelty_in_words,
    part_in_words,
    percent,
    set_in_words,
    share,
)

FOR, AGAINST = (217, 84, 15), (30, 110, 200)
"""Orange speaks for a finding, blue against it; told apart also by people with a colour vision deficiency."""

_LONGEST_SIDE = 900
_FAINT = 0.25
"""Log-odds: where no word or value weighs this much, none is shown in full colour."""
_READABLE = 0.25
"""Share of the strongest word's weight from which a word is underlined, too."""
_STRONGEST_ALPHA = 190
_RAREST = 1e-3
"""Share of ordinary studies at which the strip of strangeness ends."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of a note; `weight` is 0 between weighed words, `strength` in [0, 1] for the colour.

    `read_as` is the placeholder that the model read instead, where it did not read the text.
    """

    text: str
    weight: float
    strength: float
    read_as: str = ""

    @property
    def side(self) -> str:
        return "for" if self.weight > 0 else "against"

    @property
    def readable(self) -> bool:
        return self.strength >= _READABLE


def report_html(study: Study, explanation: Explanation) -> str:
    """The page for `explanation` of `study`.

    Parameters
    ----------
    study : Study
        The study as it was given to `Diagnostician.explain`: images and notes are shown from it.
    explanation : Explanation
        One tab per explained finding.
    """
    diagnosis = explanation.diagnosis
    strongest = _strongest_saliency(explanation.findings)
    environment = _environment()
    return environment.get_template("report.html.j2").render(
        diagnosis=diagnosis,
        patient=study.patient,
        reference_time=study.reference_time,
        rows=[_row(result) for result in diagnosis.findings],
        names=MODALITY_NAMES,
        absent=[name for modality, name in MODALITY_NAMES.items() if modality not in diagnosis.modalities],
        audit=audit_in_words(diagnosis.audit.verdict),
        parts=[_part(part) for part in diagnosis.novelty],
        neighbours=_neighbours(diagnosis, explanation.neighbours),
        images=[_png(_grey(image)) for image in study.images],
        tabs=[_tab(study, finding, strongest) for finding in explanation.findings],
        opened=_most_notable(explanation),
        for_colour=_css(FOR),
        against_colour=_css(AGAINST),
        script_digest=_script_digest(environment),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("consilium.output"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["share"] = share
    environment.filters["measured"] = measured
    environment.filters["at"] = lambda fraction: f"{100 * fraction:.2f}%"
    environment.filters["signed"] = lambda weight: f"{weight:+.2f}".replace("-", "−")
    return environment


def _script_digest(environment: Environment) -> str:
    """What the page's policy lets run: its own script, and nothing that a record might bring."""
    script = environment.get_template("report.js").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _css(colour: tuple[int, int, int]) -> str:
    return f"{colour[0]} {colour[1]} {colour[2]}"


def _most_notable(explanation: Explanation) -> int:
    """Position of the tab to begin with: called before not called, likelier before less likely."""
    results = [explanation.diagnosis[finding.finding.name] for finding in explanation.findings]
    order = sorted(range(len(results)), key=lambda i: (results[i].call, results[i].probability))
    return order[-1] if order else 0


# --- the answer ------------------------------------------------------------------------------------------------------


def _row(result: FindingResult) -> dict[str, Any]:
    low, high = result.interval
    call = "called" if result.call else "not called"
    said = set_in_words(result.prediction_set)
    point = result.operating_point
    spoken = (
        f"probability {percent(result.probability)}, interval {percent(low)} to {percent(high)}, "
        f"called from {percent(point.threshold)}"
    )
    return {"result": result, "point": point, "call": call, "said": said, "low": low, "high": high, "spoken": spoken}


def _part(novelty: Novelty) -> dict[str, Any]:
    """Where a part lies between the most ordinary study (0) and one of which there is none in `_RAREST` (1)."""
    strangeness = math.log(max(novelty.p_value, _RAREST)) / math.log(_RAREST)
    return {
        "name": part_in_words(novelty.part),
        "p_value": novelty.p_value,
        "at": strangeness,
        "words": novelty_in_words(novelty),
    }


def _neighbours(diagnosis: Diagnosis, neighbours: Sequence[Neighbour]) -> dict[str, Any]:
    """The nearest training cases, and how many of those known have each finding."""
    findings = [result.finding for result in diagnosis.findings]
    return {
        "findings": findings,
        "cases": [
            {
                "pseudonym": case.pseudonym,
                "similarity": case.similarity,
                "labels": [case.labels[finding.name] for finding in findings],
                "modalities": [MODALITY_NAMES[modality] for modality in case.modalities],
            }
            for case in neighbours
        ],
        "counts": [_count(finding, neighbours) for finding in findings],
    }


def _count(finding: Finding, neighbours: Sequence[Neighbour]) -> str:
    known = [case.labels[finding.name] for case in neighbours if case.labels[finding.name] is not None]
    return f"{sum(map(bool, known))} of {len(known)}"


def _tab(study: Study, finding: FindingExplanation, strongest: float) -> dict[str, Any]:
    return {
        "finding": finding.finding,
        "overlays": {
            saliency.image: _overlays(saliency, study.images[saliency.image].shape, strongest)
            for saliency in finding.parts.get("image", ())
        },
        "notes": [
            {
                "kind": note.kind.value,
                "time": note.time,
                "segments": _segments(note.text, number, finding.parts.get("text", ())),
            }
            for number, note in enumerate(study.notes)
        ],
        "values": _values(finding.parts.get("observations", ())),
        "steps": _steps(finding),
        "methods": finding.methods,
    }


# --- the image -------------------------------------------------------------------------------------------------------


def _grey(image: Image) -> Pillow.Image:
    return _fit(Pillow.fromarray((image.pixels >> 8).astype(np.uint8)))


def _fit(picture: Pillow.Image) -> Pillow.Image:
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Pillow.Resampling.LANCZOS)
    return picture


def _strongest_saliency(findings: Sequence[FindingExplanation]) -> float:
    """The largest absolute saliency of all findings: a finding of which the image says little looks pale."""
    peaks = [
        float(np.nanmax(np.abs(saliency.values))) for finding in findings for saliency in finding.parts.get("image", ())
    ]
    return max([peak for peak in peaks if np.isfinite(peak)], default=0.0)


def overlay_rgba(values: npt.NDArray[np.float32], strongest: float) -> npt.NDArray[np.uint8]:
    """Signed saliency [H, W] as colour [H, W, 4]: transparent at zero, most opaque at ± `strongest`."""
    known = np.nan_to_num(values)
    strength = np.clip(np.abs(known) / strongest, 0, 1) if strongest > 0 else np.zeros_like(known)
    rgba = np.zeros((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where((known > 0)[..., None], np.array(FOR, np.uint8), np.array(AGAINST, np.uint8))
    rgba[..., 3] = np.rint(strength * _STRONGEST_ALPHA)
    return rgba


def _overlays(saliency: ImageSaliency, shape: tuple[int, int], strongest: float) -> dict[str, str]:
    """One picture of what speaks for the finding and one of what speaks against it: the page can tell them apart.

    Both have the proportions of `shape`, the rows and columns of the image shown, which has square pixels.
    """
    sides = {"for": np.clip(saliency.values, 0, None), "against": np.clip(saliency.values, None, 0)}
    pictures = {side: Pillow.fromarray(overlay_rgba(values, strongest)) for side, values in sides.items()}
    if saliency.values.shape != shape:
        pictures = {side: picture.resize(shape[::-1], Pillow.Resampling.BILINEAR) for side, picture in pictures.items()}
    return {side: _png(_fit(picture)) for side, picture in pictures.items()}


def _png(picture: Pillow.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- the words -------------------------------------------------------------------------------------------------------


def _segments(text: str, number: int, words: Sequence[WordWeight]) -> list[_Segment]:
    """The note cut where weighed words begin and end."""
    strongest = max([abs(word.weight) for word in words] + [_FAINT])
    segments: list[_Segment] = []
    done = 0
    for word in sorted((w for w in words if w.note == number), key=lambda w: w.start):
        segments.append(_Segment(text[done : word.start], 0.0, 0.0))
        sent = text[word.start : word.end]
        read_as = word.text if word.text != sent else ""
        segments.append(_Segment(sent, word.weight, abs(word.weight) / strongest, read_as))
        done = word.end
    segments.append(_Segment(text[done:], 0.0, 0.0))
    return [segment for segment in segments if segment.text]


# --- the values ------------------------------------------------------------------------------------------------------


def _values(weights: Sequence[ObservationWeight]) -> list[dict[str, Any]]:
    strongest = max([abs(weight.weight) for weight in weights] + [_FAINT])
    return [
        {
            "weight": weight,
            "share": abs(weight.weight) / strongest,
            "scale": None if weight.reference is None else _scale(weight.reference, weight),
        }
        for weight in sorted(weights, key=lambda w: -abs(w.weight))
    ]


def _scale(reference: Reference, weight: ObservationWeight) -> dict[str, Any]:
    """Where the value lies beside its reference interval, as fractions of a bar that shows both with room around."""
    low, high, value = reference.low, reference.high, reference.value
    limit = weight.value[: len(weight.value) - len(weight.value.lstrip("<=>"))]
    points = np.array([low, high, value], float)
    if reference.log_scale:
        points = np.log(np.maximum(points, max(high * 1e-3, 1e-9)))
        points[0] = max(points[0], points[1] - np.log(100))
    first, last = points.min(), points.max()
    room = 0.15 * max(last - first, 1e-9)
    where = (points - first + room) / (last - first + 2 * room)
    return {
        "low": float(where[0]),
        "high": float(where[1]),
        "at": float(where[2]),
        "flag": _flag(reference, limit),
        "reference": measured(f"{low:g} to {high:g}", reference.unit),
        "converted": measured(f"{limit}{figure(value)}", reference.unit) if weight.unit != reference.unit else "",
    }


def _flag(reference: Reference, limit: str) -> str:
    """``high`` or ``low``; of a `limit` (``<``, ``<=``, ``>=``, ``>``) only where every value beyond it is."""
    low, high, value = reference.low, reference.high, reference.value
    if "<" not in limit and (value > high or (limit == ">" and value == high)):
        return "high"
    if ">" not in limit and (value < low or (limit == "<" and value == low)):
        return "low"
    return ""


# --- the modalities --------------------------------------------------------------------------------------------------


def _steps(finding: FindingExplanation) -> list[dict[str, Any]]:
    """From the prior to the answer, one step per modality, as fractions of a common axis of log-odds."""
    edges = [finding.prior_log_odds]
    for value in finding.modalities.values():
        edges.append(edges[-1] + value)
    low, high = min(*edges, 0.0) - 0.5, max(*edges, 0.0) + 0.5
    at = [(edge - low) / (high - low) for edge in edges]
    prior: dict[str, Any] = {
        "name": "Before hearing anyone",
        "value": None,
        "left": at[0],
        "right": at[0],
        "odds": edges[0],
    }
    steps: list[dict[str, Any]] = [prior]
    for number, (modality, value) in enumerate(finding.modalities.items()):
        ends = sorted((at[number], at[number + 1]))
        steps.append(
            {
                "name": MODALITY_NAMES[modality],
                "value": value,
                "left": ends[0],
                "right": ends[1],
                "odds": edges[number + 1],
            }
        )
    for step in steps:
        step["probability"] = float(1 / (1 + np.exp(-step["odds"])))
    return steps

"""The picture that a Secondary Capture holds: the images with their evidence, and beside them what a reader must know.

Everything is there at one pixel a pixel: whose study it is, referral before any number, each finding with its answer,
and what made it. It grows with what it has to say; nothing is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from consilium.domain.diagnosis import FindingExplanation
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.presentation import ImageSaliency
from consilium.modalities.presentation import AGAINST, FOR
from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, Presence, ReportedFinding, ReportedStudy

_IMAGE_SIDE, _PANEL, _MARGIN, _GAP = 960, 560, 20, 12
_BODY, _SMALL, _TITLE = 20, 17, 26
_WHITE, _SOFT, _LINE, _ALERT = (240, 240, 240), (170, 170, 170), (90, 90, 90), (255, 196, 64)
_STRONGEST = 0.45
"""Opacity of the strongest evidence: what lies beneath must stay visible."""
_CONTOUR = 0.5
"""Share of the strongest evidence that a line surrounds."""
_LINE_WIDTH, _DASH = 2, 5
_MOST_REMARKS = 6
_ANSWERS = {Presence.PRESENT: "PRESENT", Presence.ABSENT: "absent", Presence.UNDETERMINED: "UNDETERMINED"}
_UNKNOWN_GLYPH = "\N{REPLACEMENT CHARACTER}"

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Heading:
    """The lines above the images, as the source has them: name and identifiers, then study and date."""

    patient: str
    study: str


def capture_picture(
    heading: Heading,
    images: Sequence[Image],
    reported: ReportedStudy,
    shown: FindingExplanation | None,
    made: str,
) -> npt.NDArray[np.uint8]:
    """The picture, uint8 [H, W, 3].

    Parameters
    ----------
    shown : FindingExplanation or None
        The finding whose evidence lies over the images; None: they stand alone.
    made : str
        When and by what it was made: the last line.
    """
    maps = {one.image: one for one in (shown.parts.get("image", ()) if shown else ())}
    grid = _grid(images, maps)
    panel = _Panel()
    _write_panel(panel, reported, shown if maps else None, made)
    height = max(grid.height, panel.bottom) + 2 * _MARGIN + _heading_height()
    canvas = Picture.new("RGB", (_MARGIN + grid.width + _GAP + _PANEL + _MARGIN, height))
    top = _write_heading(canvas, heading)
    canvas.paste(grid, (_MARGIN, top))
    canvas.paste(panel.picture.crop((0, 0, _PANEL, panel.bottom)), (_MARGIN + grid.width + _GAP, top))
    return np.asarray(canvas)


# --- the images ------------------------------------------------------------------------------------------------------


def _grid(images: Sequence[Image], maps: Mapping[int, ImageSaliency]) -> Picture.Image:
    """All images in one square; one of them fills it."""
    columns = math.ceil(math.sqrt(len(images))) or 1
    rows = math.ceil(len(images) / columns) or 1
    side = (_IMAGE_SIDE - (columns - 1) * _GAP) // columns
    grid = Picture.new("RGB", (_IMAGE_SIDE, rows * side + (rows - 1) * _GAP))
    strongest = max((float(np.nanmax(np.abs(one.values), initial=0.0)) for one in maps.values()), default=0.0)
    for number, image in enumerate(images):
        tile = _tile(image, side, maps.get(number), strongest)
        left, top = (number % columns) * (side + _GAP), (number // columns) * (side + _GAP)
        grid.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    return grid


def _tile(image: Image, side: int, saliency: ImageSaliency | None, strongest: float) -> Picture.Image:
    """An image in the greys that were read, within a square of `side`, with its evidence."""
    scale = side / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = Picture.fromarray((image.pixels >> 8).astype(np.uint8))
    grey = picture.resize(size, Picture.Resampling.LANCZOS if scale < 1 else Picture.Resampling.BICUBIC)
    if saliency is None or not strongest:
        return grey.convert("RGB")
    weights = Picture.fromarray(np.nan_to_num(saliency.values).astype(np.float32) / strongest)
    return Picture.fromarray(_overlaid(np.asarray(grey), np.asarray(weights.resize(size, Picture.Resampling.BILINEAR))))


def _overlaid(grey: npt.NDArray[np.uint8], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """`grey` under `weights` from -1 to 1."""
    strength = np.abs(weights)
    colour = np.where((weights > 0)[..., None], np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    opacity = (strength * _STRONGEST)[..., None]
    mixed = np.rint(grey[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)
    rows, columns = np.indices(grey.shape)
    dash = (weights > 0) | ((rows + columns) // _DASH % 2 == 0)
    edge = _edges(strength >= _CONTOUR) & dash
    mixed[edge] = colour[edge].astype(np.uint8)
    return mixed


def _edges(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of `inside` at its border."""
    core = inside.copy()
    for axis in (0, 1):
        for step in (-_LINE_WIDTH, _LINE_WIDTH):
            core &= np.roll(inside, step, axis)
    return inside & ~core


# --- the text --------------------------------------------------------------------------------------------------------


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    data = files("consilium.output.dicom").joinpath("fonts", name).read_bytes()
    return ImageFont.truetype(BytesIO(data), size)


@cache
def _missing() -> bytes:
    return bytes(_font(_BODY).getmask("\uffff"))


def shows(words: str) -> bool:
    """Whether the font has every letter of `words`."""
    return all(letter.isspace() or bytes(_font(_BODY).getmask(letter)) != _missing() for letter in words)


def _wrapped(words: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """`words` on lines of `width`; a word that is longer is broken."""
    lines = [""]
    for word in words.split():
        if font.getlength(f"{lines[-1]} {word}".strip()) <= width:
            lines[-1] = f"{lines[-1]} {word}".strip()
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


class _Panel:
    """A column that is written from the top down and grows with what is written."""

    def __init__(self) -> None:
        self.picture = Picture.new("RGB", (_PANEL, _IMAGE_SIDE))
        self.bottom = 0

    def draw(self, height: int) -> ImageDraw.ImageDraw:
        """What draws on the panel, which has room for `height` more."""
        if self.bottom + height > self.picture.height:
            taller = Picture.new("RGB", (_PANEL, self.picture.height + height + _IMAGE_SIDE))
            taller.paste(self.picture)
            self.picture = taller
        return ImageDraw.Draw(self.picture)

    def write(
        self, words: str, size: int = _BODY, colour: Colour = _WHITE, *, bold: bool = False, left: int = 0
    ) -> None:
        """A paragraph."""
        font = _font(size, bold=bold)
        height = round(size * 1.35)
        for line in _wrapped(words, font, _PANEL - left):
            self.draw(height).text((left, self.bottom), line, fill=colour, font=font)
            self.bottom += height

    def item(self, words: str, size: int, colour: Colour) -> None:
        """A paragraph behind a bullet."""
        self.draw(size * 2).text((0, self.bottom), "•", fill=colour, font=_font(size))
        self.write(words, size, colour, left=size)

    def rule(self) -> None:
        self.draw(2 * _GAP).line(((0, self.bottom + _GAP), (_PANEL, self.bottom + _GAP)), fill=_LINE)
        self.bottom += 2 * _GAP


def _write_panel(panel: _Panel, reported: ReportedStudy, shown: FindingExplanation | None, made: str) -> None:
    panel.write(DISCLAIMER, _BODY, _ALERT, bold=True)
    panel.rule()
    _write_referral(panel, reported)
    for finding in reported.findings:
        _write_finding(panel, finding, referred=reported.referred)
    for target in reported.targets:
        panel.write(f"{target.display}: {target.answer} ({target.detail})", _SMALL, _SOFT)
    panel.rule()
    if shown is not None:
        panel.write(
            f"Overlay: regions that moved the model for {shown.display} (orange, solid) and against it (blue, dashed); "
            "lines surround half of the strongest and more. It does not outline a lesion.",
            *(_SMALL, _SOFT),
        )
    left_out = len(reported.remarks) - _MOST_REMARKS
    for remark in reported.remarks[:_MOST_REMARKS]:
        panel.item(remark, _SMALL, _SOFT)
    if left_out > 0:
        panel.item(f"{left_out} more remarks stand in the structured report", _SMALL, _SOFT)
    panel.rule()
    panel.write(f"{reported.model.name}, version {reported.model.version}", _SMALL, _SOFT)
    panel.write(f"manifest {reported.model.manifest_digest[:16]}", _SMALL, _SOFT)
    panel.write(made, _SMALL, _SOFT)


def _write_referral(panel: _Panel, reported: ReportedStudy) -> None:
    """Before any number: what is not to be relied on."""
    left = [finding.display for finding in reported.findings if finding.refer_reasons]
    if reported.referred:
        panel.write("REFERRED", _TITLE, _ALERT, bold=True)
        panel.write("Assess this study without the model:", _BODY, _ALERT)
        for reason in reported.refer_reasons:
            panel.item(reason, _BODY, _ALERT)
        panel.rule()
    elif left:
        panel.write(f"Assess without the model: {', '.join(left)}", _BODY, _ALERT, bold=True)
        panel.rule()


def _write_finding(panel: _Panel, finding: ReportedFinding, *, referred: bool) -> None:
    unsure = finding.presence is Presence.UNDETERMINED
    colour = _SOFT if referred or unsure else _WHITE
    answer, (low, high) = _ANSWERS[finding.presence], finding.interval
    width = _font(_BODY, bold=True).getlength(answer)
    place = (_PANEL - width, panel.bottom)
    panel.draw(_BODY * 2).text(place, answer, fill=_ALERT if unsure else colour, font=_font(_BODY, bold=True))
    for line in _wrapped(finding.display, _font(_BODY, bold=True), _PANEL - width - _GAP):
        panel.write(line, _BODY, colour, bold=True)
    _draw_bar(panel, finding, colour)
    point = percent(finding.threshold)
    called = f"{'called' if finding.called else 'not called'} (from {point})"
    numbers = f"{percent(finding.probability)}, interval {percent(low)} to {percent(high)}; "
    panel.write(numbers + (f"operating point {point}" if unsure else called), _SMALL, _SOFT)
    panel.bottom += _GAP


def _draw_bar(panel: _Panel, finding: ReportedFinding, colour: Colour) -> None:
    """Probability from 0 to 1 with its interval, and a tick at the operating point."""
    draw, top, (low, high) = panel.draw(3 * _GAP), panel.bottom + 4, finding.interval
    right = _PANEL - 1
    draw.rectangle((0, top + 4, right, top + 8), fill=_LINE)
    draw.rectangle((low * right, top + 2, high * right, top + 10), fill=(120, 120, 120))
    at = finding.probability * right
    draw.ellipse((at - 6, top, at + 6, top + 12), fill=colour)
    tick = finding.threshold * right
    draw.line(((tick, top - 3), (tick, top + 15)), fill=_WHITE, width=2)
    panel.bottom += 22


def _heading_height() -> int:
    return round(_TITLE * 1.4 + _BODY * 1.6)


def _write_heading(canvas: Picture.Image, heading: Heading) -> int:
    """The lines above everything; returns where what is below begins."""
    draw, width = ImageDraw.Draw(canvas), canvas.width - 2 * _MARGIN
    for words, size, top, colour in (
        (heading.patient, _TITLE, _MARGIN, _WHITE),
        (heading.study, _BODY, _MARGIN + round(_TITLE * 1.4), _SOFT),
    ):
        fitting = next((s for s in range(size, 8, -1) if _font(s, bold=s > _BODY).getlength(words) <= width), 8)
        draw.text((_MARGIN, top), words, fill=colour, font=_font(fitting, bold=fitting > _BODY))
    return _MARGIN + _heading_height()


def displayable(words: str) -> str:
    """`words` with a sign in place of each letter that the font lacks."""
    return "".join(letter if shows(letter) else _UNKNOWN_GLYPH for letter in words)

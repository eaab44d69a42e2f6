"""Where in an image the evidence lies: what it is, and how it is shown and sent. One palette, one codec."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Study
from consilium.domain.wire import Wire
from consilium.modalities.image.image_record import Image
from consilium.modalities.presentation import AGAINST, FOR, Presentation, Sending

if TYPE_CHECKING:
    from PIL import Image as Picture

STRONGEST_ALPHA = 200
"""Opacity, of 255, of the strongest evidence."""

_UNSEEN, _ZERO, _STEPS = 0, 128, 127

Map = npt.NDArray[np.float32]

_LONGEST_SIDE = 900


@dataclass(frozen=True, slots=True, eq=False)
class CellGrid:
    """Cells of a feature map, and where they lie.

    Attributes
    ----------
    values : float32 [h, w]
        Log-odds per cell.
    box : (float, float, float, float)
        Top, left, height and width of the whole grid in pixels of the original file. It may reach beyond the image:
        a model reads a square.
    """

    values: Map
    box: tuple[float, float, float, float]

    def over(self, rows: int, columns: int) -> Map:
        """The cells over an image of so many pixels, interpolated bilinearly."""
        from PIL import Image as Picture

        (top, left, height, width), (down, across) = self.box, self.values.shape
        part = (-left / width * across, -top / height * down)
        end = ((columns - left) / width * across, (rows - top) / height * down)
        resized = Picture.fromarray(self.values).resize((columns, rows), Picture.Resampling.BILINEAR, box=(*part, *end))
        return np.asarray(resized, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class ImageSaliency:
    """Where in an image the evidence lies.

    Attributes
    ----------
    image : int
        Position among the study's images.
    values : float32 [H, W]
        In the pixel grid of the original file, log-odds per feature-map cell: positive is evidence for the finding,
        negative against it. NaN where the model did not look.
    cells : (int, int)
        Rows and columns of the feature map that was read.
    weighed : CellGrid or None
        That map itself, of which `values` are interpolated; None of what was sent as a picture.
    """

    image: int
    values: Map
    cells: tuple[int, int]
    weighed: CellGrid | None = None


class Peak(Wire):
    """The pixel with the strongest evidence for the finding, by row and column of the file that was sent."""

    row: int
    column: int
    value: float


class Overlay(Wire):
    """A saliency map as a picture to lay over the image that was sent.

    A palette PNG with transparency, in the pixel grid of the file that was sent, as viewers turn it, also where its
    pixels are not square: blue is evidence against the finding, orange for it.
    The palette index carries the value: index 0 is where the model did not look, otherwise value = (index - 128) / 127
    × `scale`.
    """

    media_type: Literal["image/png"] = "image/png"
    rows: int
    columns: int
    scale: float
    """Largest absolute log-odds per feature-map cell."""
    data: str
    """Base64."""


class CellMap(Wire):
    """A saliency map as the cells that were weighed, row by row; between their centres it is linear.

    The cells lie edge to edge in `box`, which may reach beyond the image: a model reads a square.
    """

    rows: int
    columns: int
    """Of cells."""
    cells: str
    """Base64 of a float32, little endian, for each cell: log-odds."""
    scale: float
    """Largest absolute log-odds of a cell, of all findings and images of the answer."""
    box: tuple[float, float, float, float]
    """Top, left, height and width of all cells together, in pixels of the file that was sent."""
    image_rows: int
    image_columns: int
    """Of the file that was sent, as viewers turn it."""


class SaliencyAnswer(Wire):
    """Where in one image the evidence for one finding lies."""

    image: int
    """Position among the images sent."""
    cells: tuple[int, int]
    """Rows and columns of the feature map that was read."""
    peak: Peak | None
    """Null where the model looked at no part of the image."""
    overlay: Overlay | None
    """Null where pictures were not asked for."""
    map: CellMap | None = None
    """Null unless cells were asked for (`maps`)."""


class OriginInformation(Wire):
    """What the files of the training images say that they show, as counts of images.

    An image whose file says something else is warned of, and referred where the recipe says so.
    """

    images: int
    modality: dict[str, int]
    """DICOM Modality, most frequent first; empty where no file names one."""
    body_part: dict[str, int]
    """Likewise Body Part Examined."""
    for_processing: int
    """Images that are FOR PROCESSING."""


class ImageInformation(Wire):
    """What the model was trained on."""

    trained_on: OriginInformation


def _written(saliency: ImageSaliency, sending: Sending) -> SaliencyAnswer:
    return SaliencyAnswer(
        image=saliency.image,
        cells=saliency.cells,
        peak=_peak(saliency.values),
        overlay=encode_overlay(saliency.values) if sending.maps == "pictures" else None,
        map=_cell_map(saliency, sending) if sending.maps == "cells" else None,
    )


def _cell_map(saliency: ImageSaliency, sending: Sending) -> CellMap:
    (rows, columns), grid = saliency.values.shape, _grid(saliency)
    strongest = [float(np.abs(_grid(one).values).max(initial=0.0)) for maps in sending.all_findings for one in maps]
    return CellMap(
        rows=grid.values.shape[0],
        columns=grid.values.shape[1],
        cells=base64.b64encode(grid.values.astype("<f4").tobytes()).decode(),
        scale=max(strongest, default=0.0),
        box=grid.box,
        image_rows=rows,
        image_columns=columns,
    )


def _grid(saliency: ImageSaliency) -> CellGrid:
    """The cells that were weighed; of a map without them its pixels."""
    rows, columns = saliency.values.shape
    return saliency.weighed or CellGrid(np.nan_to_num(saliency.values), (0.0, 0.0, float(rows), float(columns)))


def _peak(values: Map) -> Peak | None:
    """Where the finding has most support; None where nothing of the image was looked at."""
    if not np.isfinite(values).any():
        return None
    row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return Peak(row=int(row), column=int(column), value=float(values[row, column]))


def _read(answer: SaliencyAnswer) -> ImageSaliency:
    if answer.map is not None:
        sent = answer.map
        values = np.frombuffer(base64.b64decode(sent.cells), "<f4").reshape(sent.rows, sent.columns)
        grid = CellGrid(values.astype(np.float32), sent.box)
        return ImageSaliency(answer.image, grid.over(sent.image_rows, sent.image_columns), answer.cells, grid)
    if answer.overlay is None:
        raise ValueError(f"the saliency of image {answer.image} was sent without its overlay")
    return ImageSaliency(answer.image, decode_overlay(answer.overlay), answer.cells)


def overlay_rgba(values: Map, strongest: float) -> npt.NDArray[np.uint8]:
    """Signed saliency [...] as colour [..., 4]: transparent at zero and NaN, most opaque at ± `strongest`."""
    known = np.nan_to_num(values)
    strength = np.clip(np.abs(known) / strongest, 0, 1) if strongest > 0 else np.zeros_like(known)
    rgba = np.zeros((*values.shape, 4), np.uint8)
    rgba[..., :3] = np.where((known > 0)[..., None], np.array(FOR, np.uint8), np.array(AGAINST, np.uint8))
    rgba[..., 3] = np.rint(strength * STRONGEST_ALPHA)
    return rgba


def encode_overlay(values: Map) -> Overlay:
    """The picture of saliency `values` [H, W], NaN where the model did not look."""
    from PIL import Image as Picture

    finite = values[np.isfinite(values)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    colours = overlay_rgba(np.arange(-_ZERO, 256 - _ZERO, dtype=np.float32), _STEPS)
    colours[_UNSEEN] = 0
    picture = Picture.fromarray(_indices(values, scale), mode="P")
    picture.putpalette(colours[:, :3].tobytes())
    data = io.BytesIO()
    picture.save(data, format="PNG", transparency=colours[:, 3].tobytes(), compress_level=1)
    rows, columns = values.shape
    return Overlay(rows=rows, columns=columns, scale=scale, data=base64.b64encode(data.getvalue()).decode())


def decode_overlay(overlay: Overlay) -> Map:
    """The saliency of the picture, in the 255 steps of its palette."""
    from PIL import Image as Picture

    with Picture.open(io.BytesIO(base64.b64decode(overlay.data)), formats=["PNG"]) as picture:
        indices = np.asarray(picture)
    values = (indices.astype(np.float32) - _ZERO) / _STEPS * np.float32(overlay.scale)
    return np.where(indices == _UNSEEN, np.float32(np.nan), values)


def _indices(values: Map, scale: float) -> npt.NDArray[np.uint8]:
    steps = np.rint(values * np.float32(_STEPS / scale)) if scale else np.zeros_like(values)
    return np.where(np.isfinite(values), steps + _ZERO, _UNSEEN).astype(np.uint8)


# --- the report's card -----------------------------------------------------------------------------------------------


def _cards(study: Study, findings: Sequence[tuple[ImageSaliency, ...]]) -> list[Mapping[str, Any] | None]:
    """The images, and for each finding one picture a side to lay over each image."""
    given: Sequence[Image] = study.parts["image"]
    if not given:
        return [None for _ in findings]
    images = [_png(_grey(image)) for image in given]
    strongest = _strongest(findings)
    return [
        {
            "images": images,
            "overlays": {one.image: _overlays(one, given[one.image].shape, strongest) for one in maps},
        }
        for maps in findings
    ]


def _strongest(findings: Sequence[tuple[ImageSaliency, ...]]) -> float:
    """The largest absolute saliency of all findings: a finding for which the image says little looks pale."""
    peaks = [float(np.nanmax(np.abs(saliency.values))) for maps in findings for saliency in maps]
    return max([peak for peak in peaks if np.isfinite(peak)], default=0.0)


def _overlays(saliency: ImageSaliency, shape: tuple[int, int], strongest: float) -> dict[str, str]:
    """One picture of the evidence for the finding and one of that against it: the page can tell them apart.

    Both have the proportions of `shape`, the rows and columns of the image shown, which has square pixels.
    """
    from PIL import Image as Picture

    sides = {"for": np.clip(saliency.values, 0, None), "against": np.clip(saliency.values, None, 0)}
    pictures = {side: Picture.fromarray(overlay_rgba(values, strongest)) for side, values in sides.items()}
    if saliency.values.shape != shape:
        pictures = {
            side: picture.resize(shape[::-1], Picture.Resampling.BILINEAR) for side, picture in pictures.items()
        }
    return {side: _png(_fitted(picture)) for side, picture in pictures.items()}


def _grey(image: Image) -> Picture.Image:
    from PIL import Image as Picture

    return _fitted(Picture.fromarray((image.pixels >> 8).astype(np.uint8)))


def _fitted(picture: Picture.Image) -> Picture.Image:
    from PIL import Image as Picture

    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Picture.Resampling.LANCZOS)
    return picture


def _png(picture: Picture.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _rows(maps: Sequence[ImageSaliency]) -> list[tuple[str, float]]:
    """A terminal shows no picture."""
    del maps
    return []


PRESENTATION = Presentation(
    wire=SaliencyAnswer,
    information=ImageInformation,
    write=_written,
    read=_read,
    template="consilium.modalities.image:explanation.html.j2",
    cards=_cards,
    column="left",
    unit="regions",
    rows=_rows,
)

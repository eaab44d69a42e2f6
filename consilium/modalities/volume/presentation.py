"""Where in a volume the evidence lies: what it is, and how it is sent and shown, the most relevant slices first."""

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
from consilium.modalities.image.presentation import Overlay, encode_overlay, overlay_rgba
from consilium.modalities.presentation import Presentation, Sending
from consilium.modalities.volume.slice_pictures import picture, turned

if TYPE_CHECKING:
    from consilium.modalities.volume.volume_record import Volume

Map = npt.NDArray[np.float32]
Row4 = tuple[float, float, float, float]

MOST_SLICES = 6
"""Slices of a volume that are sent and shown for a finding."""
_SAMPLED = 32
"""Points a side of a slice at which its evidence is looked at, to tell which slices matter."""


@dataclass(frozen=True, slots=True, eq=False)
class VolumeSaliency:
    """Where in a volume the evidence lies.

    Attributes
    ----------
    volume : int
        Position among the study's volumes.
    cells : float32 [D, H, W]
        Log-odds of each cell of what was read.
    to_cells : float64 [3, 4]
        From column, row and slice of the file (each from 0) and 1 to the place among the cells, whose centres are at
        whole numbers.
    shape : (int, int, int)
        Slices, rows and columns of the file.
    """

    volume: int
    cells: Map
    to_cells: npt.NDArray[np.float64]
    shape: tuple[int, int, int]

    def over(self, place: int, rows: npt.NDArray | None = None, columns: npt.NDArray | None = None) -> Map:
        """Log-odds per cell at the voxels of one slice, between the cells' centres linear; NaN where nothing was read.

        Parameters
        ----------
        place : int
            Of the slice.
        rows, columns : int [H], int [W], optional
            Of the voxels; all of them unless given.
        """
        from scipy.ndimage import map_coordinates

        rows = np.arange(self.shape[1]) if rows is None else rows
        columns = np.arange(self.shape[2]) if columns is None else columns
        at = [own[0] * columns[None, :] + own[1] * rows[:, None] + own[2] * place + own[3] for own in self.to_cells]
        inside = np.ones((len(rows), len(columns)), np.bool_)
        for axis, side in zip(at, self.cells.shape, strict=True):
            inside &= (axis >= -0.5) & (axis <= side - 0.5)
        found = map_coordinates(self.cells, at, order=1, mode="nearest", output=np.float32)
        return np.where(inside, found, np.float32(np.nan))

    def relevance(self) -> npt.NDArray[np.float64]:
        """Of each slice the mean size of its evidence, [Z]."""
        rows, columns = (np.unique(np.linspace(0, side - 1, _SAMPLED).astype(int)) for side in self.shape[1:])
        return np.array([float(np.nansum(np.abs(self.over(z, rows, columns)))) for z in range(self.shape[0])])

    def relevant(self) -> list[int]:
        """The slices that matter most, the most relevant one first; of neighbours within a cell one alone."""
        relevance = self.relevance()
        apart = max(1, round(1 / max(float(np.abs(self.to_cells[:, 2]).max()), 1e-9)))
        found: list[int] = []
        for place in np.argsort(-relevance, kind="stable"):
            near = any(abs(int(place) - other) < apart for other in found)
            if relevance[place] > 0 and not near and len(found) < MOST_SLICES:
                found.append(int(place))
        return found


class SliceEvidence(Wire):
    """The evidence in one slice of a volume."""

    number: int
    """Of the slice, from 0, in the order of the slices' positions along the normal, as `consilium` read them."""
    highest: float
    """The strongest evidence for the finding, log-odds of a cell; 0 where there is none."""
    lowest: float
    """The strongest evidence against it."""
    overlay: Overlay | None
    """A picture to lay over the slice, in its own rows and columns; null where pictures were not asked for."""


class VoxelPeak(Wire):
    """The voxel with the strongest evidence for the finding."""

    slice: int
    row: int
    column: int
    value: float


class VolumeEvidence(Wire):
    """Where in one volume the evidence for one finding lies.

    The weight of a voxel is interpolated between the centres of the cells: `to_cells` times (column, row, slice, 1),
    each from 0, is its place among them. Where that is more than half a cell outside, the model did not look.
    """

    volume: int
    """Position among the volumes sent."""
    shape: tuple[int, int, int]
    """Slices, rows and columns of the volume that was read."""
    cells: tuple[int, int, int]
    """Of what the model read: from head to foot, front to back, right to left."""
    weights: str
    """Base64 of a float32, little endian, for each cell: log-odds."""
    to_cells: tuple[Row4, Row4, Row4]
    peak: VoxelPeak
    slices: tuple[SliceEvidence, ...]
    """The slices that matter most, the most relevant one first."""


class VolumeInformation(Wire):
    """How the model reads volumes."""

    spacing: tuple[float, float, float]
    """Millimetres between what it reads: head to foot, front to back, right to left."""
    size: tuple[int, int, int]
    """Voxels in these directions, around the middle of a volume."""
    intensities: Literal["hounsfield", "percentiles"]
    windows: tuple[tuple[float, float], ...]
    """Centre and width in Hounsfield units."""
    modality: Literal["CT", "MR", "any"]
    plane: Literal["axial", "coronal", "sagittal", "any"]
    least_slices: int
    thickest: float
    """Millimetres between slices above which a volume is not read."""


def _written(saliency: VolumeSaliency, sending: Sending) -> VolumeEvidence:
    slices = []
    for place in saliency.relevant():
        values = saliency.over(place)
        known = np.nan_to_num(values)
        overlay = encode_overlay(values) if sending.maps == "pictures" else None
        slices.append(
            SliceEvidence(
                number=place, highest=max(0.0, float(known.max())), lowest=min(0.0, float(known.min())), overlay=overlay
            )
        )
    depth, height, width = saliency.cells.shape
    one, two, three = (tuple(float(x) for x in row) for row in saliency.to_cells)
    return VolumeEvidence(
        volume=saliency.volume,
        shape=saliency.shape,
        cells=(depth, height, width),
        weights=base64.b64encode(saliency.cells.astype("<f4").tobytes()).decode(),
        to_cells=(one, two, three),
        peak=_peak(saliency),
        slices=tuple(slices),
    )


def _peak(saliency: VolumeSaliency) -> VoxelPeak:
    """The voxel next to the centre of the highest cell."""
    highest = np.unravel_index(int(saliency.cells.argmax()), saliency.cells.shape)
    back = np.linalg.inv(np.vstack([saliency.to_cells, [0, 0, 0, 1]]))
    voxel = (back @ np.array([*highest, 1.0]))[:3]
    slices, rows, columns = saliency.shape
    column, row, place = (
        int(np.clip(round(x), 0, side - 1)) for x, side in zip(voxel, (columns, rows, slices), strict=True)
    )
    return VoxelPeak(slice=place, row=row, column=column, value=float(saliency.cells[highest]))


def _read(sent: VolumeEvidence) -> VolumeSaliency:
    cells = np.frombuffer(base64.b64decode(sent.weights), "<f4").reshape(sent.cells).astype(np.float32)
    return VolumeSaliency(sent.volume, cells, np.array(sent.to_cells), sent.shape)


# --- the report's card -----------------------------------------------------------------------------------------------


def _cards(study: Study, findings: Sequence[tuple[VolumeSaliency, ...]]) -> list[Mapping[str, Any] | None]:
    """For each finding the slices that matter most, each with a picture a side to lay over it."""
    records: Sequence[Volume] = study.parts["volume"]
    if not records:
        return [None for _ in findings]
    strongest = max((float(np.abs(one.cells).max(initial=0.0)) for maps in findings for one in maps), default=0.0)
    return [
        {
            "slices": [
                _shown(records[one.volume], one, place, strongest, len(records))
                for one in maps
                if one.volume < len(records)
                for place in one.relevant()
            ]
        }
        for maps in findings
    ]


def _shown(record: Volume, saliency: VolumeSaliency, place: int, strongest: float, count: int) -> Mapping[str, Any]:
    grey = picture(record, place)
    rows, columns = (
        np.linspace(0, side - 1, shown).round().astype(int)
        for side, shown in zip(saliency.shape[1:], grey.shape, strict=True)
    )
    values = saliency.over(place, rows, columns)
    sides = {"for": np.clip(values, 0, None), "against": np.clip(values, None, 0)}
    height, width = record.grid.spacing[1] * grey.shape[0], record.grid.spacing[2] * grey.shape[1]
    aspect = turned(np.zeros((round(height) + 1, round(width) + 1)), record.grid).shape
    which = f"volume {saliency.volume + 1}, " if count > 1 else ""
    return {
        "name": f"{which}slice {place + 1} of {saliency.shape[0]}",
        "plane": record.grid.plane,
        "picture": _png(turned(grey, record.grid), aspect),
        "overlays": {
            side: _png(turned(overlay_rgba(one, strongest), record.grid), aspect) for side, one in sides.items()
        },
    }


def _png(pixels: npt.NDArray, aspect: tuple[int, ...]) -> str:
    """A picture of square pixels, whose longer side is at most 512 of them."""
    from PIL import Image as Picture

    longest = max(256, min(512, max(pixels.shape[:2])))
    size = (max(1, round(longest * aspect[1] / max(aspect[:2]))), max(1, round(longest * aspect[0] / max(aspect[:2]))))
    buffer = io.BytesIO()
    shown = Picture.fromarray(np.ascontiguousarray(pixels)).resize(size, Picture.Resampling.BILINEAR)
    shown.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _rows(maps: Sequence[VolumeSaliency]) -> list[tuple[str, float]]:
    """The slices that matter most, each with its strongest evidence."""
    found = []
    for one in maps:
        which = f"volume {one.volume + 1} " if len(maps) > 1 else ""
        for place in one.relevant():
            values = np.nan_to_num(one.over(place))
            strongest = float(values.flat[int(np.abs(values).argmax())])
            found.append((f"{which}slice {place + 1} of {one.shape[0]}", strongest))
    return found


PRESENTATION = Presentation(
    wire=VolumeEvidence,
    information=VolumeInformation,
    write=_written,
    read=_read,
    template="consilium.modalities.volume:explanation.html.j2",
    cards=_cards,
    column="left",
    unit="slices",
    rows=_rows,
)

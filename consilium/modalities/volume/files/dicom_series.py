"""DICOM: series of single slices and enhanced multi-frame objects → the voxels of one volume.

Headers are read first and all of them; the pixels of the chosen slices alone are decoded, each into its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.domain.study import identifier_digest
from consilium.formats.dicom.file_structure import DicomFile, is_dicom, quiet, read_elements
from consilium.formats.dicom.header import optional_text, read_header_patient
from consilium.formats.dicom.identity import device_digest, names_of, order_digest, site_digest
from consilium.formats.dicom.pixels import MOST_TRAILING_BYTES, PixelFormat, decoding, pixel_words
from consilium.formats.limits import Limits
from consilium.formats.times import dicom_date_time, dicom_datetime, dicom_offset
from consilium.modalities.volume.faults import Fault
from consilium.modalities.volume.files.archive import Files
from consilium.modalities.volume.files.grid import LEAST_SLICES, check_voxels
from consilium.modalities.volume.files.slice_header import KEYWORDS, PIXEL_KEYWORDS, SliceHeader, slice_headers
from consilium.modalities.volume.files.stacking import Stack, by_geometry, by_series, stacked
from consilium.modalities.volume.files.voxels import Voxels

_MOST_KINDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """One volume of those that were sent; `number` of its series among `series`, from 1 on."""

    stack: Stack
    number: int
    series: int
    left_out: int

    @property
    def axial(self) -> bool:
        return self.stack.grid.plane == "axial"

    @property
    def extent(self) -> float:
        """From the first to the last slice, millimetres."""
        return self.stack.grid.spacing[0] * (self.stack.grid.shape[0] - 1)

    def rank(self, longest: float) -> tuple[bool, bool, bool, float, int, int]:
        """Axial before others, and of these the ones that are at least half as long as the `longest`.

        Then original before derived, thin before thick, many slices before few, early before late.
        """
        first, grid = self.stack.first, self.stack.grid
        thickness = round(max(first.thickness or 0.0, grid.spacing[0]), 1)
        short = self.extent < longest / 2
        return not self.axial, short, first.derived, thickness, -grid.shape[0], self.number

    @property
    def reason(self) -> str:
        """In words, what it is and why it was chosen; empty where there was nothing to choose."""
        if self.series == 1:
            return ""
        stack, (between, _, _) = self.stack, self.stack.grid.spacing
        kind = "derived" if stack.first.derived else "original"
        what = f"{stack.first.modality}, {stack.grid.plane}, {kind}, {len(stack.there)} slices of {between:.3g} mm"
        order = "axial before others, none of less than half the length, then original, thin and long ones"
        return f"series {self.number} of {self.series} was read ({what}): {order}"


def read_series(data: bytes, limits: Limits) -> Voxels:
    """Read a zip archive of DICOM files, or one enhanced object.

    Raises
    ------
    InputError
        Nothing that is a volume, or one that does not fit together.
    """
    with quiet():
        return decoding(_read, data, limits)


def _read(data: bytes, limits: Limits) -> Voxels:
    files = Files(data, 4 * limits["volume_voxels"])
    headers, left_out = _headers(files, limits)
    chosen, others = _chosen(headers)
    return _voxels(files, chosen, [*left_out, *others], limits)


def _headers(files: Files, limits: Limits) -> tuple[list[SliceHeader], list[str]]:
    """The slices of all files, and what else there was."""
    found: list[SliceHeader] = []
    others: Counter[str] = Counter()
    first: dict[str, SliceHeader] = {}
    refused: InputError | None = None
    for number, content in enumerate(files):
        if not is_dicom(content):
            others["no DICOM"] += 1
            continue
        try:
            file = read_elements(content, KEYWORDS, 4 * limits["volume_voxels"])
            own = slice_headers(file, number, limits["volume_voxels"])
            _check_copy(files, own[0], first.setdefault(own[0].instance, own[0]), file, 4 * limits["volume_voxels"])
            found += own
        except UnsupportedMedia as error:
            others[_what(error)] += 1
            refused = refused or error
        except InputError as error:
            raise error if len(files) == 1 else error.at(f"files[{number}]") from None
    if not found:
        if refused is not None:
            raise refused
        raise UnsupportedMedia("files", f"{len(files)} files", "must be DICOM files of a CT or MR series, or NIfTI")
    patients = {one.patient for one in found} - {""}
    if len(patients) > 1:
        raise InputError("PatientID", f"{len(patients)} patients", "must be of one patient")
    listed = others.most_common(_MOST_KINDS)
    return found, [f"{count} {'file was' if count == 1 else 'files were'} left out: {kind}" for kind, count in listed]


def _what(error: UnsupportedMedia) -> str:
    """What a file is that is left out, in words."""
    value = str(error.value)[:64]
    return (value or "no image") if error.field == "SOPClassUID" else f"{error.field} {value}"


def _check_copy(files: Files, one: SliceHeader, other: SliceHeader, file: DicomFile, most: int) -> None:
    """`InputError` where one SOP Instance UID is that of two different images.

    Packed otherwise they may be the same image all the same.
    """
    if one is other:
        return
    before = read_elements(files[other.file], PIXEL_KEYWORDS, most)
    same_place = np.allclose(one.position, other.position, atol=1e-3) and one.series == other.series
    packed_alike = one.pixels.transfer_syntax == other.pixels.transfer_syntax
    if not same_place or (packed_alike and bytes(before.pixel_data) != bytes(file.pixel_data)):
        raise InputError("SOPInstanceUID", "that of a different image, too", "must be of one image alone")


def _chosen(headers: Sequence[SliceHeader]) -> tuple[_Candidate, list[str]]:
    """The volume that is read, and what was left out of its series.

    Raises
    ------
    InputError
        Where there is none; of the largest group of slices it is named why.
    """
    series = by_series(headers)
    found: list[_Candidate] = []
    failures: list[tuple[int, InputError]] = []
    localizers = 0
    for number, slices in enumerate(series, start=1):
        kept = [one for one in slices if not one.localizer]
        localizers += len(slices) - len(kept)
        for group in by_geometry(kept):
            try:
                found.append(_Candidate(stacked(group), number, len(series), len(kept) - len(group)))
            except InputError as error:
                failures.append((len(group), error))
    if not found:
        if failures:
            raise max(failures, key=lambda one: one[0])[1]
        rule = f"must be at least {LEAST_SLICES} of one volume that are no localizers"
        raise InputError("slices", f"{localizers} localizers", rule)
    longest = {axial: max((one.extent for one in found if one.axial is axial), default=0.0) for axial in (False, True)}
    best = min(found, key=lambda one: one.rank(longest[one.axial]))
    warnings = [f"{localizers} localizers were left out"] if localizers else []
    if best.left_out:
        warnings.append(f"{best.left_out} slices of another size, spacing or orientation were left out")
    return best, warnings


# --- pixels ----------------------------------------------------------------------------------------------------------


def _voxels(files: Files, chosen: _Candidate, left_out: Sequence[str], limits: Limits) -> Voxels:
    stack, grid = chosen.stack, chosen.stack.grid
    check_voxels(grid.shape, limits["volume_voxels"])
    there = stack.there
    scales = {(one.slope, one.intercept) for one in there}
    dtypes = {one.pixels.dtype for one in there}
    one_scale = len(scales) == 1 and len(dtypes) == 1
    dtype = (np.dtype(np.int16) if dtypes == {np.dtype(np.int8)} else next(iter(dtypes))) if one_scale else np.float32
    stored = np.empty(grid.shape, dtype)
    places: dict[int, list[int]] = {}
    for place, one in enumerate(stack.slices):
        if one is not None:
            places.setdefault(one.file, []).append(place)
    header: Dataset | None = None
    for number, own in places.items():
        file = read_elements(files[number], KEYWORDS if header is None else PIXEL_KEYWORDS, 4 * limits["volume_voxels"])
        header = file.dataset if header is None else header
        try:
            for place, values in _decoded(file, [(place, stack.slices[place]) for place in own]):
                scale = stack.slices[place]
                assert scale is not None
                stored[place] = values if one_scale else values * np.float32(scale.slope) + np.float32(scale.intercept)
        except InputError as error:
            raise error if len(files) == 1 else error.at(f"files[{number}]") from None
    assert header is not None
    _fill(stored, [place for place, one in enumerate(stack.slices) if one is None])
    hounsfield = stack.first.modality != "CT" or all(one.hounsfield for one in there)
    faults = stack.faults if hounsfield else (*stack.faults, Fault.UNITS)
    time = _time(header)
    patient, patient_warnings = read_header_patient(header, time and time.date())
    slope, intercept = next(iter(scales)) if one_scale else (1.0, 0.0)
    return Voxels(
        stored=stored,
        slope=slope,
        intercept=intercept,
        grid=grid,
        modality=stack.first.modality,
        source="dicom",
        thickness=stack.first.thickness,
        chosen=chosen.reason,
        faults=faults,
        warnings=(*stack.warnings, *left_out, *patient_warnings),
        time=time,
        known={"patient": patient, **_identity(header)},
    )


def _decoded(file: DicomFile, wanted: Sequence[tuple[int, SliceHeader | None]]) -> Iterator[tuple[int, Any]]:
    """Stored values of the frames that are `wanted` of a file, each with its place."""
    pixels = next(one.pixels for _, one in wanted if one is not None)
    frames = _frames(file, pixels)
    for place, one in wanted:
        assert one is not None
        words, _ = pixel_words(file if frames is None else replace(file, pixel_data=frames[one.frame]), pixels)
        yield place, pixels.stored(words)


def _frames(file: DicomFile, pixels: PixelFormat) -> Sequence[bytes | memoryview] | None:
    """The pixel data of each frame alone; None of a file of one.

    Raises
    ------
    InputError
        Where the pixel data are not those of so many frames as the header declares.
    """
    shown = optional_text(file.dataset, "NumberOfFrames")
    count = int(shown) if shown.isdigit() and len(shown) < 10 else 1
    if count == 1:
        return None
    if pixels.encapsulated:
        streams = list(generate_frames(bytes(file.pixel_data), number_of_frames=count))
        if len(streams) != count:
            raise InputError("PixelData", f"{len(streams)} frames", f"must be {count} frames, as the header declares")
        return [encapsulate([stream], has_bot=False) for stream in streams]
    size = pixels.rows * pixels.columns * pixels.bits_allocated // 8
    behind = file.pixel_data[size * count :]
    if len(file.pixel_data) < size * count or len(behind) > MOST_TRAILING_BYTES or any(behind[size * count % 2 :]):
        rule = f"must be {size * count} bytes, as the header declares, with at most {MOST_TRAILING_BYTES} zeros behind"
        raise InputError("PixelData", f"{len(file.pixel_data)} bytes", rule)
    return [memoryview(file.pixel_data)[place * size : (place + 1) * size] for place in range(count)]


def _fill(stored: npt.NDArray[Any], missing: Sequence[int]) -> None:
    """What lies between the neighbours, in place of slices that are missing."""
    gone = set(missing)
    for place in missing:
        before = next(i for i in range(place - 1, -1, -1) if i not in gone)
        after = next(i for i in range(place + 1, len(stored)) if i not in gone)
        share = (place - before) / (after - before)
        between = stored[before] * (1 - share) + stored[after] * share
        stored[place] = between if stored.dtype.kind == "f" else np.rint(between)


# --- what else the header says ---------------------------------------------------------------------------------------


def _identity(dataset: Dataset) -> Mapping[str, Any]:
    return {
        "patient_digest": identifier_digest(optional_text(dataset, "PatientID")),
        "study_digest": identifier_digest(optional_text(dataset, "StudyInstanceUID")),
        "accession_digest": order_digest(dataset),
        "device_digest": device_digest(dataset),
        "site_digest": site_digest(dataset),
        "names": names_of(dataset),
    }


def _time(dataset: Dataset) -> datetime | None:
    offset = dicom_offset(optional_text(dataset, "TimezoneOffsetFromUTC"))
    found = dicom_datetime(optional_text(dataset, "AcquisitionDateTime"), offset)
    for event in ("Acquisition", "Content", "Series", "Study"):
        day, clock = optional_text(dataset, f"{event}Date"), optional_text(dataset, f"{event}Time")
        found = found or dicom_date_time(day, clock, offset)
    return found

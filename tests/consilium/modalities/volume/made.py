"""Volumes and their files as other software writes them, for the tests."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from consilium.formats.limits import Limits
from consilium.modalities.registry import default_limits
from consilium.modalities.volume.records import read_volume
from consilium.modalities.volume.volume_record import Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SHAPE = (8, 10, 12)
Change = Callable[[Dataset, int], None]


def read(data: bytes, limits: Limits | None = None) -> Volume:
    return read_volume(data, field="volumes[0]", limits=limits or default_limits())


def stored(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.int16]:
    """Stored values of a CT, 0 to 2000."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.int16)


def slice_dataset(pixels: npt.NDArray[Any], number: int, series: str = "a", **changed: Any) -> Dataset:
    """One CT image at ``3 mm × number``, of 0.5 × 0.75 mm pixels, slope 2 and intercept -1000."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number + 1
    dataset.PatientID, dataset.PatientName = "4711", "Doe^Jane"
    dataset.PatientAge, dataset.PatientSex = "060Y", "F"
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [-3.0, -4.0, 3.0 * number]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.SliceThickness = 3.0
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 2, -1000, "HU"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = pixels.astype("<i2").tobytes()
    for keyword, value in changed.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A DICOM file."""
    out = io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(
        out,
        enforce_file_format=True,
        implicit_vr=False if syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian) else None,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return out.getvalue()


def files(rows: npt.NDArray[Any], change: Change | None = None, series: str = "a", **changed: Any) -> list[bytes]:
    """A file for each slice, `change`d first."""
    found = []
    for number, pixels in enumerate(rows):
        dataset = slice_dataset(pixels, number, series, **changed)
        if change is not None:
            change(dataset, number)
        found.append(written(dataset))
    return found


def packed(contents: Sequence[bytes] | Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive; files of a list are named so that their order by name is not that of the list."""
    named = contents
    if not isinstance(named, Mapping):
        named = {f"{(7 * number) % 101:03d}-{number}": content for number, content in enumerate(named)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in sorted(named.items()):
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return out.getvalue()


def series(seed: int = 0, change: Change | None = None, **changed: Any) -> bytes:
    return packed(files(stored(seed), change, **changed))


def mr(dataset: Dataset, number: int) -> None:
    """Make an MR image of it, without a rescale."""
    del number
    dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del dataset[keyword]


def enhanced(rows: npt.NDArray[Any], order: Sequence[int] | None = None) -> Dataset:
    """An enhanced CT whose frames stand in this `order` and whose rescale is each frame's own."""
    order = list(range(len(rows))) if order is None else order
    whole = slice_dataset(rows[0], 0)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        del whole[keyword]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        del whole[keyword]
    whole.SOPClassUID = EnhancedCTImageStorage
    whole.NumberOfFrames = len(order)
    whole.PixelData = b"".join(rows[number].astype("<i2").tobytes() for number in order)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    whole.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number in order:
        frame, position, scale, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-3.0, -4.0, 3.0 * number]
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 2, -1000 + number, "HU"
        content.DimensionIndexValues = [1, number + 1]
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [scale]
        frame.FrameContentSequence = [content]
        frames.append(frame)
    whole.PerFrameFunctionalGroupsSequence = frames
    return whole


def nifti(
    values: npt.NDArray[Any], *, affine: npt.NDArray[Any] | None = None, codes: tuple[int, int] = (0, 1), **fields: Any
) -> bytes:
    """A NIfTI-1 file of `values` [slices, rows, columns]; `fields`: (format, offset): value in its header."""
    slices, rows, columns = values.shape
    code = {"int16": 4, "float32": 16, "uint8": 2}[values.dtype.name]
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, code, 8 * values.itemsize)
    struct.pack_into("<8f", head, 76, 1, 1, 2, 3, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, 352, 0, 0)
    head[123] = 2
    struct.pack_into("<2h", head, 252, *codes)
    rows_of = np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine
    struct.pack_into("<12f", head, 280, *rows_of[:3].ravel())
    head[344:348] = b"n+1\0"
    for place, value in fields.items():
        form, offset = place.rsplit("_", 1)
        struct.pack_into(f"<{form}", head, int(offset), *(value if isinstance(value, tuple) else (value,)))
    return bytes(head) + values.tobytes()


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b85decode(text))

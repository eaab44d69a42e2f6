"""What an image file says of the machine and the software that made it; no pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image as Pillow

from consilium.domain.errors import InputError, UnreadableImage
from consilium.formats.dicom.elements import text
from consilium.formats.dicom.file_structure import is_dicom, quiet, read_elements
from consilium.formats.dicom.pixels import decoding
from consilium.formats.limits import Limits
from consilium.modalities.image.files.raster import FORMATS
from consilium.modalities.registry import default_limits

_DEVICE = ("Manufacturer", "ManufacturerModelName", "StationName", "DeviceSerialNumber", "SoftwareVersions")
_ENCODING = ("PhotometricInterpretation", "BitsStored", "LossyImageCompression", "LossyImageCompressionRatio")


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts of one image file; empty where the file does not say.

    Attributes
    ----------
    size : int
        Bytes.
    encoding : str
        Transfer syntax, photometric interpretation and bits of a DICOM file; mode and suffix of any other.
    lossy : float or None
        Mean step of a JPEG's quantisation tables (coarser is smaller), or the compression ratio that a DICOM file
        states.
    device : tuple of str
        Manufacturer, model, station, serial number, software version.
    institution : str
    """

    size: int
    encoding: str
    lossy: float | None = None
    device: tuple[str, ...] = ()
    institution: str = ""


def read_file_facts(path: Path) -> FileFacts:
    """Read the header of `path`, a file whose image could be decoded.

    Raises
    ------
    InputError
        Where it cannot be read any more.
    """
    try:
        data = path.read_bytes()
        if is_dicom(data):
            with quiet():
                return decoding(_dicom, data, default_limits())
        return _raster(data, path.suffix.lower())
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever Pillow raises on a broken file
        raise UnreadableImage("image", type(error).__name__, "must have a readable header") from None


def _dicom(data: bytes, limits: Limits) -> FileFacts:
    file = read_elements(data, (*_DEVICE, *_ENCODING, "InstitutionName"), limits["image_bytes"])
    header = file.dataset
    elements = {keyword: text(header, keyword) for keyword in (*_DEVICE, *_ENCODING)}
    return FileFacts(
        size=len(data),
        encoding=" ".join([str(file.transfer_syntax), *(elements[keyword] for keyword in _ENCODING[:3])]),
        lossy=_number(elements["LossyImageCompressionRatio"]),
        device=tuple(elements[keyword] for keyword in _DEVICE),
        institution=text(header, "InstitutionName"),
    )


def _number(shown: str) -> float | None:
    try:
        return float(shown)
    except ValueError:
        return None


def _raster(data: bytes, suffix: str) -> FileFacts:
    with Pillow.open(BytesIO(data), formats=FORMATS) as picture:
        tables = getattr(picture, "quantization", None) or {}
        steps = [step for table in tables.values() for step in table]
        return FileFacts(
            size=len(data),
            encoding=f"{picture.mode} {suffix}",
            lossy=sum(steps) / len(steps) if steps else None,
            device=(str(picture.info.get("Software", "")),),
        )

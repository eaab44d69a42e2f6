"""Pixels that the model reads beside those that an independent pipeline makes of the same files: dcmtk's.

Within one grey level in 256, but for the files of `EXPLAINED`. What dcmtk has no decoder for is decoded for it by one
that the reader does not use.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from PIL import Image as Pillow
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.sequence import Sequence
from scipy.ndimage import zoom

from consilium.domain.errors import InputError, UnsupportedMedia
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.records import read_image
from tests.consilium.formats.dicom.dicom_files import dicom_file
from tests.consilium.modalities.image.files.test_raster import png
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(
    shutil.which("dcmj2pnm") is None or shutil.which("dcml2pnm") is None,
    reason="dcmj2pnm and dcml2pnm (Debian package dcmtk) are not installed",
)

SAMPLE_FOLDER = Path(pydicom.data.__file__).parent / "test_files"
SAMPLES = sorted(path for path in SAMPLE_FOLDER.rglob("*") if path.is_file())
JPEG_LS, JPEG_2000 = "JPEGLS", ("JPEG2000", "HTJ2K")


@dataclass(frozen=True)
class Difference:
    """How far a file may lie apart: levels in 256 at most, and the share of pixels that differ by more than one."""

    why: str
    levels: int = 0
    share: float = 0.0


GAMUT = (
    "its colours lie outside of RGB: luminance is read as it is stored; dcmtk makes RGB of it, clips it, and goes back"
)
EXPLAINED = {
    "JPGExtended.dcm": Difference(
        "12-bit lossy JPEG: decoders round otherwise, and the narrow window enlarges it", 3, 0.02
    ),
    "SC_rgb_dcmtk_+eb+cy+n1.dcm": Difference(GAMUT, 10, 0.06),
    "SC_rgb_dcmtk_+eb+cy+np.dcm": Difference(GAMUT, 10, 0.06),
    "SC_rgb_jpeg_lossy_gdcm.dcm": Difference(GAMUT, 10, 0.06),
    "SC_ybr_full_422_uncompressed.dcm": Difference(GAMUT, 2, 0.03),
    "SC_rgb_jpeg.dcm": Difference(
        "dcmtk cannot parse it: its data set is not encoded as its file meta information says"
    ),
}
"""Every sample that is read and lies further apart than a level, or that dcmtk does not read."""

REFUSED = {
    "JPEG-lossy.dcm": "the header of its scan is invalid, and what dcmtk makes of it is a guess",
    "17166": "its window hides the whole image, which dcmtk shows as one grey",
    "17196": "its window hides the whole image, which dcmtk shows as one grey",
}
"""Every sample that is refused as broken and that dcmtk reads."""


def shown_by_dcmtk(path: Path, folder: Path, options: list[str]) -> np.ndarray | None:
    """What dcmtk shows of a file, uint8 [H, W]; None where it refuses it."""
    tool = "dcmj2pnm"
    syntax = uid.UID(str(getattr(dcmread(path, force=True).file_meta, "TransferSyntaxUID", "")))
    if syntax.keyword.startswith(JPEG_2000):
        dataset = dcmread(path)
        try:
            dataset.decompress(decoding_plugin="pylibjpeg")
        except RuntimeError:
            return None
        path = folder / "native.dcm"
        dataset.save_as(path)
    elif syntax.keyword.startswith(JPEG_LS):
        tool = "dcml2pnm"
    shown = folder / "shown.pgm"
    shown.unlink(missing_ok=True)
    subprocess.run(
        [tool, "+op", "-O", *options, str(path), str(shown)], capture_output=True, timeout=PATIENCE_S, check=False
    )
    return np.asarray(Pillow.open(shown).convert("L")) if shown.exists() else None


def view_options(dataset: Dataset) -> list[str]:
    """What has dcmtk show a file as a viewer first would; the window of a file without one is worked out here."""
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return ["+G"]
    if dataset.get("VOILUTSequence"):
        return ["+Wl", "1"]
    if dataset.get("WindowWidth"):
        return ["+Wi", "1"]
    if dataset.BitsStored == 8 and not dataset.PixelRepresentation:
        return ["-W"]
    values = np.sort(apply_modality_lut(dataset.pixel_array, dataset).ravel()).astype(float)
    low, high = values[int(0.001 * len(values))], values[int(np.ceil(0.999 * len(values))) - 1]
    return ["+Ww", str((low + high) / 2 + 0.5), str(high - low + 1)]


def square_as_dcmtk_shows(image: Image, path: Path, folder: Path, options: list[str]) -> np.ndarray | None:
    """The same with square pixels: dcmtk gives the shape, and SciPy resamples, since dcmtk moves the picture by it."""
    stored = shown_by_dcmtk(path, folder, options)
    if stored is None or image.shape == image.grid:
        return stored
    side = ["+Syv", str(image.shape[0])] if image.shape[0] != image.grid[0] else ["+Sxv", str(image.shape[1])]
    scaled = shown_by_dcmtk(path, folder, [*options, *side])
    assert scaled is not None
    factors = (scaled.shape[0] / stored.shape[0], scaled.shape[1] / stored.shape[1])
    return zoom(stored.astype(float), factors, order=1, mode="nearest", grid_mode=True)


def distance(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    """Largest distance in levels of 256, and the share of the pixels that lie more than one apart."""
    assert ours.shape == theirs.shape
    apart = np.abs(np.rint(ours / 257) - np.rint(theirs)).astype(int)
    return int(apart.max()), float((apart > 1).mean())


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.relative_to(SAMPLE_FOLDER).as_posix())
def test_samples_of_pydicom_look_as_dcmtk_shows_them(path, tmp_path):
    expected = EXPLAINED.get(path.name, Difference("", 1))
    try:
        image = read_image(path.read_bytes(), field="image")
    except UnsupportedMedia:
        return
    except InputError:
        assert (shown_by_dcmtk(path, tmp_path, []) is not None) == (path.name in REFUSED)
        return
    theirs = square_as_dcmtk_shows(image, path, tmp_path, view_options(dcmread(path, force=True)))
    assert (theirs is None) == (expected.levels == 0), expected.why
    if theirs is not None:
        levels, share = distance(image.pixels, theirs)
        assert levels <= expected.levels
        assert share <= expected.share


def test_what_is_explained_is_there():
    assert set(EXPLAINED) | set(REFUSED) <= {path.name for path in SAMPLES}
    assert len(SAMPLES) > 80


# The kinds that hospitals send ------------------------------------------------------------------------------------

Y, X = np.mgrid[:60, :80]
FILM = (2000 + 12 * Y + 9 * X + 300 * np.sin(X / 25) * np.cos(Y / 20)).astype(np.uint16)
WINDOW = {"WindowCenter": 2600, "WindowWidth": 2400}


def lut(bits: int) -> Sequence:
    item = Dataset()
    entries = np.rint(4095 * (np.arange(4096) / 4095) ** 0.5).astype(int).tolist()
    item.add_new(0x00283002, "US", [4096, 0, bits])
    item.add_new(0x00283006, "US", entries)
    return Sequence([item])


@pytest.mark.parametrize(
    ("elements", "options"),
    [
        (WINDOW | {"PixelSpacing": [0.4, 0.2]}, ["+Wi", "1"]),
        (WINDOW | {"PixelSpacing": [0.2, 0.3]}, ["+Wi", "1"]),
        (WINDOW | {"ImagerPixelSpacing": [0.4, 0.2]}, ["+Wi", "1"]),
        (WINDOW | {"NominalScannedPixelSpacing": [0.4, 0.2]}, ["+Wi", "1"]),
        (WINDOW | {"PixelAspectRatio": [3, 2]}, ["+Wi", "1"]),
        ({"VOILUTSequence": lut(16)}, ["+Wl", "1", "+Mv"]),
        ({"VOILUTSequence": lut(12)}, ["+Wl", "1"]),
        ({"ModalityLUTSequence": lut(16), "WindowCenter": 3200, "WindowWidth": 1500}, ["+Wi", "1", "+Mm"]),
        ({"WindowCenter": [9, 2600], "WindowWidth": [0, 2400]}, ["+Wi", "2"]),
        (WINDOW | {"RescaleSlope": "1.5", "RescaleIntercept": "-700"}, ["+Wi", "1"]),
        (WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, ["+Wi", "1"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_kinds_that_hospitals_send_look_as_dcmtk_shows_them(elements, options, tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom_file(FILM, **elements))
    image = read_image(path.read_bytes())
    theirs = square_as_dcmtk_shows(image, path, tmp_path, options)
    assert theirs is not None
    levels, _ = distance(image.pixels, theirs)
    assert levels <= 1


@pytest.mark.parametrize("behind", [2, 4096])
@pytest.mark.parametrize("before", [0, 132])
def test_padding_and_missing_preamble_look_as_dcmtk_shows_them(before, behind, tmp_path):
    path = tmp_path / "film.dcm"
    whole = dicom_file(FILM, uid.ImplicitVRLittleEndian, pixel_data=FILM.tobytes() + bytes(behind), **WINDOW)
    path.write_bytes(whole)
    data = whole if before == 0 else without_meta(path)
    path.write_bytes(data)
    theirs = shown_by_dcmtk(path, tmp_path, ["+Wi", "1"])
    assert theirs is not None
    assert distance(read_image(data).pixels, theirs)[0] <= 1


def without_meta(path: Path) -> bytes:
    length = int(dcmread(path).file_meta.FileMetaInformationGroupLength)
    return path.read_bytes()[132 + 12 + length :]


def test_16_bit_colour_png_looks_as_dcmtk_shows_its_dicom_twin(tmp_path):
    colour = np.dstack([FILM * np.uint16(13), FILM[::-1] * np.uint16(11), FILM[:, ::-1] * np.uint16(7)])
    path = tmp_path / "film.dcm"
    path.write_bytes(dicom_file(colour, BitsStored=16, HighBit=15))
    theirs = shown_by_dcmtk(path, tmp_path, ["+G"])
    assert theirs is not None
    for samples in (colour, np.dstack([colour, np.full(FILM.shape, 65535, np.uint16)])):
        assert distance(read_image(png(samples)).pixels, theirs)[0] <= 1
    path.write_bytes(dicom_file(colour, BitsStored=16, HighBit=15, PixelAspectRatio=[3, 2]))
    stretched = read_image(png(colour, density=(3, 2, 0)))
    theirs = square_as_dcmtk_shows(stretched, path, tmp_path, ["+G"])
    assert theirs is not None
    assert distance(stretched.pixels, theirs)[0] <= 1

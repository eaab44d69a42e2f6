"""Tiny DICOM files with known pixels, in every transfer syntax that can be encoded here."""

import zlib  # noqa: F401  GDCM brings a zlib of its own; where it is loaded first, Python's corrupts memory.
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import gdcm
import numpy as np
from PIL import Image as PillowImage
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

HTJ2K_STREAM = (Path(__file__).parent / "htj2k_48x64_12bit.j2c").read_bytes()
LOSSLESS = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)

_ENCODERS = {uid.RLELossless: "pylibjpeg", uid.JPEGLSLossless: "pyjpegls", uid.JPEG2000Lossless: "pylibjpeg"}


def ramp(rows: int = 48, columns: int = 64, bits: int = 12) -> np.ndarray:
    """The picture that is in `HTJ2K_STREAM`, at its default size."""
    y, x = np.mgrid[:rows, :columns]
    return ((x * 50 + y * 11 + (x * y) % 37) % 2**bits).astype(np.uint8 if bits <= 8 else np.uint16)


def header(pixels: np.ndarray, **elements) -> Dataset:
    """Header of an image of these stored values; `elements` are added or, where None, taken away."""
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.PatientID = "MRN-0042"
    dataset.PatientName = "Müller^Anna"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = 12 if pixels.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, transfer_syntax: str) -> bytes:
    """The file of a data set, pixel data included."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True, implicit_vr=None, little_endian=None)
    return file.getvalue()


def dicom_file(
    pixels: np.ndarray,
    transfer_syntax: str = uid.ExplicitVRLittleEndian,
    *,
    pixel_data: bytes | None = None,
    **elements,
) -> bytes:
    """A DICOM file of these stored values.

    `pixel_data` replaces the Pixel Data element as it is; without it the values are encoded in `transfer_syntax`.
    """
    dataset = header(pixels, **elements)
    if pixel_data is not None:
        dataset.PixelData = pixel_data
    elif transfer_syntax in (uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL):
        assert np.array_equal(pixels, ramp())
        dataset.PixelData = encapsulate([HTJ2K_STREAM])
    elif transfer_syntax == uid.JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([jpeg(pixels)])
    elif transfer_syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        dataset.PixelData = jpeg_lossless(dicom_file(pixels, **elements), transfer_syntax)
    else:
        native = pixels.astype(pixels.dtype.newbyteorder(">")) if transfer_syntax == uid.ExplicitVRBigEndian else pixels
        dataset.PixelData = native.tobytes() + b"\x00" * (native.nbytes % 2)
        if uid.UID(transfer_syntax).is_encapsulated:
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
            dataset.set_original_encoding(False, True)
            dataset.compress(transfer_syntax, generate_instance_uid=False, encoding_plugin=_ENCODERS[transfer_syntax])
            return written(dataset, transfer_syntax)
    dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 and transfer_syntax in LOSSLESS[:4] else "OB"
    if uid.UID(transfer_syntax).is_encapsulated:
        dataset["PixelData"].is_undefined_length = True
    elif transfer_syntax == uid.ImplicitVRLittleEndian:
        dataset["PixelData"].VR = "OW"
    return written(dataset, transfer_syntax)


def jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    file = BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def jpeg_lossless(native_file: bytes, transfer_syntax: str) -> bytes:
    """Encapsulated pixel data of a native file, compressed by GDCM, which reads and writes files only."""
    with TemporaryDirectory() as folder:
        source, target = f"{folder}/native.dcm", f"{folder}/compressed.dcm"
        Path(source).write_bytes(native_file)
        reader = gdcm.ImageReader()
        reader.SetFileName(source)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(transfer_syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(target)
        assert writer.Write()
        return dcmread(target).PixelData

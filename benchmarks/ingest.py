"""What reading an image costs beside its codec: ``python benchmarks/ingest.py [--size 2048] [--rounds 15]``.

For each encoding, three ways are timed in turn, round by round, and their medians compared:

bare    the codec alone, on a stream already taken out of its file, to an array of stored values
read    `read_image`: parse, check, decode, modality and VOI transformation to display values, SHA-256
pool    `DecodePool.decode` with one worker: the same in another process, bytes there and pixels back
"""

from __future__ import annotations

import argparse
import statistics
import time
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
from _options import read_options
from PIL import Image as PillowImage
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from rich.console import Console
from rich.table import Table

from consilium.formats.dicom.pixels import DECODERS
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.records import read_image

ENCODERS = {uid.RLELossless: "pylibjpeg", uid.JPEGLSLossless: "pyjpegls", uid.JPEG2000Lossless: "pylibjpeg"}
NATIVE = (uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian)


def picture(size: int) -> np.ndarray:
    """A 12-bit picture about as compressible as a radiograph: smooth structure and quantum noise."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    smooth = 2000 + 900 * np.sin(9 * x) * np.cos(7 * y) + 400 * np.sin(60 * y)
    return np.clip(smooth + generator.normal(0, 12, (size, size)), 0, 4095).astype(np.uint16)


def dicom_bytes(pixels: np.ndarray, syntax: uid.UID) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = 12 if pixels.itemsize == 2 else 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (dataset.BitsStored - 1), 2**dataset.BitsStored
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.set_original_encoding(False, syntax != uid.ExplicitVRBigEndian)
    dataset.PixelData = pixels.astype(">u2" if syntax == uid.ExplicitVRBigEndian else pixels.dtype).tobytes()
    dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    if syntax == uid.JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([pillow_bytes(pixels, "JPEG")])
        dataset["PixelData"].is_undefined_length = True
    elif syntax not in NATIVE:
        dataset.compress(syntax, encoding_plugin=ENCODERS[syntax], generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def pillow_bytes(pixels: np.ndarray, kind: str) -> bytes:
    file = BytesIO()
    PillowImage.fromarray(pixels).save(file, kind)
    return file.getvalue()


def bare_dicom(data: bytes, syntax: uid.UID) -> Callable[[], object]:
    dataset = dcmread(BytesIO(data))
    if syntax in NATIVE:
        raw = dataset.PixelData
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            deflated = zlib.compress(raw)
            return lambda: np.frombuffer(zlib.decompress(deflated), np.uint16).copy()
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        return lambda: np.frombuffer(raw, f"{order}u2").astype(np.uint16)
    decoder = get_decoder(syntax)
    return lambda: decoder.as_array(dataset, index=0, raw=True, decoding_plugin=DECODERS[syntax])


def bare_raster(data: bytes) -> Callable[[], object]:
    return lambda: np.array(PillowImage.open(BytesIO(data)))


def cases(size: int) -> dict[str, tuple[bytes, Callable[[], object]]]:
    deep = picture(size)
    flat = (deep >> 4).astype(np.uint8)
    made: dict[str, tuple[bytes, Callable[[], object]]] = {}
    for syntax in (*NATIVE, *ENCODERS, uid.JPEGBaseline8Bit):
        data = dicom_bytes(flat if syntax == uid.JPEGBaseline8Bit else deep, syntax)
        made[f"DICOM {syntax.keyword}"] = data, bare_dicom(data, syntax)
    for kind, pixels in (("PNG", deep), ("TIFF", deep), ("JPEG", flat)):
        data = pillow_bytes(pixels, kind)
        made[f"{kind} {8 * pixels.itemsize} bit"] = data, bare_raster(data)
    return made


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--size", type=int, default=2048)
    arguments.add_argument("--rounds", type=int, default=15)
    options = read_options(arguments, argv, size=64, rounds=1)
    table = Table("encoding", "bytes", "bare ms", "read ms", "pool ms", "read / bare", "pool / bare")
    with DecodePool(1) as pool:
        for name, (data, bare) in cases(options.size).items():
            ways = (bare, lambda data=data: read_image(data), lambda data=data: pool.decode(data, "images"))
            rounds = [[seconds(way) for way in ways] for _ in range(options.rounds + 1)][1:]
            medians = [1e3 * statistics.median(column) for column in zip(*rounds, strict=True)]
            ratios = [statistics.median(row[i] / row[0] for row in rounds) for i in (1, 2)]
            table.add_row(
                name, f"{len(data):,}", *(f"{median:.1f}" for median in medians), *(f"{ratio:.2f}" for ratio in ratios)
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

"""Readers that a decode pool runs in tests, beside `read_image`: imported by its workers."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from consilium.domain.errors import InputError
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.records import read_image


def misbehaving(data, *, field, limits):
    """Do what the bytes say: a decoder that hangs, dies, or eats memory; every other input is read."""
    if data == b"hang":
        while True:
            time.sleep(60)
    if data == b"die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"exit":
        os._exit(0)
    if data == b"eat":
        np.ones(2**33, dtype=np.uint8)
    if data.startswith(b"die once "):
        _die_once(Path(data[9:].decode()))
        return image_of(data)
    if data == b"hoard":
        _HOARD.append(np.ones(2**27, dtype=np.uint8))
        return image_of(data)
    if data == b"imported torch?":
        return Image(np.eye(9, dtype=np.uint16), "yes" if "torch" in sys.modules else "no", "png")
    if data == b"raise":
        raise ValueError("quotes the file")
    if data == b"raise input":
        raise InputError(field, "seven", "must be eight")
    if data.startswith(b"sleep"):
        time.sleep(float(data[5:]))
        return image_of(data)
    return read_image(data, field=field, limits=limits)


_HOARD: list[np.ndarray] = []


def _die_once(mark: Path) -> None:
    """The first process that comes here is killed, as the system does that is short of memory."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def large(data, *, field, limits):
    """An image that takes a while to come back, with the worker's process id."""
    return Image(np.full((2000, 2000), int(data), np.uint16), str(os.getpid()), "png")


def image_of(text: bytes) -> Image:
    """An image that carries a text."""
    return Image(np.zeros((1, 1), np.uint16), text.decode(), "png")


def confessing(data, *, field, limits):
    """An image whose digest tells the worker's process id, signal handling and loaded modules."""
    heavy = {"torch", "monai", "mlflow", "transformers", "lightning", "pandas", "bentoml"} & set(sys.modules)
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return image_of(f"{os.getpid()} {ignored} {','.join(sorted(heavy))}".encode())


def faulting(data, *, field, limits):
    """An image whose digest tells how often the system had to find memory for arrays as large as an image's."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(2**21, np.uint8) for _ in range(8)]
    del held
    return image_of(str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before).encode())

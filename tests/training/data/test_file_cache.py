from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from consilium.domain.study import RecordFile
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.image_record import Image, ViewPosition
from consilium.modalities.image.letterbox import SquareConverter
from consilium.modalities.registry import file_inputs
from training.data.file_cache import FileCache

SIDE = 32
IMAGES = file_inputs()["images"]


def png(seed: int, shape: tuple[int, int] = (40, 50)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(png(number))
    return paths


def open_cache(folder: Path, key: str = "key") -> FileCache:
    converter = SquareConverter(SIDE)
    converter.key = key
    return FileCache(folder, converter)


class CountingPool:
    """The pool, and how often it was asked."""

    def __init__(self, pool: DecodePool) -> None:
        self._pool = pool
        self.workers = pool.workers
        self.asked = 0

    def submit(self, data: bytes, kind: str, field: str = "", converters=()):
        self.asked += 1
        return self._pool.submit(data, kind, field, converters)


@pytest.fixture(scope="module")
def workers():
    with DecodePool(workers=1) as pool:
        yield pool


@pytest.fixture
def pool(workers: DecodePool) -> CountingPool:
    return CountingPool(workers)


def test_squares_are_those_of_the_preprocessing(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 3)
    cache = open_cache(tmp_path / "cache")
    filling = cache.fill(paths, IMAGES, pool)
    for path in paths:
        decoded = pool.submit(path.read_bytes(), "images").result()
        assert filling.digests[path] == decoded.digest
        assert np.array_equal(cache.array(decoded.digest), SquareConverter(SIDE)(decoded))
        stand_in = cache.record(decoded.digest)
        assert stand_in.shape == (40, 50)
        assert stand_in.source == "png"


def test_decoders_that_are_killed_drop_no_sound_image(tmp_path: Path):
    paths = write(tmp_path / "in", 12)
    killed = 0

    def kill() -> None:
        nonlocal killed
        if killed < 2:
            killed += 1
            for process in multiprocessing.active_children():
                if process.name == "consilium-decoder":
                    os.kill(process.pid, signal.SIGKILL)

    with DecodePool(workers=1) as own:
        filling = open_cache(tmp_path / "cache").fill(paths, IMAGES, own, kill)
    assert killed == 2
    assert filling.refused == {}
    assert filling.digests == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_nothing_is_decoded_twice(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 4)
    first = open_cache(tmp_path / "cache")
    first.fill(paths[:3], IMAGES, pool)
    again = open_cache(tmp_path / "cache")
    filling = again.fill(paths, IMAGES, pool)
    assert pool.asked == 4
    assert len(again) == 4
    for digest in filling.digests.values():
        assert again.array(digest).any()


def test_a_changed_file_is_another_image(tmp_path: Path, pool: CountingPool):
    [path] = write(tmp_path / "in", 1)
    cache = open_cache(tmp_path / "cache")
    before = cache.array(cache.fill([path], IMAGES, pool).digests[path]).copy()
    stat = path.stat()
    path.write_bytes(png(99))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = cache.array(cache.fill([path], IMAGES, pool).digests[path])
    assert pool.asked == 2
    assert not np.array_equal(before, after)


def test_another_preparation_has_another_cache(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 1)
    open_cache(tmp_path / "cache", "one").fill(paths, IMAGES, pool)
    other = open_cache(tmp_path / "cache", "two")
    assert len(other) == 0
    other.fill(paths, IMAGES, pool)
    assert pool.asked == 2


def test_unreadable_files_are_named_and_the_others_kept(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 2)
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    missing = tmp_path / "in" / "missing.png"
    steps = []
    filling = open_cache(tmp_path / "cache").fill([*paths, missing], IMAGES, pool, lambda: steps.append(1))
    assert set(filling.refused) == {paths[0], missing}
    assert set(filling.digests) == {paths[1]}
    assert len(steps) == 3


def test_a_damaged_square_is_decoded_again(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 2)
    digests = open_cache(tmp_path / "cache").fill(paths, IMAGES, pool).digests
    [shard] = (tmp_path / "cache" / "key").glob("arrays-*.bin")
    squares = np.memmap(shard, np.uint16, "r+", shape=(2, SIDE, SIDE))
    kept = squares[1].copy()
    squares[0, 3, 3] ^= 1
    squares.flush()
    cache = open_cache(tmp_path / "cache")
    assert len(cache) == 1
    cache.fill(paths, IMAGES, pool)
    assert pool.asked == 3
    assert np.array_equal(cache.array(digests[paths[1]]), kept)
    assert np.array_equal(
        cache.array(digests[paths[0]]), SquareConverter(SIDE)(pool.submit(paths[0].read_bytes(), "images").result())
    )


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 99, "arrays": {}}', b"[]"])
def test_a_damaged_index_starts_over(tmp_path: Path, pool: CountingPool, damage: bytes):
    paths = write(tmp_path / "in", 1)
    open_cache(tmp_path / "cache").fill(paths, IMAGES, pool)
    (tmp_path / "cache" / "key" / "index.json").write_bytes(damage)
    cache = open_cache(tmp_path / "cache")
    assert len(cache) == 0
    digest = cache.fill(paths, IMAGES, pool).digests[paths[0]]
    assert cache.array(digest).any()


def test_a_shard_cut_short_is_decoded_again(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 1)
    open_cache(tmp_path / "cache").fill(paths, IMAGES, pool)
    [shard] = (tmp_path / "cache" / "key").glob("arrays-*.bin")
    os.truncate(shard, 500)
    cache = open_cache(tmp_path / "cache")
    assert len(cache) == 0
    cache.fill(paths, IMAGES, pool)
    assert len(cache) == 1


def test_travels_to_another_process_without_its_pixels(tmp_path: Path, pool: CountingPool):
    paths = write(tmp_path / "in", 1)
    cache = open_cache(tmp_path / "cache")
    digest = cache.fill(paths, IMAGES, pool).digests[paths[0]]
    sent = pickle.dumps(cache)
    assert len(sent) < 2 * SIDE * SIDE
    assert np.array_equal(pickle.loads(sent).array(digest), cache.array(digest))


def test_facts_of_the_file_come_back(tmp_path: Path):
    class OneImage:
        workers = 1

        def submit(self, data: bytes, kind: str, field: str, converters=()):
            class Done:
                def result(self) -> Image:
                    return image

            return Done()

    image = Image(
        np.arange(600, dtype=np.uint16).reshape(20, 30),
        "0" * 64,
        "dicom",
        view=ViewPosition.PA,
        laterality="L",
        pixel_spacing=(0.2, 0.3),
        acquired=datetime(2024, 1, 2, 3, 4, 5),
        patient_digest="p",
        study_digest="s",
        burned_in=False,
    )
    [path] = write(tmp_path / "in", 1)
    cache = open_cache(tmp_path / "cache")
    digest = cache.fill([path], IMAGES, OneImage()).digests[path]
    back = open_cache(tmp_path / "cache").record(digest)
    for name in ("view", "laterality", "pixel_spacing", "acquired", "patient_digest", "study_digest", "burned_in"):
        assert getattr(back, name) == getattr(image, name), name
    assert back.shape == (20, 30)
    listed = RecordFile("images", path, {"view": ViewPosition.AP}).listed(back)
    assert (listed.view, listed.acquired) == (ViewPosition.AP, image.acquired)


FILL = """
import sys
from pathlib import Path
import numpy as np
import training.data.array_store as module
from tests.training.data.test_file_cache import IMAGES, open_cache
from consilium.modalities.image.image_record import Image

class Pool:
    workers = 1
    def submit(self, data, kind, field, converters=()):
        class Done:
            def result(self):
                return Image(np.frombuffer(data, np.uint16).reshape(40, 50), "0" * 64, "png")
        return Done()

module._ROWS_BETWEEN_SAVES = 4
folder, files = Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir())
cache = open_cache(folder)
print("ready", flush=True)
cache.fill(files, IMAGES, Pool())
"""


def test_a_kill_at_any_moment_leaves_only_whole_squares(tmp_path: Path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    rng = np.random.default_rng(0)
    for number in range(300):
        (inputs / f"{number:03d}").write_bytes(rng.integers(0, 65536, (40, 50), dtype=np.uint16).tobytes())
    seen = []
    for delay in (0.02, 0.08, 0.15, 0.3):
        command = [sys.executable, "-c", FILL, str(tmp_path / "cache"), str(inputs)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        index = tmp_path / "cache" / "key" / "index.json"
        named = len(json.loads(index.read_text())["arrays"]) if index.exists() else 0
        cache = open_cache(tmp_path / "cache")
        # Every square that the index names is whole: none fails its checksum.
        assert len(cache) == named
        seen.append(named)
    assert seen == sorted(seen)
    assert seen[-1] > 0
    for path in inputs.iterdir():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in cache:
            pixels = np.frombuffer(path.read_bytes(), np.uint16).reshape(40, 50)
            assert np.array_equal(cache.array(digest), SquareConverter(SIDE)(Image(pixels, digest, "png")))

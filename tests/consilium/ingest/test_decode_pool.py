import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

from consilium.domain.errors import (
    DecodeFailed,
    DecodersDied,
    DecoderUnavailable,
    InputError,
    TooLarge,
    UnreadableImage,
    UnsupportedMedia,
)
from consilium.ingest import decode_pool
from consilium.ingest.decode_pool import DecodePool
from consilium.modalities.image.files.dicom_image import read_dicom
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.letterbox import SquareConverter
from consilium.modalities.registry import default_limits
from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp
from tests.consilium.ingest.pool_readers import confessing, faulting, large, misbehaving
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[3]
FILE = dicom_file(ramp())


@pytest.fixture(scope="module")
def pool():
    with DecodePool(2, seconds=1.0, limits=default_limits().but(image_pixels=10_000), reader=misbehaving) as made:
        yield made


def test_image_is_that_of_the_reader(pool, tmp_path):
    expected = read_dicom(FILE)
    path = tmp_path / "name says nothing.pdf"
    path.write_bytes(FILE)
    for source in (FILE, path):
        got = pool.decode(source, "images")
        np.testing.assert_array_equal(got.pixels, expected.pixels)
        assert (got.digest, got.source, got.pixels.dtype) == (expected.digest, "dicom", np.uint16)


def test_a_decoder_condenses_an_image_to_the_squares_that_are_asked_for(pool):
    converters = (SquareConverter(16), SquareConverter(48))
    whole, light = read_dicom(FILE), pool.submit(FILE, "images", "", converters).result()
    assert light.pixels.size == 0
    for converter in converters:
        np.testing.assert_array_equal(converter(light), converter(whole))
    assert (light.facts(), light.digest, light.blank) == (whole.facts(), whole.digest, False)


def test_a_decoder_that_condenses_imports_no_torch(pool):
    light = pool.submit(b"imported torch?", "images", "", (SquareConverter(16),)).result()
    assert light.digest == "no"


def test_errors_come_through_with_their_fields(pool, tmp_path):
    with pytest.raises(InputError) as refused:
        pool.decode(b"raise input", "images", "images[3]")
    assert (refused.value.field, refused.value.value, refused.value.rule) == ("images[3]", "seven", "must be eight")
    with pytest.raises(UnsupportedMedia, match=r"images\[1\]: got 'PDF'"):
        pool.decode(b"%PDF-1.7", "images", "images[1]")
    with pytest.raises(TooLarge, match="10000 pixels"):
        pool.decode(dicom_file(ramp(101, 100)), "images")
    with pytest.raises(UnreadableImage, match="readable file"):
        pool.decode(tmp_path / "missing.dcm", "images")


@pytest.mark.parametrize("deed", [b"hang", b"die", b"exit", b"eat", b"raise"])
def test_what_a_decoder_does_to_itself_ends_one_task_only(pool, deed):
    others = [pool.submit(FILE, "images", f"images[{i}]") for i in range(3)]
    bad = pool.submit(deed, "images", "images[9]")
    others += [pool.submit(FILE, "images", f"images[{i}]") for i in range(10, 13)]
    with pytest.raises(DecodeFailed) as failed:
        bad.result(timeout=PATIENCE_S)
    assert failed.value.field == "images[9]"
    assert "quotes" not in str(failed.value)
    assert all(other.result(timeout=PATIENCE_S).shape == (48, 64) for other in others)


def test_map_keeps_the_order_and_gives_errors_as_values(pool, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(FILE)
    slow_first = [b"sleep0.3", FILE, b"%PDF", path, b"die", b"sleep0.0"]
    results = list(pool.map(slow_first, "images"))
    kinds = [type(result).__name__ for result in results]
    assert kinds == ["Image", "Image", "UnsupportedMedia", "Image", "DecodersDied", "Image"]
    assert results[0].digest == "sleep0.3"
    assert results[2].field == "images[2]"


def test_map_holds_few_at_once(pool):
    taken = []

    def sources():
        for i in range(100):
            taken.append(i)
            yield FILE

    results = pool.map(sources(), "images")
    next(results)
    assert len(taken) == 4 * pool.workers
    results.close()
    assert len(taken) == 4 * pool.workers


def test_awaited_from_asyncio_and_cancelled():
    async def main(pool):
        image = await asyncio.wrap_future(pool.submit(FILE, "images"))
        waiting = [asyncio.ensure_future(asyncio.wrap_future(pool.submit(b"hang", "images"))) for _ in range(24)]
        await asyncio.sleep(0.1)
        for future in waiting:
            future.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(future.cancelled() for future in waiting)
        # Cancelled tasks are dropped or killed, not waited for: none of them would ever end.
        return image, await asyncio.wait_for(asyncio.wrap_future(pool.submit(FILE, "images")), PATIENCE_S)

    with DecodePool(2, seconds=10 * PATIENCE_S, reader=misbehaving) as pool:
        first, last = asyncio.run(main(pool))
    assert first.shape == last.shape == (48, 64)


def test_workers_are_light_ignore_ctrl_c_and_outlive_the_thread_that_made_the_pool():
    made = []
    thread = threading.Thread(target=lambda: made.append(DecodePool(1, reader=confessing)))
    thread.start()
    thread.join()
    with made[0] as pool:
        first = pool.decode(b"", "images").digest
        time.sleep(0.3)
        pid, ignored, heavy = first.split(" ")
        assert pool.decode(b"", "images").digest == first
        assert int(pid) != os.getpid()
        assert ignored == "True"
        assert heavy == ""
        os.kill(int(pid), signal.SIGINT)
        assert pool.decode(b"", "images").digest == first


def test_an_image_gets_the_memory_of_the_one_before_it():
    with DecodePool(1, reader=faulting) as pool:
        faults = [int(pool.decode(b"", "images").digest) for _ in range(4)]
    pages = 8 * 2**21 // os.sysconf("SC_PAGE_SIZE")
    assert faults[0] > pages // 2
    assert max(faults[2:]) < pages // 100


def test_import_is_light():
    code = (
        "import sys, consilium.ingest.study_records, consilium.ingest.decode_pool, consilium.ingest.deidentify\n"
        "print({'torch','monai','mlflow','transformers','pandas','pint','scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pool_outlives_the_death_of_an_idle_worker(workers):
    with DecodePool(workers, reader=confessing) as pool:
        pid = int(pool.decode(b"", "images").digest.split()[0])
        os.kill(pid, signal.SIGKILL)
        futures = [pool.submit(b"", "images") for _ in range(5)]
        assert all(future.result(timeout=PATIENCE_S) for future in futures)
        time.sleep(0.5)
        assert int(pool.submit(b"", "images").result(timeout=PATIENCE_S).digest.split()[0]) != pid


def test_an_image_whose_decoder_is_killed_is_decoded_again(pool, tmp_path):
    assert pool.decode(f"die once {tmp_path / 'mark'}".encode(), "images").digest.startswith("die once")
    assert (tmp_path / "mark").exists()


def test_only_an_image_that_kills_two_decoders_is_refused_and_says_so(pool):
    with pytest.raises(DecodersDied) as refused:
        pool.decode(b"die", "images", "images[4]")
    assert str(refused.value) == "images[4]: got 'killed two decoders (SIGSEGV, SIGSEGV)', must be decodable"


def test_memory_that_another_image_has_left_full_is_no_fault_of_this_one():
    with DecodePool(1, memory_bytes=750 * 2**20, reader=misbehaving) as pool:
        assert all(pool.decode(b"hoard", "images").digest == "hoard" for _ in range(5)), (
            "five do not fit into one process"
        )


def test_decoders_killed_under_load_lose_no_image_and_mix_none_up():
    """Also amid the way back, where a pipe that is shared would be left locked and half full."""
    futures, others = [], _decoders()
    with DecodePool(2, reader=large) as pool:

        def submit(count):
            numbers = range(len(futures), len(futures) + count)
            futures.extend(pool.submit(str(n).encode(), "images", f"images[{n}]") for n in numbers)

        first = set(_decoders()) - set(others)
        for worker in sorted(first):
            submit(40)
            wait(futures[-40:-30], PATIENCE_S)
            os.kill(worker, signal.SIGKILL)
            wait(futures, PATIENCE_S)  # so that no image meets two kills, and is refused, and rightly
        submit(10)
        images = [future.result(timeout=PATIENCE_S) for future in futures]
    assert [int(image.pixels[0, 0]) for image in images] == list(range(90))
    assert all((image.pixels == n).all() for n, image in enumerate(images))
    assert {int(image.digest) for image in images} - first, "who was killed has a successor"


def test_decoders_ignore_the_signal_that_stops_a_service():
    with DecodePool(2, reader=large) as pool:
        before = _decoders()
        futures = [pool.submit(b"7", "images") for _ in range(50)]
        for worker in before:
            os.kill(worker, signal.SIGTERM)
        assert {int(future.result(timeout=PATIENCE_S).digest) for future in futures} <= set(before)
        assert _decoders() == before


def test_where_no_decoder_can_live_it_is_not_the_image_that_is_refused(monkeypatch):
    monkeypatch.setattr(decode_pool, "_START_AGAIN_S", 0.0)
    with pytest.raises(DecoderUnavailable, match="no decoding process can be started"):
        DecodePool(1, reader=EndsWhoeverReadsIt())


class EndsWhoeverReadsIt:
    def __reduce__(self):
        return os._exit, (3,)


def _decoders():
    return sorted(child.pid for child in multiprocessing.active_children() if child.name == "consilium-decoder")


def test_a_module_that_a_reader_lacks_is_named_at_once(monkeypatch, tmp_path, capfd):
    block = """
        import sys

        class Block:
            def find_spec(self, name, path=None, target=None):
                if name == "pydicom":
                    raise ModuleNotFoundError(name, name=name)

        sys.meta_path.insert(0, Block())
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(block))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(DecoderUnavailable, match="pydicom is not installed"):
        DecodePool(1)
    with DecodePool(1, start=False) as one:
        for _ in range(2):
            with pytest.raises(DecoderUnavailable, match="pydicom is not installed"):
                one.decode(b"", "images")
    assert "Traceback" not in capfd.readouterr().err


def test_closing_ends_what_is_under_way():
    before = _decoders()
    pool = DecodePool(1, reader=misbehaving)
    future = pool.submit(b"hang", "images")
    time.sleep(0.2)
    pool.close()
    pool.close()
    with pytest.raises(DecoderUnavailable, match="closed"):
        future.result(timeout=PATIENCE_S)
    assert _decoders() == before


def test_a_pool_that_waits_for_its_first_image_starts_nothing_before():
    before = set(multiprocessing.active_children())
    with DecodePool(1, start=False) as pool:
        assert set(multiprocessing.active_children()) == before
        assert pool.decode(FILE, "images").shape == read_dicom(FILE).shape
        assert len(set(multiprocessing.active_children()) - before) == 1
    with DecodePool(1, start=False) as pool:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(FILE, "images")


def test_workers_die_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from consilium.ingest.decode_pool import DecodePool
            from tests.consilium.ingest.pool_readers import confessing, misbehaving
            if __name__ == "__main__":
                idle, busy = DecodePool(1, reader=confessing), DecodePool(1, reader=misbehaving)
                busy.submit(b"hang", "images")
                print(idle.decode(b"", "images").digest.split()[0], flush=True)
                time.sleep(60)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    worker = int(parent.stdout.readline())
    workers = {int(pid) for pid in _children(parent.pid)}
    assert worker in workers
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and any(_alive(pid) for pid in workers):
        time.sleep(0.05)
    assert not [pid for pid in workers if _alive(pid)]


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split() + [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        if task.name != str(pid)
        for child in (task / "children").read_text().split()
    ]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_thousands_of_small_files_cost_little_more_than_reading_them():
    count = 300
    with DecodePool(2) as pool:
        pool.decode(FILE, "images")
        start = time.process_time()
        assert all(isinstance(result, Image) for result in pool.map([FILE] * count, "images"))
        handing = time.process_time() - start
    start = time.process_time()
    for _ in range(count):
        read_dicom(FILE)
    # Of this process alone, and its own time, which no other process on the machine adds to.
    assert handing < 3 * (time.process_time() - start)

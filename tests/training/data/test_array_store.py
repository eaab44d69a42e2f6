"""Arrays of any shape and type come back as they were stored; what is no number is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import training.data.array_store as module
from training.data.array_store import ArrayStore

ARRAYS = {
    "volume": np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4),
    "signal": np.linspace(0, 1, 5003, dtype=np.float32).reshape(-1, 1),
    "one number": np.float64(3.5) * np.ones(()),
    "nothing": np.zeros((0, 7), np.uint8),
    "mask": np.array([True, False, True]),
    "turned": np.arange(12, dtype=np.uint16).reshape(3, 4).T,
}


def fill(folder: Path) -> None:
    with ArrayStore(folder).filling() as writer:
        for name, array in ARRAYS.items():
            writer.add(name, array, {"name": name})


def test_arrays_of_any_shape_come_back(tmp_path: Path) -> None:
    fill(tmp_path)
    store = ArrayStore(tmp_path)

    assert len(store) == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert (store[name].dtype, store[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(store[name], array)
        assert store.facts(name) == {"name": name}
        assert not store[name].flags.writeable


def test_an_array_that_was_stored_stays(tmp_path: Path) -> None:
    fill(tmp_path)
    store = ArrayStore(tmp_path)
    with store.filling() as writer:
        writer.add("volume", np.zeros(3), {"name": "other"})

    assert np.array_equal(store["volume"], ARRAYS["volume"])
    assert len(list(tmp_path.glob("arrays-*.bin"))) == 1


def test_a_full_shard_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD_BYTES", 1000)
    with ArrayStore(tmp_path).filling() as writer:
        for number in range(10):
            writer.add(str(number), np.full(100, number), {})
    store = ArrayStore(tmp_path)

    assert len(list(tmp_path.glob("arrays-*.bin"))) == 5
    assert [int(store[str(number)].sum()) for number in range(10)] == [100 * number for number in range(10)]


def test_what_one_process_writes_another_reads_that_had_the_shard_open(tmp_path: Path) -> None:
    first = ArrayStore(tmp_path)
    with first.filling() as writer:
        writer.add("a", np.arange(3), {})
        early = ArrayStore(tmp_path)
        writer.add("b", np.arange(4), {})
    with early.filling():
        pass

    assert np.array_equal(early["b"], np.arange(4))
    assert np.array_equal(pickle.loads(pickle.dumps(early))["a"], np.arange(3))


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    with ArrayStore(tmp_path).filling() as writer, pytest.raises(TypeError, match="must be numbers"):
        writer.add("object", np.array([{}]), {})
    assert len(ArrayStore(tmp_path)) == 0
    assert not list(tmp_path.glob("arrays-*"))


@pytest.mark.parametrize(
    ("old", "new"), [('"<i2"', '"|O"'), ('"<i2"', '"<i8"'), ('"crc32": ', '"crc32": 1'), ('"start": 0', '"start": 64')]
)
def test_an_index_that_was_altered_gives_no_array(tmp_path: Path, old: str, new: str) -> None:
    with ArrayStore(tmp_path).filling() as writer:
        writer.add("volume", ARRAYS["volume"], {})
    index = tmp_path / "index.json"
    text = index.read_text(encoding="utf-8")
    assert old in text
    index.write_text(text.replace(old, new), encoding="utf-8")

    assert len(ArrayStore(tmp_path)) == 0

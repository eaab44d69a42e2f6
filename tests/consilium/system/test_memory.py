"""How much memory a process has used, whatever the one that started it had."""

from __future__ import annotations

import subprocess
import sys

from consilium.system.memory import peak_memory

_PRINT = "from consilium.system.memory import peak_memory; print(peak_memory())"
_MEBIBYTE = 1 << 20


def test_what_was_in_memory_for_a_moment_counts() -> None:
    before = peak_memory()
    block = bytearray(2 * before)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    del block

    assert peak_memory() >= 2 * before


def test_the_memory_of_the_process_that_started_this_one_does_not_count() -> None:
    block = bytearray(400 * _MEBIBYTE)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])

    found = subprocess.run([sys.executable, "-c", _PRINT], check=True, capture_output=True, text=True)

    assert 1 * _MEBIBYTE < int(found.stdout) < 200 * _MEBIBYTE

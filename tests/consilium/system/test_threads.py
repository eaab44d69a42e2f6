from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from consilium.system.threads import limit_threads


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (3, 1), (16, 8)])
def test_half_of_the_cores_by_default(monkeypatch: pytest.MonkeyPatch, cores: int, expected: int) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert limit_threads() == expected
    assert torch.get_num_threads() == expected


def test_what_is_asked_for_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert limit_threads() == 3
    assert limit_threads(2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert limit_threads() == 1

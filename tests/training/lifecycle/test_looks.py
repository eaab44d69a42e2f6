"""Looks at one test set share one chance of error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from training.lifecycle import looks
from training.lifecycle.gate_file import Gates
from training.lifecycle.looks import share_of_alpha, studies_digest, take_look


def _gates(**changes: object) -> Gates:
    return Gates.model_validate({"alpha": 0.04, "looks": 4, "size": {}} | changes)


@pytest.mark.parametrize("spending", ["equal", "obrien_fleming"])
def test_all_looks_together_spend_alpha_and_no_more(spending: str):
    gates = _gates(spending=spending)
    shares = [share_of_alpha(gates, number) for number in range(1, 7)]
    assert sum(shares) == pytest.approx(0.04)
    assert shares[4:] == [0.0, 0.0]
    assert min(shares[:4]) > 0


def test_equal_looks_have_equal_shares_and_others_grow():
    assert share_of_alpha(_gates(), 3) == pytest.approx(0.01)
    late = [share_of_alpha(_gates(spending="obrien_fleming"), number) for number in range(1, 5)]
    assert late == sorted(late)
    # Lan and DeMets: 2 - 2 Phi(z / sqrt(1/4)) with Phi(z) = 1 - .02
    assert late[0] == pytest.approx(3.99e-05, rel=0.01)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """Tags of three versions, by version."""
    tags: dict[str, dict[str, str]] = {"1": {}, "2": {}, "3": {}}
    listed = lambda name: [SimpleNamespace(version=number, tags=dict(of)) for number, of in tags.items()]  # noqa: E731
    monkeypatch.setattr(looks.registry, "list_versions", listed)
    setting = SimpleNamespace(set_tag=lambda name, version, key, value: tags[version].update({key: value}))
    monkeypatch.setattr(looks, "open_registry", lambda: setting)
    return tags


def test_each_candidate_is_another_look_and_a_repeated_one_is_not(registry: dict[str, dict[str, str]]):
    gates, studies = _gates(), studies_digest(["S1", "S2"])
    assert take_look("m", "2", studies, "models:/m/1", gates).number == 1
    assert take_look("m", "3", studies, "models:/m/1", gates).number == 2
    assert take_look("m", "2", studies, "models:/m/1", gates).number == 1
    assert take_look("m", "2", studies, "models:/m/1", _gates(alpha=0.2)).number == 3, "other gates look anew"
    assert take_look("m", "2", studies_digest(["S3"]), "models:/m/1", gates).number == 1, "other studies"
    assert sum(len(of) for of in registry.values()) == 4


def test_once_all_looks_are_taken_nothing_is_left(registry: dict[str, dict[str, str]]):
    studies = studies_digest(["S1"])
    found = [take_look("m", "2", studies, f"models:/m/{other}", _gates()) for other in range(5)]
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert found[4].alpha == 0


def test_studies_are_known_again_in_any_order():
    assert studies_digest(["b", "a"]) == studies_digest(["a", "b"]) != studies_digest(["ab"])

"""A short soak, and that a verdict finds what could go wrong in one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.soak.callers import Answered, Outcome, Retry
from tests.soak.campaign import GOOD, Plan, Soaked, Swap, run
from tests.soak.hostile import make_hostile
from tests.soak.verdict import failures

REQUESTS = 400


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    return run(Plan(REQUESTS, concurrency=16), tmp_path_factory.mktemp("soak"))


def test_a_service_is_moved_and_killed_and_no_answer_is_wrong_or_lost(soaked: Soaked) -> None:
    assert failures(soaked) == []
    assert len({answer.manifest_digest for answer in soaked.outcome.answers}) == GOOD
    assert set(soaked.outcome.refused) == {hostile.name for hostile in make_hostile()}
    assert len(soaked.outcome.answers) + soaked.outcome.refused.total() == REQUESTS
    assert [what for what, *_ in soaked.trouble.down] == ["worker killed", "all killed"]
    assert len(soaked.trouble.swaps) == 3
    assert soaked.outcome.retried, "the kills were felt"


def with_last(change: Callable[[Answered], Answered]) -> Callable[[Outcome], Outcome]:
    """The same, of which the last answer was another one."""
    return lambda outcome: replace(outcome, answers=[*outcome.answers[:-1], change(outcome.answers[-1])])


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        (with_last(lambda one: replace(one, probabilities=(one.probabilities[0] + 1e-4, 0.5))), "says"),
        (with_last(lambda one: replace(one, manifest_digest="0" * 64)), "which was never good"),
        (with_last(lambda one: replace(one, study=(one.study + 1) % 24)), "to other records"),
        (with_last(lambda one: replace(one, result_id="0" * 32)), "is not in the audit log"),
        (lambda outcome: replace(outcome, answers=[*outcome.answers, outcome.answers[0]]), "the same result id"),
        (lambda outcome: replace(outcome, answers=outcome.answers[1:]), "were never answered"),
        (lambda outcome: replace(outcome, wrong=["study 3: 500"]), "study 3: 500"),
        (lambda outcome: replace(outcome, retried=[Retry("503", 1.0, 2.0)]), "turned away while the service was up"),
    ],
)
def test_a_verdict_finds_a_wrong_answer(soaked: Soaked, altered: Callable[[Outcome], Outcome], message: str) -> None:
    assert any(message in failure for failure in failures(replace(soaked, outcome=altered(soaked.outcome))))


def test_a_verdict_finds_an_answer_of_a_version_that_was_replaced(soaked: Soaked) -> None:
    last = soaked.outcome.answers[-1]
    trouble = replace(soaked.trouble, retired={last.version: last.begun - 1})
    assert any("after it was replaced" in failure for failure in failures(replace(soaked, trouble=trouble)))


def test_a_verdict_finds_memory_that_a_swap_kept(soaked: Soaked) -> None:
    for held, found in ((109, False), (111, True)):
        trouble = replace(soaked.trouble, swaps=[Swap("2", 100 << 20, held << 20, 1.0)])
        answer = failures(replace(soaked, trouble=trouble))
        assert any("111 MiB are held idle, 100 MiB before" in failure for failure in answer) == found


def test_a_verdict_finds_an_answer_that_is_another_one_in_the_audit_log(soaked: Soaked, tmp_path: Path) -> None:
    altered = tmp_path / "audit-log.db"
    with sqlite3.connect(soaked.record) as whole, sqlite3.connect(altered) as copy:
        whole.backup(copy)
        copy.execute("UPDATE results SET manifest_digest = 'ab'")
    assert any("is another one in the audit log" in line for line in failures(replace(soaked, record=altered)))

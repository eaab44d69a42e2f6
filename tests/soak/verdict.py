"""What was wrong with a soak; nothing, where the service may be left running."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

from tests.soak.callers import Answered, Retry
from tests.soak.campaign import GOOD, Soaked

TOLERANCE = 1e-5
"""Of a probability, between batches of different studies."""
_MEMORY = 0.1
"""Share by which idle memory may grow with a swap."""
_MOST_SHOWN = 5


def failures(soaked: Soaked) -> list[str]:
    """One sentence for each thing that is wrong."""
    found = [
        *soaked.outcome.wrong,
        *soaked.trouble.wrong,
        *_unanswered(soaked),
        *(wrong for answer in soaked.outcome.answers for wrong in _wrong_answer(soaked, answer)),
        *(wrong for retry in soaked.outcome.retried for wrong in _wrong_retry(soaked, retry)),
        *_unrecorded(soaked),
        *_grown(soaked),
    ]
    return found if len(found) <= _MOST_SHOWN else [*found[:_MOST_SHOWN], f"and {len(found) - _MOST_SHOWN} more"]


def _unanswered(soaked: Soaked) -> Iterator[str]:
    outcome = soaked.outcome
    total = len(outcome.answers) + outcome.refused.total() + len(outcome.wrong)
    if total != soaked.plan.requests:
        yield f"{soaked.plan.requests - total} of {soaked.plan.requests} requests were never answered"
    answered_by = Counter(answer.version for answer in outcome.answers)
    if len(answered_by) != GOOD:
        yield f"versions {sorted(answered_by)} answered, must be {GOOD}"


def _wrong_answer(soaked: Soaked, answer: Answered) -> Iterator[str]:
    expected = soaked.expected[answer.study]
    what = f"study {answer.study}, result {answer.result_id}"
    if answer.input_digests != expected.input_digests:
        yield f"{what}: the answer is to other records"
    right = expected.probabilities.get(answer.manifest_digest)
    if right is None:
        yield f"{what}: answered by version {answer.version}, which was never good"
    elif max(abs(one - other) for one, other in zip(answer.probabilities, right, strict=True)) > TOLERANCE:
        yield f"{what}: got {answer.probabilities}, version {answer.version} says {right}"
    retired = soaked.trouble.retired.get(answer.version)
    if retired is not None and answer.begun > retired:
        yield f"{what}: version {answer.version} answered a request that began after it was replaced"


def _wrong_retry(soaked: Soaked, retry: Retry) -> Iterator[str]:
    """Nothing but a kill is a reason to turn a well-behaved caller away."""
    if not any(begun <= retry.ended and retry.begun <= ended for _, begun, ended in soaked.trouble.down):
        yield f"{retry.reason}: a caller was turned away while the service was up"


def _unrecorded(soaked: Soaked) -> Iterator[str]:
    with closing(sqlite3.connect(soaked.record)) as record:
        (integrity,) = record.execute("PRAGMA integrity_check").fetchone()
        rows = record.execute("SELECT result_id, manifest_digest, findings FROM results").fetchall()
    if integrity != "ok":
        yield f"the audit log is damaged: {integrity}"
    kept = {UUID(hex=result_id): (digest, json.loads(findings)) for result_id, digest, findings in rows}
    if len({answer.result_id for answer in soaked.outcome.answers}) != len(soaked.outcome.answers):
        yield "two requests got the same result id"
    for answer in soaked.outcome.answers:
        digest, findings = kept.get(UUID(answer.result_id), (None, []))
        if digest is None:
            yield f"result {answer.result_id} was acknowledged and is not in the audit log"
        elif (digest, [one["probability"] for one in findings]) != (answer.manifest_digest, [*answer.probabilities]):
            yield f"result {answer.result_id} is another one in the audit log"


def _grown(soaked: Soaked) -> Iterator[str]:
    for swap in soaked.trouble.swaps:
        if swap.after > (1 + _MEMORY) * swap.before:
            yield f"version {swap.version}: {swap.after >> 20} MiB are held idle, {swap.before >> 20} MiB before"

"""The audit of a pretraining: whether the encoders align what the records show, or where they were made.

A marker and the style of a heading are the easiest pair to align, and say nothing of the patient. So retrieval is set
beside what is possible, as far as the cohort knows it: above it is a leak. And it is measured within single sources
against over all of them, and so is the similarity of records of different studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from consilium.calibration import patient_bootstrap
from consilium.domain.errors import TrainingError
from training.cohorts.cohort_kind import Pairs
from training.data.cached_cohort import CachedCohort
from training.evaluation.comparisons import FALSE_ALARM_RATE
from training.pretraining.embeddings import Embeddings, Floats
from training.pretraining.objectives.pretraining_objective import Pair
from training.pretraining.retrieval import Ranking, galleries, rank_in_galleries

SOUND, SUSPECT, LEAK = "sound", "suspect", "leak"
ALL, WITHIN = "all sources", "within a source"

LARGEST_GAP = 0.02
"""Of the similarity between records of other studies of the same source, above that of other sources."""
LARGEST_DROP = 0.02
"""Of the mean rank within single sources, below that over all."""
_FEWEST = 10
_REPLICATES = 200


@dataclass(frozen=True, slots=True, eq=False)
class EncoderAudit:
    """What was found.

    Attributes
    ----------
    retrieval : DataFrame
        One row a stage, pair and scope: ``queries``, ``r1``, ``r10`` and ``rank`` (`training.pretraining.retrieval`),
        and ``possible_r1``, ... where the cohort knows.
    similarity : DataFrame
        One row a stage and pair: mean cosine of the ``own`` pair, of other pairs of the ``same_source`` and of
        ``other_sources``, and the ``gap`` between the two.
    leaks, concerns : tuple of str
    """

    retrieval: pd.DataFrame
    similarity: pd.DataFrame
    leaks: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`LEAK`, `SUSPECT` or `SOUND`."""
        if self.leaks:
            return LEAK
        return SUSPECT if self.concerns else SOUND

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; what could not be measured is None."""
        tables = {"retrieval": self.retrieval, "similarity": self.similarity}
        return {
            "verdict": self.verdict,
            "leaks": list(self.leaks),
            "concerns": list(self.concerns),
            **{name: table_lines(table) for name, table in tables.items()},
        }


def require_no_shortcut(audit: EncoderAudit) -> None:
    """`TrainingError` where retrieval is better than possible."""
    if audit.leaks:
        raise TrainingError(
            "retrieval is better than the best possible, so the encoders align something else than the patient:\n"
            + "\n".join(f"  {leak}" for leak in audit.leaks)
        )


@dataclass(frozen=True, slots=True, eq=False)
class AuditedStage:
    """What one stage is audited by.

    Attributes
    ----------
    sections : mapping of modality to section
        By which its records were read.
    """

    name: str
    pairs: tuple[Pair, ...]
    sections: Mapping[str, Any]
    embeddings: Embeddings


@dataclass(slots=True)
class _Found:
    retrieval: list[dict[str, Any]] = field(default_factory=list)
    similarity: list[dict[str, Any]] = field(default_factory=list)
    tests: list[tuple[str, float, float]] = field(default_factory=list)
    concerns: list[str] = field(default_factory=list)


def audit_encoders(cached: CachedCohort, stages: Sequence[AuditedStage], best: Pairs | None, seed: int) -> EncoderAudit:
    """Audit the embeddings of studies that were not learned from.

    Parameters
    ----------
    best : Pairs or None
        Of the cohort, where it knows what is possible.
    """
    found = _Found()
    for stage in stages:
        for pair in stage.pairs:
            compared = _Compared.of(cached, stage, pair, best)
            if len(compared) >= _FEWEST:
                _audit_pair(compared, f"{stage.name}: {' and '.join(pair)}", seed, found)
    leaks = _leaks(found.tests)
    return EncoderAudit(pd.DataFrame(found.retrieval), pd.DataFrame(found.similarity), leaks, tuple(found.concerns))


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """Studies that have both modalities of a pair.

    Attributes
    ----------
    scores : float [N, N]
        Similarity of each record of the first with each of the second modality.
    possible : float [N, N] or None
        Best possible scores.
    sources, patients : str [N]
        A source is empty where it is not known.
    """

    stage: str
    pair: Pair
    scores: npt.NDArray
    possible: npt.NDArray[np.float64] | None
    sources: npt.NDArray[np.str_]
    patients: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.patients)

    @classmethod
    def of(cls, cached: CachedCohort, stage: AuditedStage, pair: Pair, best: Pairs | None) -> _Compared:
        one, other = pair
        both = stage.embeddings.present(one) & stage.embeddings.present(other)
        records = [cached.cohort.records[row] for row in stage.embeddings.rows[both].tolist()]
        places: list[Floats] = [stage.embeddings.places[name][both] for name in pair]
        ids = [record.study_id for record in records]
        return cls(
            stage.name,
            pair,
            places[0] @ places[1].T,
            None if best is None or not ids else best.scores(ids, one, other, stage.sections),
            np.array([record.source or "" for record in records]),
            np.array([record.patient_id for record in records]),
        )

    def line(self, **figures: Any) -> dict[str, Any]:
        return {"stage": self.stage, "pair": "+".join(self.pair), **figures}


def _audit_pair(compared: _Compared, where: str, seed: int, found: _Found) -> None:
    everywhere = galleries(len(compared), seed)
    over_all = _measure(compared, ALL, everywhere, found)
    if compared.possible is not None:
        found.tests += _tests(compared, where, everywhere, seed)
    known = sorted(set(compared.sources.tolist()) - {""})
    rows = [np.flatnonzero(compared.sources == source) for source in known]
    within = [one[group] for one in rows for group in galleries(len(one), seed)]
    if len(known) < 2 or not within:
        return
    inside = _measure(compared, WITHIN, within, found)
    gap = _similarity(compared, found)
    drop = float(over_all.rank.mean() - inside.rank.mean())
    if gap > LARGEST_GAP and drop > LARGEST_DROP:
        found.concerns.append(
            f"{where}: records of other studies are more alike by {gap:.3f} where they are of the same source (at most "
            f"{LARGEST_GAP} is expected), and the own record ranks lower by {drop:.3f} within a source (at most "
            f"{LARGEST_DROP}): the source was aligned"
        )


def _measure(compared: _Compared, scope: str, groups: list[npt.NDArray[np.int64]], found: _Found) -> Ranking:
    ranking = _both_ways(compared.scores, groups)
    line = compared.line(scope=scope, queries=len(ranking), **ranking.figures())
    if compared.possible is not None:
        possible = _both_ways(compared.possible, groups).figures()
        line |= {f"possible_{name}": value for name, value in possible.items()}
    found.retrieval.append(line)
    return ranking


def _both_ways(scores: npt.NDArray, groups: list[npt.NDArray[np.int64]]) -> Ranking:
    """Of every study, the mean of asking with either of its records."""
    ways = [rank_in_galleries(one, groups) for one in (scores, scores.T)]
    return Ranking(*((getattr(ways[0], n) + getattr(ways[1], n)) / 2 for n in ("first", "tenth", "rank")))


def _tests(
    compared: _Compared, where: str, groups: list[npt.NDArray[np.int64]], seed: int
) -> list[tuple[str, float, float]]:
    """What was gained on the possible, and its standard error, for each figure."""
    assert compared.possible is not None
    model, best = (_both_ways(scores, groups) for scores in (compared.scores, compared.possible))
    weights = patient_bootstrap(compared.patients[np.concatenate(groups)], _REPLICATES, seed)[1:]
    tests = []
    for name, title in (("first", "R@1"), ("tenth", "R@10"), ("rank", "mean rank")):
        gained = getattr(model, name) - getattr(best, name)
        replicates = weights @ gained / weights.sum(axis=1)
        tests.append((f"{where}: {title}", float(gained.mean()), float(replicates.std(ddof=1))))
    return tests


def _leaks(tests: Sequence[tuple[str, float, float]]) -> tuple[str, ...]:
    """As `training.evaluation.comparisons.find_leaks`: one sided, over all tests together."""
    distance = float(norm.isf(FALSE_ALARM_RATE / max(1, len(tests))))
    return tuple(
        f"{what} better than the best possible by {gained:.3f}, at least {gained - distance * error:.3f}"
        for what, gained, error in tests
        if gained - distance * error > 0
    )


def _similarity(compared: _Compared, found: _Found) -> float:
    """The gap, which is added to the table with what it is made of."""
    same = compared.sources[:, None] == compared.sources[None, :]
    known = (compared.sources != "")[:, None] & (compared.sources != "")[None, :]
    others = known & (compared.patients[:, None] != compared.patients[None, :])
    own, inside, outside = (
        float(compared.scores[which].mean())
        for which in (np.eye(len(compared), dtype=bool), others & same, others & ~same)
    )
    found.similarity.append(compared.line(own=own, same_source=inside, other_sources=outside, gap=inside - outside))
    return inside - outside


def table_lines(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `table`, with None for what could not be measured."""
    rows = table.to_dict("records")
    return [
        {str(key): None if isinstance(v, float) and not np.isfinite(v) else v for key, v in row.items()} for row in rows
    ]

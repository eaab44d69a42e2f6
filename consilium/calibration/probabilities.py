"""Calibration: what turns a model's logits into probabilities, intervals, sets and calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, logit, softmax

from consilium.calibration.calibrator import METHODS, Calibrator, log_odds
from consilium.calibration.conformal import Conformal
from consilium.calibration.steps import StepCalibration
from consilium.domain.diagnosis import OperatingPoint
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet
from consilium.modalities.registry import subset_key

Floats = npt.NDArray[np.float64]

NO_MODALITY = subset_key([])
"""The empty subset, for which the answer is the prior."""

_KIND = "calibration-4"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a model's logits into probabilities.

    Attributes
    ----------
    method : str
        ``scaling``, ``vector``, ``isotonic`` or ``venn_abers``.
    fused : Calibrator
        For the fused logits, any modality subset.
    alone : dict
        For each modality's own head.
    prior_log_odds : tuple of float, [F]
        Log-odds of the prevalence: the answer without any modality.
    operating_points : tuple of OperatingPoint, [F]
    conformal : Conformal
        Sets and intervals of the fused answers.
    fitted_on, held_out : int
        Studies of the calibration split that the probabilities were fitted on, and the others, on which sets, intervals
        and operating points rest.
    points_held_out : tuple of bool, [F]
        The operating point was chosen on the held-out studies alone; False where these lacked a class, so that it is
        chosen on all, the fitting ones among them.
    cross_validated_nll : dict of str to float
        NLL in nats of each method, on the fitting studies, out of fold; empty where none was compared.
    shift : tuple of float, [F]
        What `at_prevalence` adds to each log-odds (of exclusive findings: to each log-probability, before they are
        brought to a sum of 1).
    steps : StepCalibration or None
        Of the targets beside the findings; None where there are none. Prevalences do not touch it.
    """

    findings: FindingSet
    method: str
    fused: Calibrator
    alone: dict[str, Calibrator]
    prior_log_odds: tuple[float, ...]
    operating_points: tuple[OperatingPoint, ...]
    conformal: Conformal
    fitted_on: int
    held_out: int
    points_held_out: tuple[bool, ...]
    cross_validated_nll: dict[str, float] = field(default_factory=dict)
    shift: tuple[float, ...] = ()
    steps: StepCalibration | None = None

    @property
    def thresholds(self) -> Floats:
        """Probability from which each finding is called, [F]."""
        return np.array([point.threshold for point in self.operating_points])

    def probabilities(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Calibrated probabilities, [..., F], of fused logits [..., F]; rows of NaN (modalities absent) stay NaN.

        Parameters
        ----------
        logits : array [..., F]
        subset : str
            `subset_key` of the modalities that were read; for ``none`` the answer is the prior, whatever the logits.

        Raises
        ------
        InputError
            Where this calibration knows no such subset.
        """
        if subset == NO_MODALITY:
            return np.broadcast_to(expit(self.prior_log_odds), np.shape(logits)).copy()
        return self._probabilities(self._scores(self.fused, logits, subset))

    def log_odds(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Log-odds of `probabilities`, [..., F], within ±30; for ``none`` `prior_log_odds`.

        With every method they change continuously with the logits, so that differences of them say what a logit is
        worth to an answer.
        """
        if subset == NO_MODALITY:
            return np.broadcast_to(self.prior_log_odds, np.shape(logits)).copy()
        return log_odds(self._scores(self.fused, logits, subset), exclusive=self.findings.exclusive)

    def unimodal_probabilities(self, logits: npt.ArrayLike, modality: str) -> Floats:
        """Calibrated probabilities, [..., F], of one modality's own head; rows of NaN stay NaN."""
        if modality not in self.alone:
            raise InputError("modality", str(modality), f"must be one of {', '.join(self.alone)}")
        return self._probabilities(self._scores(self.alone[modality], logits, modality))

    def intervals(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """Lower and upper end of each probability's interval, [..., F, 2]; rows of NaN stay NaN.

        Venn-Abers' (p0, p1) on the held-out studies: what the probability would be had this very study been among them,
        with the finding absent and with it present. One of the two is a calibrated probability, whatever the model;
        their distance says how much one study could change, and is no confidence interval. Where the reported
        probability, which rests on other studies, lies outside, the interval is widened to hold it.
        """
        probabilities = self.probabilities(logits, subset)[..., None]
        plain = self._plain_log_odds(logits, subset)
        moved = self.log_odds(logits, subset) - plain
        with np.errstate(divide="ignore"):
            bounds = expit(logit(self.conformal.bounds(plain, subset)) + moved[..., None])
        return np.concatenate(
            [np.minimum(bounds[..., :1], probabilities), np.maximum(bounds[..., 1:], probabilities)], axis=-1
        )

    def prediction_sets(self, logits: npt.ArrayLike, subset: str) -> npt.NDArray[np.bool_]:
        """Which of (absent, present) cannot be ruled out, [..., F, 2], at `conformal.coverage`.

        Of the studies with a finding that share holds ``present``, of those without it ``absent``. Findings that
        exclude each other have one set of classes: ``present`` says that the class is in it, ``absent`` that another
        one is. A set of both answers, or of none, leaves the finding open; rows of NaN have both. Prevalence changes no
        set.
        """
        ruled_in = self.conformal.ruled_in(self._plain_log_odds(logits, subset), subset)
        if self.findings.exclusive:
            classes = ruled_in[..., 1]
            ruled_in[..., 0] = classes.sum(axis=-1, keepdims=True) > classes
        return ruled_in

    def at_prevalence(self, prevalence: Mapping[str, float]) -> Calibration:
        """The calibration for a place where findings are as frequent as `prevalence` says (Saerens et al., 2002).

        Supposes that studies with a finding look there as they do here, and likewise those without (label shift). All
        probabilities, unimodal, intervals and the prior move with the prevalence; thresholds move along, so that the
        same studies are called, and sensitivity and specificity hold as they stand; prediction sets stay as they are,
        since their coverage is that of each class. A finding that is not named keeps its prevalence; of findings that
        exclude each other those not named share what is left as they do here. Of these a call stays the same where the
        other classes keep their proportions; elsewhere sensitivity and specificity hold nearly.

        Parameters
        ----------
        prevalence : mapping of finding's name to float
            Above 0 and below 1.

        Raises
        ------
        InputError
            For an unknown finding or a prevalence that cannot be.
        """
        own_prior, own_shift = np.asarray(self.prior_log_odds), self._shift
        if self.findings.exclusive:
            here = softmax(log_expit(own_prior) - own_shift)
            there = _class_prevalence(self.findings, here, prevalence)
            shift, prior = np.log(there) - np.log(here), logit(there)
        else:
            prior = own_prior - own_shift
            for name, value in prevalence.items():
                prior[_position(self.findings, name, value)] = logit(value)
            shift = prior - (own_prior - own_shift)
        with np.errstate(divide="ignore"):
            thresholds = expit(logit(self.thresholds) + prior - own_prior)
        points = [replace(p, threshold=t) for p, t in zip(self.operating_points, thresholds.tolist(), strict=True)]
        return replace(
            self,
            prior_log_odds=tuple(prior.tolist()),
            operating_points=tuple(points),
            shift=tuple(shift.tolist()),
        )

    @property
    def _shift(self) -> Floats:
        return np.array(self.shift or [0.0] * len(self.findings))

    def _scores(self, calibrator: Calibrator, logits: npt.ArrayLike, subset: str) -> Floats:
        return calibrator(logits, subset, exclusive=self.findings.exclusive) + self._shift

    def _plain_log_odds(self, logits: npt.ArrayLike, subset: str) -> Floats:
        """At the prevalence of the calibration split."""
        if subset == NO_MODALITY:
            return self.log_odds(logits, subset)
        scores = self.fused(logits, subset, exclusive=self.findings.exclusive)
        return log_odds(scores, exclusive=self.findings.exclusive)

    def _probabilities(self, scores: Floats) -> Floats:
        if self.findings.exclusive:
            return softmax(scores, axis=-1)
        return expit(log_odds(scores, exclusive=False))

    def to_json(self) -> dict[str, Any]:
        """Everything, for `json.dumps`: floats come back to the bit."""
        return {
            "kind": _KIND,
            "findings": self.findings.to_json(),
            "method": self.method,
            "fused": self.fused.to_json(),
            "alone": {modality: calibrator.to_json() for modality, calibrator in self.alone.items()},
            "prior_log_odds": list(self.prior_log_odds),
            "operating_points": [point.to_json() for point in self.operating_points],
            "conformal": self.conformal.to_json(),
            "fitted_on": self.fitted_on,
            "held_out": self.held_out,
            "points_held_out": list(self.points_held_out),
            "cross_validated_nll": dict(self.cross_validated_nll),
            "shift": list(self.shift),
            "steps": None if self.steps is None else self.steps.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The calibration that `to_json` described; `InputError` where `data` is none."""
        kind = data.get("kind") if isinstance(data, dict) else data
        if kind != _KIND:
            raise InputError("calibration.kind", kind, f"must be {_KIND}")
        try:
            calibration = cls._from_json(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("calibration", type(error).__name__, "must be what a calibration was saved as") from None
        calibration._require_sound()
        return calibration

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> Calibration:
        findings, steps = FindingSet.from_json(data["findings"]), data["steps"]
        return cls(
            findings=findings,
            method=data["method"],
            fused=Calibrator.from_json(data["fused"]),
            alone={name: Calibrator.from_json(one) for name, one in data["alone"].items()},
            prior_log_odds=tuple(data["prior_log_odds"]),
            operating_points=tuple(OperatingPoint.from_json(point) for point in data["operating_points"]),
            conformal=Conformal.from_json(data["conformal"]),
            fitted_on=data["fitted_on"],
            held_out=data["held_out"],
            points_held_out=tuple(data["points_held_out"]),
            cross_validated_nll=dict(data["cross_validated_nll"]),
            shift=tuple(data["shift"]),
            steps=None if steps is None else StepCalibration.from_json(steps, findings.targets),
        )

    def _require_sound(self) -> None:
        count = len(self.findings)
        if self.method not in METHODS:
            raise InputError("calibration.method", self.method, f"must be one of {', '.join(METHODS)}")
        for name, calibrator in {"fused": self.fused, **dict(self.alone)}.items():
            calibrator.require_sound(f"calibration.{name}", count)
        self.conformal.require_sound("calibration.conformal", count)
        if (self.steps is None) != (not self.findings.targets):
            raise InputError("calibration.steps", self.steps is not None, "must be there where there are targets")
        if self.steps is not None:
            self.steps.require_sound("calibration.steps")
        for field_name in ("prior_log_odds", "operating_points", "points_held_out"):
            values = getattr(self, field_name)
            if len(values) != count:
                raise InputError(f"calibration.{field_name}", len(values), f"must be of {count} findings")
        if len(self.shift) not in {0, count} or not np.isfinite([*self.prior_log_odds, *self.shift]).all():
            raise InputError("calibration.shift", len(self.shift), "must be finite, of all findings or of none")


def _position(findings: FindingSet, name: str, prevalence: float) -> int:
    if name not in findings.names:
        raise InputError("prevalence", name, f"must be of one of {', '.join(findings.names)}")
    if not 0 < prevalence < 1:
        raise InputError(f"prevalence.{name}", prevalence, "must lie above 0 and below 1")
    return findings.index(name)


def _class_prevalence(findings: FindingSet, here: Floats, prevalence: Mapping[str, float]) -> Floats:
    """Prevalence of every class, [F], adding up to 1."""
    given = np.full(len(findings), np.nan)
    for name, value in prevalence.items():
        given[_position(findings, name, value)] = value
    open_, total = np.isnan(given), float(np.nansum(given))
    if open_.any() and total >= 1:
        raise InputError("prevalence", total, "must leave something for the classes that are not named")
    if not open_.any() and abs(total - 1) > 1e-6:
        raise InputError("prevalence", total, "must add up to 1 over classes that exclude each other")
    return np.where(open_, here / max(here[open_].sum(), 1e-300) * (1 - total), given / max(total, 1.0))

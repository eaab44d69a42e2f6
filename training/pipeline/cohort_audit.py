"""The audit within a training: what needs no model before the fit, the rest beside the model's own figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from consilium.domain.errors import TrainingError
from training.audit.audit import EarlyAudit, audit_with_model, audit_without_model
from training.audit.report import REMARK, UNUSABLE, AuditReport, Concern
from training.evaluation.results import Evaluation
from training.evaluation.rows import AS_PRESENT
from training.pipeline.context import Stage

_log = logging.getLogger(__name__)


def audit_before_fit(stage: Stage, parts: Sequence[str] | None = None) -> EarlyAudit | None:
    """What is wrong with the cohort, whatever the model; None where the recipe wants no audit.

    Parameters
    ----------
    parts : sequence of str, optional
        Split or fold of each study in this training; None: those that the cohort fixes.

    Raises
    ------
    TrainingError
        The cohort is unusable.
    """
    if not stage.recipe.evaluation.audit:
        return None
    _log.info("audit of the cohort")
    early = audit_without_model(stage.cached, stage.recipe.scope, parts=parts, seed=stage.recipe.seed)
    report = early.report
    _warn(report.concerns)
    if report.verdict == UNUSABLE:
        reasons = "\n".join(f"  {concern.text}" for concern in report.concerns if concern.grade == UNUSABLE)
        raise TrainingError(
            "the audit found the cohort unusable, so nothing was trained; give other studies, or train it unaudited by "
            f"evaluation.audit=false:\n{reasons}"
        )
    return early


def audit_after_fit(stage: Stage, early: EarlyAudit | None, evaluation: Evaluation) -> AuditReport | None:
    """The whole audit, with shortcuts and sources beside what the model reaches."""
    if early is None:
        return None
    _log.info("audit beside the model")
    reached = {
        name: evaluation.value("metrics", "auroc", row=AS_PRESENT, finding=name) for name in evaluation.findings.names
    }
    report = audit_with_model(early, reached)
    _log.info("audit: the cohort is %s", report.verdict)
    known = {concern.text for concern in early.report.concerns}
    _warn([concern for concern in report.concerns if concern.text not in known])
    return report


def _warn(concerns: Sequence[Concern]) -> None:
    for concern in concerns:
        if concern.grade != REMARK:
            _log.warning("audit: %s", concern.text)

"""A draft by rules: it says what the calibrated answers say, in a site's sentences, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from consilium.domain.certainty import certainty_of
from consilium.domain.diagnosis import Diagnosis, Explanation, FindingExplanation
from consilium.domain.report_draft import Draft, DraftSection, DraftSentence, SectionName, SupportingEvidence
from consilium.domain.study import Study
from consilium.modalities.presentation import presentations
from consilium.modalities.registry import find_modality
from consilium.output.drafting.phrases import Phrases
from consilium.output.labels import targets_in_words
from consilium.output.reported import Presence, ReportedFinding, reported_study

INDICATION = "indication"
"""The kind of the notes that say what is asked."""
MOST_EVIDENCE = 3
"""Pieces of evidence beside a sentence."""
_LEAST_LOG_ODDS = 0.05


def draft_report(study: Study, explanation: Explanation, phrases: Phrases) -> Draft:
    """The draft of a report on `study`, of what the model answered.

    A finding is spoken of with the word for its calibrated probability where the model judges it here; where the study
    or the finding is referred, or both answers remain, the draft says that alone.

    Parameters
    ----------
    explanation : Explanation
        What it says of each finding stands beside the finding's sentence; it may be of some findings only.
    """
    return _Drafter(study, explanation, phrases).draft()


class _Drafter:
    def __init__(self, study: Study, explanation: Explanation, phrases: Phrases) -> None:
        self._study, self._phrases = study, phrases
        self._diagnosis: Diagnosis = explanation.diagnosis
        self._explained: Mapping[str, FindingExplanation] = {one.finding: one for one in explanation.findings}
        self._reported = reported_study(explanation.diagnosis, "")

    def draft(self) -> Draft:
        made: dict[SectionName, Iterable[DraftSentence]] = {
            "notice": self._notice(),
            "indication": self._indication(),
            "comparison": [DraftSentence(self._phrases.no_comparison)],
            "technique": self._technique(),
            "findings": self._findings(),
            "impression": self._impression(),
        }
        headings = self._phrases.headings
        return Draft(
            language=self._phrases.language,
            sections=tuple(DraftSection(name, headings[name], tuple(lines)) for name, lines in made.items()),
        )

    def _notice(self) -> Iterable[DraftSentence]:
        phrases, diagnosis = self._phrases, self._diagnosis
        yield DraftSentence(phrases.disclaimer)
        if diagnosis.refer_reasons:
            yield DraftSentence(phrases.study_referred.format(reasons=_joined(diagnosis.refer_reasons)))
        if diagnosis.audit.verdict != "sound":
            yield DraftSentence(phrases.cohort)
        said = _joined(diagnosis.refer_reasons)
        for warning in diagnosis.warnings:
            if warning.removesuffix(".") not in said:
                yield DraftSentence(warning)

    def _indication(self) -> Iterable[DraftSentence]:
        asked = [
            DraftSentence(record.text, record=f"{record.field}[{position}]")
            for records in self._study.parts.values()
            for position, record in enumerate(records)
            if getattr(record, "kind", None) == INDICATION
        ]
        return asked or [DraftSentence(self._phrases.no_indication)]

    def _technique(self) -> Iterable[DraftSentence]:
        phrases, diagnosis = self._phrases, self._diagnosis
        yield DraftSentence(phrases.read.format(modalities=self._listed(diagnosis.modalities)))
        if diagnosis.absent:
            yield DraftSentence(phrases.missing.format(modalities=self._listed(diagnosis.absent)))

    def _listed(self, modalities: Sequence[str]) -> str:
        known = self._phrases.modalities
        return ", ".join(known.get(name, find_modality(name).display) for name in modalities)

    def _findings(self) -> Iterable[DraftSentence]:
        yield from (self._finding(one) for one in self._reported.findings)
        if not self._reported.referred:
            for target in targets_in_words(self._diagnosis):
                answer = f"{target.answer} ({target.detail})"
                yield DraftSentence(self._phrases.grade.format(target=target.display, answer=answer))

    def _finding(self, one: ReportedFinding) -> DraftSentence:
        phrases, name = self._phrases, self._name(one)
        if one.presence is Presence.UNDETERMINED:
            reasons = _joined(one.refer_reasons)
            text = phrases.referred.format(finding=name, reasons=reasons) if reasons else ""
            return DraftSentence(text or phrases.undetermined.format(finding=name), one.name, one.probability)
        certainty = certainty_of(one.probability)
        own = phrases.findings.get(one.name)
        said = phrases.finding.format(finding=name, certainty=phrases.certainty[certainty])
        text = said if own is None else own.sentences.get(certainty, said)
        return DraftSentence(text, one.name, one.probability, certainty, evidence=self._evidence(one))

    def _name(self, one: ReportedFinding) -> str:
        own = self._phrases.findings.get(one.name)
        name = one.display if own is None or own.name is None else own.name
        return name[:1].upper() + name[1:]

    def _evidence(self, one: ReportedFinding) -> tuple[SupportingEvidence, ...]:
        """What speaks for the answer most: pieces of records, or a whole modality where none of its are listed."""
        explained = self._explained.get(one.name)
        if explained is None:
            return ()
        shown = presentations(explained.parts)
        found: list[SupportingEvidence] = []
        for modality, weight in explained.modalities.items():
            rows = shown[modality].rows(explained.parts[modality]) if modality in shown else []
            pieces = rows or [(find_modality(modality).display, weight)]
            found += [SupportingEvidence(modality, text, log_odds) for text, log_odds in pieces]
        sign = 1 if one.presence is Presence.PRESENT else -1
        speaking = [piece for piece in found if piece.log_odds * sign >= _LEAST_LOG_ODDS]
        return tuple(sorted(speaking, key=lambda piece: -abs(piece.log_odds))[:MOST_EVIDENCE])

    def _impression(self) -> Iterable[DraftSentence]:
        """What is called, what is not, what is not judged: each finding once."""
        judged = [one for one in self._reported.findings if one.presence is not Presence.UNDETERMINED]
        by_probability = sorted(judged, key=lambda one: -one.probability)
        groups = (
            (self._phrases.called, [self._called(one) for one in by_probability if one.called]),
            (self._phrases.not_called, [self._name(one) for one in by_probability if not one.called]),
            (self._phrases.not_judged, [self._name(one) for one in self._reported.findings if one not in judged]),
        )
        for phrase, names in groups:
            if names:
                yield DraftSentence(phrase.format(findings=", ".join(names)))

    def _called(self, one: ReportedFinding) -> str:
        return f"{self._name(one)} ({self._phrases.certainty[certainty_of(one.probability)]})"


def _joined(reasons: Sequence[str]) -> str:
    """Several sentences as one part of another."""
    return "; ".join(reason.removesuffix(".") for reason in reasons)

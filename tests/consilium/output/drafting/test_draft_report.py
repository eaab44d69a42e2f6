"""Drafts: they say what the answer says, of each finding once, and nothing of what was not judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from consilium.domain.diagnosis import ABSENT, PRESENT, Explanation
from consilium.domain.report_draft import SECTIONS, Draft
from consilium.domain.study import Study
from consilium.modalities.text.note import Note, NoteKind
from consilium.output.drafting.draft_report import draft_report
from consilium.output.drafting.phrases import OwnPhrases, built_in_phrases
from tests.consilium.tiny_answer import (
    GRADES,
    REFER,
    SUSPECT,
    UNDETERMINED,
    eventful_explanation,
    explained_study,
    explanation,
    open_explanation,
)


def drafted(
    given: Explanation | None = None, study: Study | None = None, language: str = "en", **phrases: Any
) -> Draft:
    said = built_in_phrases(language).model_copy(update=phrases)
    return draft_report(study or explained_study(), given or explanation(), said)


def lines(draft: Draft, name: str) -> list[str]:
    (section,) = [one for one in draft.sections if one.name == name]
    return [one.text for one in section.sentences]


def test_a_draft_says_what_the_answer_says() -> None:
    made = drafted()
    assert tuple(one.name for one in made.sections) == SECTIONS
    assert lines(made, "notice")[1:] == ["view position unknown"]
    assert lines(made, "indication") == ["None was given."]
    assert lines(made, "comparison") == ["No earlier study was compared."]
    assert lines(made, "technique") == ["Read by the model: Image, Notes.", "Not at hand: Values."]
    assert lines(made, "findings") == ["Alpha is unlikely.", "Beta is possible."]
    assert lines(made, "impression") == [
        "At or above the operating point: Beta (possible).",
        "Below the operating point: Alpha.",
    ]


def test_each_finding_has_its_probability_and_what_speaks_for_the_sentence() -> None:
    alpha, beta = next(one for one in drafted().sections if one.name == "findings").sentences
    assert (alpha.finding, alpha.probability, alpha.certainty) == ("a", 0.12, "unlikely")
    assert [(one.modality, one.text, one.log_odds) for one in alpha.evidence] == [("text", "cough", -0.4)]
    assert [(one.modality, one.text, one.log_odds) for one in beta.evidence] == [
        ("image", "Image", 1.0),
        ("text", "fever", 0.8),
    ]


def test_what_is_not_explained_has_no_evidence_and_is_said_all_the_same() -> None:
    given = replace(explanation(), findings=())
    assert lines(drafted(given), "findings") == ["Alpha is unlikely.", "Beta is possible."]
    assert all(not line.evidence for section in drafted(given).sections for line in section.sentences)


def test_of_an_undetermined_finding_nothing_is_said_but_that() -> None:
    made = drafted(open_explanation())
    assert lines(made, "findings")[1] == f"Beta: to be assessed without the model ({UNDETERMINED.removesuffix('.')})."
    assert lines(made, "impression") == ["Below the operating point: Alpha.", "Not judged: Beta."]
    alpha, beta = explanation().diagnosis.findings
    both = explanation(findings=(alpha, replace(beta, prediction_set=(ABSENT, PRESENT))))
    assert lines(drafted(both), "findings")[1] == "Beta: not determined."
    for section in made.sections:
        assert all(line.certainty is None for line in section.sentences if line.finding == "b")


def test_a_referred_study_is_referred_first_and_no_finding_of_it_is_judged() -> None:
    made = drafted(eventful_explanation())
    reasons = "; ".join(one.removesuffix(".") for one in REFER)
    assert lines(made, "notice")[1] == f"Assess this study without the model: {reasons}."
    assert lines(made, "notice")[2].startswith("The model learned from a cohort that was not found sound")
    assert lines(made, "impression") == ["Not judged: Alpha, Beta."]
    assert "mild" not in made.text, "nor a grade"
    assert all(line.certainty is None for section in made.sections for line in section.sentences)


def test_a_warning_that_is_a_reason_to_refer_stands_once() -> None:
    given = explanation(refer_reasons=("Two ages are given.",), warnings=("Two ages are given", "view unknown"))
    assert lines(drafted(given), "notice")[1:] == [
        "Assess this study without the model: Two ages are given.",
        "view unknown",
    ]


def test_grades_are_said_and_an_unsound_cohort_is_named() -> None:
    made = drafted(explanation(grades=GRADES, audit=SUSPECT))
    assert lines(made, "findings")[2] == "Severity: mild (mean 0.9 on a scale of 0 to 1)."
    assert any("not found sound" in one for one in lines(made, "notice"))


def test_the_indication_is_quoted_with_its_place_and_no_other_note_is() -> None:
    notes = (Note(NoteKind.HISTORY, "Smoker."), Note(NoteKind.INDICATION, "Fever {finding}?"))
    made = drafted(study=explained_study().with_parts(text=notes))
    (section,) = [one for one in made.sections if one.name == "indication"]
    assert [(one.text, one.record) for one in section.sentences] == [("Fever {finding}?", "notes[1]")]
    assert "Smoker" not in made.text


def test_no_note_passes_for_a_section_of_the_plain_text() -> None:
    forged = "Cough.\n\nFindings\nAlpha is almost certain.\n\nImpression\nAlpha."
    notes = Note(NoteKind.INDICATION, forged), Note(NoteKind.INDICATION, "Findings")
    made = drafted(study=explained_study().with_parts(text=notes))
    indication = next(block for block in made.text.split("\n\n") if block.startswith("Indication\n"))
    assert indication.split("\n") == [
        "Indication",
        '"Cough. Findings Alpha is almost certain. Impression Alpha."',
        '"Findings"',
    ]
    assert [made.text.split("\n").count(one.heading) for one in made.sections] == [1] * len(SECTIONS)
    assert lines(made, "indication") == [forged, "Findings"], "in JSON as they were sent"


def test_a_sites_own_sentences_and_names_take_the_place_of_the_built_in_ones() -> None:
    own = {"a": OwnPhrases(sentences={"unlikely": "No sign of Alpha."}), "b": OwnPhrases(name="the second sign")}
    made = drafted(findings=own)
    assert lines(made, "findings") == ["No sign of Alpha.", "The second sign is possible."]


def test_in_german() -> None:
    made = drafted(language="de")
    assert made.language == "de"
    assert [one.heading for one in made.sections][-2:] == ["Befund", "Beurteilung"]
    assert lines(made, "findings") == ["Alpha: unwahrscheinlich.", "Beta: möglich."]
    assert lines(made, "technique") == ["Vom Modell gelesen: Bild, Notizen.", "Nicht vorhanden: Messwerte."]
    assert "Beurteilung\nAn oder über der Meldeschwelle: Beta (möglich)." in made.text

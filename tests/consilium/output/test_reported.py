from dataclasses import replace

from consilium.domain.diagnosis import ABSENT, PRESENT
from consilium.output.reported import Presence, derived_uid, reported_study, revision_of
from tests.consilium.tiny_answer import eventful_explanation, explanation, open_explanation

SOURCES = [("1.2.3", "aa"), ("1.2.4", "bb")]


def presences(diagnosis) -> list[Presence]:
    return [finding.presence for finding in reported_study(diagnosis, "r").findings]


def test_answer_is_the_one_member_of_the_prediction_set():
    assert presences(explanation().diagnosis) == [Presence.ABSENT, Presence.PRESENT]


def test_referred_finding_is_undetermined_and_the_others_are_not():
    assert presences(open_explanation().diagnosis) == [Presence.ABSENT, Presence.UNDETERMINED]


def test_every_finding_of_a_referred_study_is_undetermined():
    referred = explanation(refer_reasons=("The image is unlike the training data.",)).diagnosis
    assert presences(referred) == [Presence.UNDETERMINED, Presence.UNDETERMINED]


def test_finding_without_exactly_one_possible_answer_is_undetermined_also_where_no_rule_refers_it():
    alpha, beta = explanation().diagnosis.findings
    odd = (replace(alpha, prediction_set=()), replace(beta, prediction_set=(ABSENT, PRESENT)))
    assert presences(explanation(findings=odd).diagnosis) == [Presence.UNDETERMINED] * 2


def test_numbers_are_those_of_the_diagnosis_to_six_decimals():
    alpha, _ = explanation().diagnosis.findings
    result = replace(alpha, probability=0.123456789, interval=(0.1, 0.2000000004))
    (finding,) = reported_study(explanation(findings=(result,)).diagnosis, "r").findings
    assert (finding.probability, finding.interval) == (0.123457, (0.1, 0.2))


def test_remarks_name_the_audit_before_the_warnings():
    remarks = reported_study(eventful_explanation().diagnosis, "r").remarks
    assert remarks[0].startswith("The cohort behind this model is suspect")
    assert remarks[1:] == ("view position unknown",)


def test_revision_is_the_same_for_the_same_sources_in_any_order_and_another_for_anything_else():
    base = explanation().diagnosis
    assert revision_of(base, SOURCES) == revision_of(base, SOURCES[::-1])
    others = [
        revision_of(base, SOURCES[:1]),
        revision_of(base, [("1.2.3", "aa"), ("1.2.4", "cc")]),
        revision_of(open_explanation().diagnosis, SOURCES),
        revision_of(explanation(input_digests={"notes[0]": "ee"}).diagnosis, SOURCES),
        revision_of(explanation(model=replace(base.model, manifest_digest="ef" * 32)).diagnosis, SOURCES),
    ]
    assert len({revision_of(base, SOURCES), *others}) == 6


def test_revision_does_not_depend_on_how_the_files_came():
    sent = explanation(input_digests={"images[0]": "ab"}).diagnosis
    pulled = explanation(input_digests={"images[0]": "cd"}).diagnosis
    assert revision_of(sent, SOURCES) == revision_of(pulled, SOURCES)


def test_uids_are_of_a_uuid_and_the_same_each_time():
    reported = reported_study(explanation().diagnosis, "r")
    assert reported.uid("sr") == derived_uid("r", "sr") == reported.uid("sr")
    assert len({reported.uid("sr"), reported.uid("sc"), derived_uid("q", "sr")}) == 3
    assert reported.uid("sr").startswith("2.25.")
    assert len(reported.uid("sr")) <= 64
    assert int(reported.uid("sr").rpartition(".")[2]) < 2**128

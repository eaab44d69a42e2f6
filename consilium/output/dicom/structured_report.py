"""A result as a Comprehensive 3D SR of TID 1500: one measurement group a finding, for machines to read.

A probability never stands without the answer beside it, which is undetermined where the finding or the study is
referred. Nothing is final or verified. Source: PS3.16 TID 1500, 1501, 300, 310, 4019; IHE AI Results.
"""

from __future__ import annotations

from typing import Any

import highdicom as hd
from highdicom.sr import CodedConcept, RelationshipTypeValues
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from consilium.formats.dicom.file_structure import quiet
from consilium.formats.dicom.own_objects import MANUFACTURER
from consilium.output.dicom.marks import CODING_SCHEME, Result, mark, short
from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, Presence, ReportedFinding, ReportedStudy, derived_uid, device_uid

_SERIES_NUMBER = 9801
_PRESENCE = {
    Presence.PRESENT: codes.DCM.Present,
    Presence.ABSENT: codes.DCM.Absent,
    Presence.UNDETERMINED: codes.DCM.PresenceUndetermined,
}
_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "MG", "IO", "PX")
_PROCEDURES = {
    True: CodedConcept("363680008", "SCT", "Radiographic imaging procedure"),
    False: CodedConcept("363679005", "SCT", "Imaging procedure"),
}
_LONGEST_CODE = 16


def structured_report(result: Result, previous: Result | None = None) -> Dataset:
    """The report of `result`, in place of that of the `previous` revision where there was one."""
    reported = result.reported
    content = hd.sr.MeasurementReport(
        observation_context=_observer(reported),
        procedure_reported=_procedure(result),
        imaging_measurements=[_group(result, finding) for finding in reported.findings],
    )
    content[0].ContentSequence.extend(_comment(line) for line in _lines(reported))
    with quiet():
        made = hd.sr.Comprehensive3DSR(
            evidence=[source.dataset for source in result.sources],
            content=content[0],
            series_instance_uid=result.series_uid("sr"),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=reported.uid("sr"),
            instance_number=result.number,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
            previous_versions=None if previous is None else [_reference(previous)],
        )
        return mark(made, result, "AI findings (structured report)")


def _reference(previous: Result) -> Dataset:
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = uid.Comprehensive3DSRStorage, previous.reported.uid("sr")
    found.StudyInstanceUID, found.SeriesInstanceUID = previous.sources[0].study, previous.series_uid("sr")
    return found


def _observer(reported: ReportedStudy) -> Any:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(reported.model),
        name=short(reported.model.name),
        manufacturer_name=MANUFACTURER,
        model_name=short(f"{reported.model.name} {reported.model.version}"),
        serial_number=reported.model.manifest_digest,
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)


def _procedure(result: Result) -> CodedConcept:
    """The procedure that the images are of, as they name it, else by their modality."""
    source = result.sources[0].dataset
    for item in source.get("ProcedureCodeSequence", []):
        named = [str(item.get(key, "")) for key in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
        if all(named) and len(named[1]) <= _LONGEST_CODE:
            return CodedConcept(named[0], named[1], short(named[2]))
    return _PROCEDURES[source.Modality in _RADIOGRAPHY]


def _group(result: Result, finding: ReportedFinding) -> Any:
    reported, chest = result.reported, result.sources[0].dataset.BodyPartExamined == "CHEST"
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=derived_uid(result.sources[0].study, "finding", reported.model.name, finding.name),
            identifier=short(f"{reported.model.name} {finding.name}"),
        ),
        finding_type=finding_concept(finding),
        finding_sites=[hd.sr.FindingSite(codes.SCT.Chest)] if chest else None,
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=reported.model.name,
            version=reported.model.version,
            manufacturer=MANUFACTURER,
            parameters=[f"manifest SHA-256 {reported.model.manifest_digest}", f"called from {finding.threshold:.6g}"],
        ),
        measurements=[_probability(finding)],
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(codes.DCM.PresenceOfProperty, _PRESENCE[finding.presence])
        ],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(source.dataset.SOPClassUID, source.instance)
            for source in result.sources
        ],
    )
    group[0].ContentSequence.extend(_comment(f"Assess without the model. {reason}") for reason in finding.refer_reasons)
    return group


def _probability(finding: ReportedFinding) -> Any:
    """Its interval stands as the range of uncertainty above and below (TID 310)."""
    low, high = finding.interval
    return hd.sr.Measurement(
        name=codes.DCM.Probability,
        value=finding.probability,
        unit=codes.UCUM.NoUnits,
        properties=hd.sr.MeasurementProperties(
            upper_measurement_uncertainty=round(max(high - finding.probability, 0.0), 6),
            lower_measurement_uncertainty=round(max(finding.probability - low, 0.0), 6),
        ),
    )


def finding_concept(finding: ReportedFinding) -> CodedConcept:
    """The finding in SNOMED CT, or in a scheme of our own where the model names no concept."""
    if finding.code:
        return CodedConcept(finding.code, "SCT", short(finding.display))
    return CodedConcept(finding.name, CODING_SCHEME, short(finding.display))


def _lines(reported: ReportedStudy) -> list[str]:
    """What a reader must know beside the findings, referral first."""
    referral = [f"Referred: assess this study without the model. {reason}" for reason in reported.refer_reasons]
    targets = [
        f"{one.display}: {one.answer} ({one.detail}); "
        + ", ".join(f"{name} {percent(probability)}" for name, probability in one.bars)
        for one in reported.targets
    ]
    return [*referral, DISCLAIMER, *targets, *reported.remarks]


def _comment(words: str) -> Any:
    return hd.sr.TextContentItem(name=codes.DCM.Comment, value=words, relationship_type=RelationshipTypeValues.CONTAINS)

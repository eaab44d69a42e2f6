"""What the worklist is told of a work item: its progress, its result, why it was given up. Source: PS3.4 CC.2.5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hospital.worklist.work_items import CodedConcept, DataSet

UNSPECIFIED = CodedConcept("110513", "DCM", "Discontinued for unspecified reason")
WRONG_ENTRY = CodedConcept("110514", "DCM", "Incorrect worklist entry selected")
NOT_SUPPORTED = CodedConcept("110522", "DCM", "Object Types not supported")
INCOMPLETE = CodedConcept("110523", "DCM", "Object Set incomplete")
"""Why a procedure is discontinued. Source: PS3.16, CID 9300."""


@dataclass(frozen=True, slots=True)
class Output:
    """One object that was made and delivered.

    Attributes
    ----------
    ae_title, url : str, optional
        Whence it can be had: by C-MOVE of an application entity, or by WADO-RS.
    """

    study: str
    series: str
    sop_class: str
    sop_instance: str
    ae_title: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class PerformedStep:
    """Who did what, and when."""

    station: CodedConcept
    workitem: CodedConcept | None
    began: datetime
    ended: datetime
    outputs: Sequence[Output] = ()

    def as_json(self) -> DataSet:
        """Unified Procedure Step Performed Procedure Sequence of one item."""
        workitem = [] if self.workitem is None else [self.workitem.as_json()]
        return {
            "00741216": _sequence(
                {
                    "00404028": _sequence(self.station.as_json()),
                    "00404050": element("DT", _moment(self.began)),
                    "00404051": element("DT", _moment(self.ended)),
                    "00404019": _sequence(*workitem),
                    "00404033": _sequence(*_output_items(self.outputs)),
                }
            )
        }


def progress(percent: int, description: str) -> DataSet:
    """How far the work is."""
    return {"00741002": _sequence({"00741004": element("DS", str(percent)), "00741006": element("ST", description)})}


def discontinued(reason: CodedConcept, words: str, at: datetime) -> DataSet:
    """Why the work was given up; `words` without names and identifiers."""
    return {
        "00741002": _sequence(
            {
                "00404052": element("DT", _moment(at)),
                "00741238": element("LT", words[:1024]),
                "0074100E": _sequence(reason.as_json()),
            }
        )
    }


def element(vr: str, *values: object) -> DataSet:
    """An element of the DICOM JSON model."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _sequence(*items: DataSet) -> DataSet:
    return element("SQ", *items)


def _output_items(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    """One item a series and place: Referenced Instances and Access. Source: PS3.3 10.18."""
    groups: dict[tuple[str, str, str | None, str | None], list[Output]] = {}
    for one in outputs:
        groups.setdefault((one.study, one.series, one.ae_title, one.url), []).append(one)
    return [_output_item(*place, instances) for place, instances in groups.items()]


def _output_item(
    study: str, series: str, ae_title: str | None, url: str | None, instances: Sequence[Output]
) -> dict[str, Any]:
    named = [
        {"00081150": element("UI", one.sop_class), "00081155": element("UI", one.sop_instance)} for one in instances
    ]
    item = {
        "0040E020": element("CS", "DICOM"),
        "0020000D": element("UI", study),
        "0020000E": element("UI", series),
        "00081199": _sequence(*named),
    }
    if ae_title is not None:
        item["0040E021"] = _sequence({"00080054": element("AE", ae_title)})
    if url is not None:
        item["0040E025"] = _sequence({"00081190": element("UR", url)})
    return item


def _moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y%m%d%H%M%S}+0000"

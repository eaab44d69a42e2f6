"""Messages as hospital systems send them, and an inbox in memory."""

from __future__ import annotations

from datetime import UTC, datetime

from consilium.formats.time_zone import TimeZone
from hospital.hl7.source import Source
from hospital.store.received import RawMessage, Received
from hospital.terminology.site_tables import CodeTable, Issuers, Terminology

NOW = datetime(2020, 3, 1, 12, 0, tzinfo=UTC)

SITE = Terminology(
    local_codes=CodeTable([("L", "CRP", "1988-5"), (None, "PO2A", "2703-7")]),
    documents=CodeTable([("L", "ANAM", "history"), ("LN", "18842-5", "history")]),
    issuers=Issuers({"KIS": "hospital", "1.2.3.4": "hospital"}),
)
LABORATORY = Source(name="laboratory", terminology=SITE, zone=TimeZone("Europe/Berlin"), patient_issuer="default")

PID = "PID|1||4711^^^KIS^MR~99^^^NATION^SS||Muster^Erika||19500712|F"
OBR = "OBR|1|P1|F1^LIS|CHEM^Chemistry^L|||20200301100000|||||||||||||||20200301110000||LAB|F"


def message(*segments: str, kind: str = "ORU^R01^ORU_R01", header: str = "", charset: str = "") -> bytes:
    """A message of LIS at H with control id 42; `header` stands in MSH-13 to MSH-17."""
    head = f"MSH|^~\\&|LIS|H|CONSILIUM|RAD|20200301113000+0100||{kind}|42|P|2.5.1|{header or '||||'}|{charset}"
    return ("\r".join([head.rstrip("|"), *segments]) + "\r").encode()


def result(
    value: str, *, kind: str = "NM", code: str = "1988-5^CRP^LN", unit: str = "mg/L", status: str = "F", time: str = ""
) -> str:
    """An OBX; `time` is OBX-14."""
    return f"OBX|1|{kind}|{code}||{value}|{unit}|||||{status}|||{time}".rstrip("|")


class MemoryInbox:
    """What was added, in order; a raw message whose key is known is passed over, as the store does."""

    def __init__(self) -> None:
        self.records: list[Received] = []
        self.raw: dict[str, RawMessage] = {}
        self.fault: Exception | None = None

    def add(self, *records: Received, raw: RawMessage | None = None) -> bool:
        if self.fault is not None:
            raise self.fault
        if raw is not None and raw.key in self.raw:
            return False
        if raw is not None:
            self.raw[raw.key] = raw
        self.records += records
        return True

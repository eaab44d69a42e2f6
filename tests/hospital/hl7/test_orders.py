from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consilium.domain.errors import InputError
from hospital.hl7.messages import parse
from hospital.hl7.orders import read_orders
from hospital.hl7.source import Place, Source, places
from hospital.store.received import Accession, Code, PatientId, ReceivedOrder
from tests.hospital.hl7.sent_messages import NOW, PID, SITE, message

RIS = Source(name="ris", terminology=SITE, accession_issuer="RIS-A")
ORC = "ORC|NW|P7^KIS|F7^RIS"
OBR = "OBR|1|P7^KIS|F7^RIS|XTHOR^Thorax p.a.^L^399208008^Plain chest X-ray^SCT"
WITH_REASON = OBR + "|||||||||Fever&cough|||||A77" + "|" * 13 + "R05^Cough^ICD10~^Pneumonia?"
UID = "1.2.826.0.1.77"


def read(*segments: str, kind: str = "ORM^O01^ORM_O01", source: Source = RIS) -> list[ReceivedOrder]:
    return read_orders(parse(message(*segments, kind=kind)), source, NOW)


def test_an_order_with_all_that_is_kept_of_it() -> None:
    assert read(PID, ORC, WITH_REASON, f"ZDS|{UID}^KIS^Application^DICOM") == [
        ReceivedOrder(
            patient=PatientId("4711", "hospital"),
            accession=Accession("A77", "RIS-A"),
            study=UID,
            placer="P7^KIS",
            filler="F7^RIS",
            reason="Cough\nPneumonia?\nFever",
            procedures=(Code("XTHOR", "L", "Thorax p.a."), Code("399208008", "SCT", "Plain chest X-ray")),
            time=datetime(2020, 3, 1, 10, 30, tzinfo=UTC),
            source="ris",
        )
    ]


def test_an_omi_order_says_accession_and_study_in_its_imaging_procedure() -> None:
    (order,) = read(PID, ORC, OBR, f"IPC|B88^KIS|RP1|{UID}^KIS|SPS1", kind="OMI^O23^OMI_O23")
    assert (order.accession, order.study) == (Accession("B88", "hospital"), UID)


def test_places_are_those_of_the_site() -> None:
    site = replace(RIS, accession_places=places("ORC-3", "OBR-18"), study_places=places("OBR-20.2"), reason_places=())
    (order,) = read(PID, ORC, OBR + "||||||||||||||||" + f"X^{UID}", source=site)
    assert (order.accession, order.study, order.reason) == (Accession("F7", "RIS"), UID, None)


def test_several_orders_of_a_message_stay_apart() -> None:
    first, second = read(PID, ORC, OBR, f"ZDS|{UID}.1", ORC.replace("7", "8"), OBR.replace("7", "8"), f"ZDS|{UID}.2")
    assert (first.placer, first.study, second.placer, second.study) == ("P7^KIS", f"{UID}.1", "P8^KIS", f"{UID}.2")


def test_a_study_that_stands_once_belongs_to_every_order() -> None:
    orders = read(PID, ORC, OBR, OBR.replace("7", "8"), f"ZDS|{UID}")
    assert [order.study for order in orders] == [UID, UID]


@pytest.mark.parametrize("uid", ["not a uid", "1", "1.2." + "3" * 61, "1.2;3"])
def test_what_is_no_uid_names_no_study(uid: str) -> None:
    assert read(PID, ORC, OBR, f"ZDS|{uid}")[0].study is None


@pytest.mark.parametrize(
    ("orc", "cancelled"),
    [("ORC|NW", False), ("ORC|XO", False), ("ORC|CA", True), ("ORC|SC|||| CA", True), ("ORC|DC", True)],
)
def test_cancelled_orders_are_known(orc: str, cancelled: bool) -> None:
    assert read(PID, orc, OBR)[0].cancelled is cancelled


@pytest.mark.parametrize(
    ("segments", "priority"),
    [
        (("ORC|NW|P7|||||^^^^^S", OBR), "stat"),
        ((ORC, "TQ1|1||||||||S", OBR), "stat"),
        ((ORC, OBR + "|STAT"), "stat"),
        ((ORC, OBR + "|R"), "routine"),
    ],
)
def test_priority(segments: tuple[str, ...], priority: str) -> None:
    assert read(PID, *segments)[0].priority == priority


def test_an_order_without_a_patient_is_refused() -> None:
    with pytest.raises(InputError, match="PID-3"):
        read("PID|1||||Muster", ORC, OBR)


@pytest.mark.parametrize("name", ["OBR", "obr-18", "OBR-0", "OBR-1.2.3.4", ""])
def test_what_names_no_field_is_no_place(name: str) -> None:
    with pytest.raises(InputError, match="must name a field of a segment"):
        Place.named(name)

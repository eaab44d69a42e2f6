"""For whom an answer is sent, and whether that turned out to be the wrong one."""

from __future__ import annotations

from collections.abc import Sequence

from hospital.store.received import PatientId, ReceivedInstance, ReceivedOrder
from hospital.store.state import Addressee
from hospital.studies.rules.matching import MatchedRecords, StudyIdentity
from hospital.studies.rules.patient_aliases import PatientAliases


def addressee_of(identity: StudyIdentity, images: Sequence[ReceivedInstance], matched: MatchedRecords) -> Addressee:
    """For whom the answer to a study is sent."""
    first = images[0].description
    return Addressee(
        patient=identity.patient,
        accession=identity.accession,
        order=next(iter(matched.orders), None),
        name=first.name,
        birth_date=first.birth_date,
        sex=first.sex,
        taken=min((one.description.acquired for one in images if one.description.acquired), default=None),
    )


def is_wrong(
    addressee: Addressee, identity: StudyIdentity, order: ReceivedOrder | None, aliases: PatientAliases
) -> bool:
    """Whether an answer was sent for another person than the study is of now, or to an order of another person.

    Parameters
    ----------
    order : ReceivedOrder or None
        The version that counts now of the order that the answer was sent to.
    """
    if addressee.patient is None:
        return False
    if identity.patient is None or not _same_person(addressee.patient, identity.patient, aliases):
        return True
    return order is not None and not _same_person(order.patient, identity.patient, aliases)


def _same_person(one: PatientId, other: PatientId, aliases: PatientAliases) -> bool:
    """An identifier of which one object alone names the issuer is no other one."""
    completed = one.value == other.value and None in (one.issuer, other.issuer)
    return completed or aliases.same(one, other)

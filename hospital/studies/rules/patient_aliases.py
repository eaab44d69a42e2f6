"""Which identifiers name one patient: only the merges that a registration system reported join two of them."""

from __future__ import annotations

from collections.abc import Callable

from hospital.store.received import PatientId


class PatientAliases:
    """What the store knows of identifiers, asked once for each of them.

    Parameters
    ----------
    same : callable
        Gives every identifier of the person that one names, the one that stays first: `Patients.same` of the store.
    """

    def __init__(self, same: Callable[[PatientId], tuple[PatientId, ...]]) -> None:
        self._same = same
        self._known: dict[PatientId, tuple[PatientId, ...]] = {}

    def all_of(self, patient: PatientId) -> tuple[PatientId, ...]:
        """Every identifier, former ones too, of the person whom `patient` names."""
        if patient not in self._known:
            self._known[patient] = self._same(patient)
        return self._known[patient]

    def current(self, patient: PatientId) -> PatientId:
        """The identifier under which `patient` is known now."""
        return self.all_of(patient)[0]

    def same(self, one: PatientId, other: PatientId) -> bool:
        """Whether both identifiers name one person: the same value and issuer, or joined by merges."""
        return self.current(one) == self.current(other)

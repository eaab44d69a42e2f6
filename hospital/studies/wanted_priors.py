"""A study of which a route wants the priors: their search is begun, once for each person whom it names."""

from __future__ import annotations

from collections.abc import Sequence

from hospital.store.gateway_store import Store
from hospital.store.prior_searches import PriorSearch
from hospital.store.received import PatientId
from hospital.studies.assembly import Assembled
from hospital.studies.rules.clock_checks import study_time
from hospital.studies.rules.patient_aliases import PatientAliases
from hospital.studies.rules.routing import Route


def want_priors(store: Store, found: Assembled, route: Route, aliases: PatientAliases) -> None:
    """Begin a search, unless there was one for this patient; whoever was merged with another is looked for anew.

    What was shown of somebody who is another person after all is taken back.

    A patient whose issuer nobody named has no priors: the number is somebody else's as well.
    """
    study, patient = found.identity.study, found.identity.patient
    if route.priors is None or patient is None or patient.issuer is None:
        return
    person = aliases.all_of(patient)
    known = store.priors.get(study)
    if known is not None and (set(known.patients), known.route) == (set(person), route.name):
        return
    received = min(image.received for image in found.images)
    taken = study_time([image.description.acquired for image in found.images], received).reference or received
    until = found.at + route.priors.give_up
    store.priors.begin(
        PriorSearch(study, route.name, person, taken, until, due=found.at, taken_back=_taken_back(known, person))
    )


def _taken_back(known: PriorSearch | None, person: Sequence[PatientId]) -> tuple[str, ...]:
    """What was shown under an identifier that is another person's, as a later merge says."""
    if known is None:
        return ()
    return known.taken_back if set(known.patients) <= set(person) else (*known.taken_back, *known.shown)

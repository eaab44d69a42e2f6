"""A study of which a route wants the priors: their search is begun, once for each person whom it names."""

from __future__ import annotations

from hospital.store.gateway_store import Store
from hospital.store.prior_searches import PriorSearch
from hospital.studies.assembly import Assembled
from hospital.studies.rules.clock_checks import study_time
from hospital.studies.rules.patient_aliases import PatientAliases
from hospital.studies.rules.routing import Route


def want_priors(store: Store, found: Assembled, route: Route, aliases: PatientAliases) -> None:
    """Begin a search, unless there was one for this patient; whoever was merged with another is looked for anew.

    What was shown of somebody who is another person after all, or to readers of another group, is taken back.

    A patient whose issuer nobody named has no priors: the number is somebody else's as well.
    """
    study, patient = found.identity.study, found.identity.patient
    if route.priors is None or route.reading_group is None or patient is None or patient.issuer is None:
        store.priors.withdraw(study)
        return
    received = min(image.received for image in found.images)
    taken = study_time([image.description.acquired for image in found.images], received).reference or received
    wanted = PriorSearch(
        study=study,
        route=route.name,
        service=route.service,
        group=route.reading_group,
        patients=tuple(aliases.all_of(patient)),
        taken=taken,
        until=found.at + route.priors.give_up,
        due=found.at,
    )
    known = store.priors.get(study)
    if known is None or not wanted.wants_as(known):
        store.priors.begin(wanted)

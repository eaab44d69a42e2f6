"""Which identifier of a study and of an order a whole study goes by."""

from __future__ import annotations

from consilium.domain.study import Study


def named(study: Study, identifier: str) -> str | None:
    """What the records of `study` have as `identifier`, such as ``study_digest``: the images, if there are any.

    None where they name none, or several.
    """
    leading = [record for record in study.records if record.sets_reference] or study.records
    known = {getattr(record, identifier) for record in leading} - {None}
    return known.pop() if len(known) == 1 else None

"""The table of scores: its columns, and the row of a study that was answered or refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from consilium.domain.diagnosis import Diagnosis, ModelIdentity
from consilium.domain.errors import InputError
from consilium.domain.findings import FindingSet

SCORED, REFUSED = "scored", "refused"
_TEXTS = pa.list_(pa.string())


def table_schema(findings: FindingSet, model: ModelIdentity) -> pa.Schema:
    """One row a study; the columns of findings end in their names.

    Columns of what was not answered are null. The model stands in the schema's metadata, too.
    """
    fields = [
        ("study", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        *((f"probability:{name}", pa.float64()) for name in findings.names),
        *((f"low:{name}", pa.float64()) for name in findings.names),
        *((f"high:{name}", pa.float64()) for name in findings.names),
        *((f"call:{name}", pa.bool_()) for name in findings.names),
        *((f"prediction_set:{name}", _TEXTS) for name in findings.names),
        *((f"refer_reasons:{name}", _TEXTS) for name in findings.names),
        ("refer_reasons", _TEXTS),
        ("modalities", _TEXTS),
        ("warnings", _TEXTS),
        ("out_of_distribution_p", pa.map_(pa.string(), pa.float64())),
        ("input_digests", pa.map_(pa.string(), pa.string())),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("manifest_digest", pa.string()),
    ]
    return pa.schema(fields, metadata={"model": model.name, "version": model.version, "digest": model.manifest_digest})


def scored_row(study_id: str, diagnosis: Diagnosis) -> dict[str, Any]:
    """The row of an answered study."""
    row: dict[str, Any] = {"study": study_id, "state": SCORED}
    for result in diagnosis.findings:
        low, high = result.interval
        row |= {
            f"probability:{result.finding}": result.probability,
            f"low:{result.finding}": low,
            f"high:{result.finding}": high,
            f"call:{result.finding}": result.call,
            f"prediction_set:{result.finding}": list(result.prediction_set),
            f"refer_reasons:{result.finding}": list(result.refer_reasons),
        }
    model = diagnosis.model
    return row | {
        "refer_reasons": list(diagnosis.refer_reasons),
        "modalities": list(diagnosis.modalities),
        "warnings": list(diagnosis.warnings),
        "out_of_distribution_p": {one.part: one.p_value for one in diagnosis.out_of_distribution},
        "input_digests": diagnosis.input_digests,
        "model": model.name,
        "model_version": model.version,
        "manifest_digest": model.manifest_digest,
    }


def refused_row(study_id: str, error: InputError, model: ModelIdentity) -> dict[str, Any]:
    """The row of a study that was not answered: the field and the rule, without the value, which may name a patient."""
    return {
        "study": study_id,
        "state": REFUSED,
        "reason": f"{error.field}: {error.rule}",
        "model": model.name,
        "model_version": model.version,
        "manifest_digest": model.manifest_digest,
    }

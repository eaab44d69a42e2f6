"""A result as a page for people: what `DiagnosticReport.presentedForm` carries. No script, nothing that is fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from html import escape

from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, ReportedFinding, ReportedStudy
from hospital.fhir.results.result_values import Json


def presented_form(reported: ReportedStudy, created: datetime) -> Json:
    """The page as an Attachment, with size and SHA-1 as FHIR wants them."""
    page = result_page(reported, created).encode()
    return {
        "contentType": "text/html",
        "language": "en",
        "data": base64.b64encode(page).decode(),
        "size": len(page),
        "hash": base64.b64encode(hashlib.sha1(page, usedforsecurity=False).digest()).decode(),
        "title": "Findings of a model",
        "creation": created.isoformat(),
    }


def result_page(reported: ReportedStudy, created: datetime) -> str:
    """HTML, referral before any number."""
    return page_of(result_body(reported, created))


def page_of(body: Sequence[str]) -> str:
    """A page of these elements."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Findings of a model</title></head>',
            "<body>",
            *body,
            "</body></html>",
        ]
    )


def result_body(reported: ReportedStudy, created: datetime) -> list[str]:
    """The elements of a page about one result."""
    model = reported.model
    heads = ("Finding", "Answer", "Probability", "Interval", "Operating point")
    made = f"{model.name}, version {model.version}, manifest {model.manifest_digest}; "
    return [
        f"<p><strong>{escape(DISCLAIMER)} Preliminary.</strong></p>",
        *_listed("Referred: assess this study without the model", reported.refer_reasons),
        f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead><tbody>",
        *(_row(finding) for finding in reported.findings),
        "</tbody></table>",
        *(f"<p>{escape(f'{one.display}: {one.answer} ({one.detail})')}</p>" for one in reported.targets),
        *_listed("Remarks", reported.remarks),
        f"<p>{escape(made + created.isoformat(timespec='minutes'))}</p>",
    ]


def _row(finding: ReportedFinding) -> str:
    low, high = finding.interval
    reasons = "".join(f"<br>{escape(reason)}" for reason in finding.refer_reasons)
    called = "called" if finding.called else "not called"
    cells = (
        escape(finding.display),
        f"{finding.presence.value}{reasons}",
        percent(finding.probability),
        f"{percent(low)} to {percent(high)}",
        f"{percent(finding.threshold)}, {called}",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _listed(title: str, sentences: tuple[str, ...]) -> list[str]:
    if not sentences:
        return []
    return [f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"]

"""Cards of CDS Hooks 2.0 about results that are there: one a study, referral before any finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from consilium.output.labels import percent
from consilium.output.reported import DISCLAIMER, Presence, ReportedFinding, ReportedStudy
from hospital.fhir.results.result_values import Json, derived_urn

LONGEST_SUMMARY = 139
"""Characters: a summary is shorter than 140."""
_LABEL = "Consilium (decision support)"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&])")


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result that was delivered before.

    Attributes
    ----------
    day : date or None
        Of the study.
    link : str or None
        Where the result can be read in a browser.
    launch : str or None
        Where a SMART app shows it, launched by the record system.
    """

    reported: ReportedStudy
    day: date | None
    link: str | None = None
    launch: str | None = None


def cards(results: Sequence[StoredResult]) -> Json:
    """The answer of a service; nothing in it is null or empty but the list of cards."""
    return {"cards": [_card(one) for one in results]}


def _card(result: StoredResult) -> Json:
    reported = result.reported
    present = any(finding.presence is Presence.PRESENT for finding in reported.findings)
    card: Json = {
        "uuid": card_name(reported),
        "summary": _summary(result),
        "indicator": "warning" if present else "info",
        "source": {"label": _LABEL},
        "detail": _detail(reported),
    }
    if links := _links(result):
        card["links"] = links
    return card


def card_name(reported: ReportedStudy) -> str:
    """By which feedback names the card of a revision."""
    return derived_urn("cds-card", reported.revision).removeprefix("urn:uuid:")


def _summary(result: StoredResult) -> str:
    reported = result.reported
    of = f"Study of {result.day:%Y-%m-%d}" if result.day else "Imaging study"
    if reported.referred:
        return f"{of}: the model refers it, assess without it"
    present = [one.display for one in reported.findings if one.presence is Presence.PRESENT]
    unsure = [one for one in reported.findings if one.presence is Presence.UNDETERMINED]
    summary = f"{', '.join(present)} present" if present else "nothing present" if not unsure else "nothing certain"
    more = f", {len(unsure)} undetermined" if unsure else ""
    return _shortened(f"{of}: {summary}{more} (model, preliminary)", f"{of}: {len(present)} findings present{more}")


def _shortened(whole: str, short: str) -> str:
    return whole if len(whole) <= LONGEST_SUMMARY else short


def _detail(reported: ReportedStudy) -> str:
    """GitHub Flavored Markdown; what is not ours is escaped."""
    model = reported.model
    lines = [f"**{DISCLAIMER}** Preliminary."]
    if reported.referred:
        lines += ["", "**Referred: assess this study without the model.**"]
        lines += [f"- {_plain(reason)}" for reason in reported.refer_reasons]
    lines += ["", "| Finding | Answer | Probability (interval) |", "| --- | --- | --- |"]
    lines += [_row(finding) for finding in reported.findings]
    reasons = [f"- {_plain(f'{one.display}: {reason}')}" for one in reported.findings for reason in one.refer_reasons]
    lines += ["", *reasons] if reasons else []
    return "\n".join([*lines, "", _plain(f"{model.name}, version {model.version}")])


def _row(finding: ReportedFinding) -> str:
    low, high = finding.interval
    numbers = f"{percent(finding.probability)} ({percent(low)} to {percent(high)})"
    return f"| {_plain(finding.display)} | {finding.presence.value} | {_plain(numbers)} |"


def _plain(words: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(words.split()))


def _links(result: StoredResult) -> list[Json]:
    """`appContext` goes with a SMART launch alone."""
    links: list[Json] = []
    if result.link is not None:
        links.append({"label": "Result", "url": result.link, "type": "absolute"})
    if result.launch is not None:
        context = result.reported.revision
        links.append({"label": "Result and evidence", "url": result.launch, "type": "smart", "appContext": context})
    return links

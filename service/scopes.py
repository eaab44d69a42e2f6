"""What a token may allow."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a token allows. None implies another."""

    READ = "read"
    """The model, its card, the description of the service, audit log entries of the answers that this caller got."""
    DIAGNOSE = "diagnose"
    """Diagnoses and explanations, at once or as jobs; searches; feedback."""
    ADMIN = "admin"
    """What changes the service or its audit log, and what others asked it."""
    METRICS = "metrics"
    """``/metrics`` and what monitoring found, for whoever watches the service."""

"""Worklists of other systems that the gateway works on."""

from __future__ import annotations

from pydantic import Field

from hospital.configuration.network_settings import HttpServer
from hospital.configuration.strict_section import Duration, Name, StrictSection
from hospital.configuration.system_settings import AeTitle


class CodeSettings(StrictSection):
    """A coded concept."""

    value: str = Field(min_length=1, max_length=16)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=64)


class WorklistSettings(HttpServer):
    """A UPS-RS worklist (PS3.18 11): work items are claimed, done, and completed with references to results."""

    codes: tuple[CodeSettings, ...] = Field(min_length=1)
    """Of the Scheduled Workitem Code Sequence: which work items are done here."""
    inputs: Name
    """Whence their studies are fetched: a name of `dicomweb`, or of a peer that may `be asked`."""
    station: CodeSettings = CodeSettings(value="CONSILIUM", scheme="99CONSILIUM", meaning="Consilium gateway")
    """The gateway, where work items are scheduled for stations and name who performed them."""
    ae_title: AeTitle = "CONSILIUM"
    """To whom the worklist reports requests for cancellation."""
    every: Duration = Field(default="10s", validate_default=True)
    """How often it is searched."""
    at_once: int = Field(default=4, ge=1, le=100)
    give_up: Duration = Field(default="1h", validate_default=True)
    """After it a work item whose input cannot be had is cancelled."""

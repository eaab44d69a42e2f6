"""The wire type of the latest look of `consilium monitor run` at the model that answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from consilium.domain.wire import STRICT

GaugeName = Annotated[str, StringConstraints(pattern=r"^consilium_monitor_[a-z0-9_]{1,80}$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
LabelText = Annotated[str, StringConstraints(max_length=200)]


class _Extensible(BaseModel):
    """Keys that are not declared here are kept: whoever looks may be of a later version than whoever shows it."""

    model_config = STRICT | ConfigDict(extra="allow")


class MonitorGauge(_Extensible):
    """One figure worth a time series."""

    name: GaugeName
    labels: dict[LabelName, LabelText]
    value: float


class MonitorAlarm(_Extensible):
    """Something that has changed, and has not been accepted."""

    name: str
    since: str = Field(description="When the evidence sufficed.")
    statistic: str
    e_value: float = Field(description="Evidence against nothing having changed.")
    sentence: str


class MonitorAnswer(_Extensible):
    """The answer of `GET /v1/monitor`: what `consilium monitor run` found last of the model's answers."""

    model: str
    version: str
    until: str = Field(description="Answers before this time were looked at.")
    alarms: tuple[MonitorAlarm, ...]
    gauges: tuple[MonitorGauge, ...]

"""How a modality is shown: its attributions to readers and callers, its records to the readers of a stored study.

A modality names a `Presentation` by reference in its declaration, an input of it a `FileViewing` or a `RecordViewing`.
They need no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from consilium.domain.study import Patient, Record, Study
from consilium.domain.variables import VariableTable
from consilium.domain.wire import Wire
from consilium.modalities.registry import file_inputs, find_modality, in_order, json_inputs
from consilium.system.installed import load

FOR, AGAINST = (217, 84, 15), (30, 110, 200)
"""Colours of evidence on every page and picture, red, green and blue from 0 to 255: orange for a finding, blue against
it, distinguishable also for people with a colour vision deficiency."""


Maps = Literal["pictures", "cells", "none"]
"""How maps over an image are sent: as pictures in its own grid, as the cells that were weighed, or not at all."""


@dataclass(frozen=True, slots=True)
class Sending:
    """How attributions are sent.

    Attributes
    ----------
    maps : str
    all_findings : sequence of tuples
        The attributions of the modality for every finding that is explained: what is drawn has one scale for all.
    """

    maps: Maps = "pictures"
    all_findings: Sequence[tuple[Any, ...]] = ()


def _as_sent(attribution: Any, sending: Sending) -> Any:
    del sending
    return attribution


def _as_read(sent: Any) -> Any:
    return sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """How the attributions of one modality are shown and sent.

    Attributes
    ----------
    wire : type
        Of one attribution as it is sent: a pydantic model or a `consilium.domain.wire.WireValue`.
    write : callable
        (attribution, `Sending`) → what is sent.
    read : callable
        What was sent → attribution.
    template : str
        ``package:file`` of the Jinja template of its card on the report; it sees `card` (what `cards` gave) and `tab`,
        the finding that is explained.
    cards : callable
        (study, attributions of each explained finding) → what the template shows of each finding; None: no card.
    information : type or None
        Of what ``GET /v1/model`` says of the modality, which its preparation's `information` gives.
    column : str
        Where on the page the card stands; pictures stand left.
    unit : str
        What is weighed, in the plural, as a row of the terminal's table is called: ``words``.
    rows : callable
        Attributions of one finding → name and log-odds of each that the terminal lists.
    """

    wire: Any
    template: str
    cards: Callable[[Study, Sequence[tuple[Any, ...]]], Sequence[Mapping[str, Any] | None]]
    unit: str
    rows: Callable[[Sequence[Any]], list[tuple[str, float]]]
    write: Callable[[Any, Sending], Any] = _as_sent
    read: Callable[[Any], Any] = _as_read
    information: Any = None
    column: Literal["left", "right"] = "right"


def presentations(modalities: Iterable[str]) -> dict[str, Presentation]:
    """Those of `modalities` that declare one, in order."""
    references = {name: find_modality(name).presentation for name in in_order(modalities)}
    return {name: load(reference) for name, reference in references.items() if reference}


# --- stored studies ------------------------------------------------------------------------------------------------


class FileView(Wire):
    """What every kind of file has, as readers see it."""

    number: int = 0
    """Position among the files of its kind."""
    digest: str
    """SHA-256 of the file that was sent, in hex."""
    words_digest: str = ""
    """SHA-256 of what is shown of it, row by row and little endian, in hex; given when the study is stored."""
    pixels: Literal["stored", "pacs", "expired"] = "stored"
    """`pacs`: they are fetched from the archive by the three UIDs when they are looked at, and compared with
    `words_digest`."""
    study_instance_uid: str | None = None
    """By which an archive and its viewers find the study; null of other files, and of one that breaks DICOM's rule."""
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None

    @property
    def is_addressable(self) -> bool:
        """Whether an archive can be asked for it."""
        return None not in (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)


@dataclass(frozen=True, slots=True, eq=False)
class Viewed:
    """A file, read for a model and for readers at once.

    Attributes
    ----------
    record : Record
        As the input's own reader gives it.
    view : FileView
        How `words` are shown.
    words : ndarray
        What of the file is shown, little endian.
    label : str or None
        Name and id of the patient, as the file has them. Not for logs, errors, metrics or addresses.
    issuer : str or None
        Who issued that id, where the file says so.
    """

    record: Record
    view: FileView
    words: npt.NDArray[Any]
    label: str | None
    issuer: str | None = None

    def __post_init__(self) -> None:
        little = self.words.astype(self.words.dtype.newbyteorder("<"), copy=False)
        object.__setattr__(self, "words", np.ascontiguousarray(little))


@dataclass(frozen=True, slots=True)
class FileViewing:
    """How the files of one input are shown.

    Attributes
    ----------
    wire : type
        A `FileView`.
    read : str
        Reference of ``read(data, *, field, limits) -> Viewed``, which runs in a decoding process.
    """

    wire: type[FileView]
    read: str


@dataclass(frozen=True, slots=True)
class ViewContext:
    """What is known of a study whose records are shown.

    Attributes
    ----------
    patient : Patient
    variables : VariableTable
        By which observations were read.
    used : sequence of Record
        The records that the model reads: those within its time window.
    """

    patient: Patient
    variables: VariableTable
    used: Sequence[Record]


@dataclass(frozen=True, slots=True)
class RecordViewing:
    """How the records of one input are shown.

    Attributes
    ----------
    wire : type
        Of one record.
    view : callable
        (records, context) → what is shown of each.
    """

    wire: type[Wire]
    view: Callable[[Sequence[Any], ViewContext], list[Any]]


def file_viewings() -> Mapping[str, FileViewing]:
    """Those of the inputs that declare one, by the input's name."""
    return {name: load(given.viewing) for name, given in file_inputs().items() if given.viewing}


def record_viewings() -> Mapping[str, RecordViewing]:
    """The same of inputs of JSON records."""
    return {name: load(given.viewing) for name, given in json_inputs().items() if given.viewing}

"""Modality: all that the system knows of one kind of record, declared in one place.

A modality is one folder below `consilium.modalities`, or any module that an entry point of the group
``consilium.modalities`` names. What needs torch or reads files is named by reference, so that a declaration is cheap to
import; `consilium.system.installed.load` fetches it where it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.formats.limits import Limits
from consilium.formats.time_zone import TimeZone

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper bound on what is sent.

    Attributes
    ----------
    name : str
        ``image_bytes``; the service's setting is ``CONSILIUM_MAX_IMAGE_BYTES``.
    most : int
        What cohorts and the command line may hold.
    served : int
        What one request may hold, unless the service's setting gives another number.
    description : str
        What is bounded.
    """

    name: str
    most: int
    served: int
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonInput:
    """A list of records in the JSON of a request.

    Attributes
    ----------
    name : str
        Its key in the request: ``notes``.
    schema : str
        Reference of the pydantic type of one record, a `consilium.domain.wire.Wire`.
    read : str
        Reference of ``read(raw, *, field, context) -> (records, warnings)``, which takes records of that type, or
        mappings that it checks by it, and gives `consilium.domain.study.Record`s; `context` is a `ReadingContext`.
    most : Limit
        How many records.
    description : str
        For the schema's readers.
    example : tuple of mappings
        Records of the request that documentation shows.
    option : CommandOption or None
        How `consilium diagnose` takes it.
    viewing : str
        Reference of its `consilium.modalities.presentation.RecordViewing`; empty: it is not shown.
    """

    name: str
    schema: str
    read: str
    most: Limit
    description: str = ""
    example: tuple[Mapping[str, Any], ...] = ()
    option: CommandOption | None = None
    viewing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """Files beside the JSON of a request.

    Attributes
    ----------
    name : str
        Name of the form's part: ``images``.
    read : str
        Reference of ``read(data, *, field, limits) -> Record``, which runs in a decoding process.
    most, most_bytes : Limit
        How many files, and how large one.
    media_types : tuple of str
        What they may be.
    description : str
        For the schema's readers.
    option : CommandOption or None
        How `consilium diagnose` takes it.
    viewing : str
        Reference of its `consilium.modalities.presentation.FileViewing`; empty: it is not shown.
    pack : str
        Where what a path names may be several files: reference of ``pack(path, most) -> bytes``, what is sent of it and
        read by `read`, at most `most` bytes. Raises `OSError` where it cannot be read. Empty: the file's own bytes.
    """

    name: str
    read: str
    most: Limit
    most_bytes: Limit
    media_types: tuple[str, ...] = ("application/octet-stream",)
    description: str = ""
    option: CommandOption | None = None
    viewing: str = ""
    pack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOption:
    """An option of `consilium diagnose`.

    Attributes
    ----------
    name : str
        ``--note``.
    help : str
    repeatable : bool
        Given once for each record, else once for all.
    read : str
        Of a `JsonInput`: reference of ``read(values, option) -> list of raw records``. A `FileInput` takes paths.
    metavar : str
        What its value is like: ``KIND=TEXT``.
    """

    name: str
    help: str
    repeatable: bool = True
    read: str = ""
    metavar: str = ""


@dataclass(frozen=True, slots=True)
class ReadingContext:
    """What records are read with.

    Attributes
    ----------
    limits : Limits
    zone : TimeZone
        In which times without an offset are meant.
    variables : VariableTable
        Whose codes are known.
    """

    limits: Limits
    zone: TimeZone
    variables: VariableTable = BUILT_IN


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """One kind of record.

    Attributes
    ----------
    name : str
        Its key in recipes, subsets, tables and files: ``image``.
    display : str
        Its name for readers: ``Images``.
    record : str
        What one record of it is called in a sentence: ``image``.
    section : str
        Reference of its `consilium.modalities.section.ModalitySection`, in a light module; that itself, which has no
        keys, unless it is given.
    preparation : str
        Reference of its `consilium.modalities.part.Preparation`.
    encoder : str
        Reference of its `consilium.modalities.tokens.Encoder`.
    subject : str
        What a study has of it, as the subject of a sentence in the singular: ``The image``, which empty stands for.
    inputs : tuple of JsonInput or FileInput
        How its records are sent.
    columns : tuple of str
        Of ``studies.csv``, where a cohort keeps its records.
    read_row : str
        Reference of ``read(row, *, root, context) -> (records, warnings)``: the records of one row, a mapping of column
        to text with all of `columns`, empty where there is nothing; `root` is the cohort's folder. A
        `consilium.domain.study.RecordFile` in place of a record is read later, once for all trainings, into the cache
        that the preparation's converter describes. Raises `consilium.domain.errors.InputError` with the column as its
        field.
    column_reader : str
        In place of `columns` and `read_row`, where its records need more than the cells of one row: reference of its
        `training.cohorts.column_reader.ColumnReader`.
    limits : tuple of Limit
        What else its readers bound: ``image_pixels``.
    warnings : str
        Reference of ``warnings(records) -> list of str``: what of a study's records the reader of its diagnosis has to
        know; empty: nothing.
    augmentation : str
        Reference of a class whose ``build(section, preparation)`` gives what changes the inputs of training batches,
        ``(inputs, draws) -> inputs``, or None; empty: they stay as they are.
    explanation : str
        Reference of its `consilium.explain.methods.ModalityExplanation`; empty: only what it brought as a whole is
        explained.
    typicality : str
        Reference of its `consilium.modalities.typicality.Typicality`; empty: it is compared with the training data by
        the features of its encoder alone.
    refer_checks : tuple of str
        Names of the checks of its `typicality`, which the recipe's section ``refer.checks`` may switch off.
    self_supervision : mapping of str to str
        Objectives of pretraining that read this modality alone, by the name that recipes give their weights: references
        of a `consilium.modalities.pretraining.self_supervision.SelfSupervision`.
    sentences : str
        Reference of its `consilium.modalities.pretraining.sentences.Sentences`, between records and sentences; empty:
        its records hold no words.
    presentation : str
        Reference of its `consilium.modalities.presentation.Presentation`, which shows and sends what the explanation
        attributes; empty only where that is.
    training : str
        Reference of its `training.training_side.TrainingSide`: what audit, evaluation and model card know of it; empty:
        what suits any modality.

    Raises
    ------
    ValueError
        For a name that is no lower-case identifier, an explanation that nothing presents, or columns that nothing or
        two readers read.
    """

    name: str
    display: str
    record: str
    preparation: str
    encoder: str
    section: str = "consilium.modalities.section:ModalitySection"
    subject: str = ""
    inputs: tuple[JsonInput | FileInput, ...] = ()
    columns: tuple[str, ...] = ()
    read_row: str = ""
    column_reader: str = ""
    limits: tuple[Limit, ...] = ()
    warnings: str = ""
    augmentation: str = ""
    explanation: str = ""
    presentation: str = ""
    training: str = ""
    typicality: str = ""
    self_supervision: Mapping[str, str] = field(default_factory=dict)
    sentences: str = ""
    refer_checks: tuple[str, ...] = ()

    @property
    def sentence_subject(self) -> str:
        """`subject`, or what it stands for."""
        return self.subject or f"The {self.record}"

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """Those of its inputs, and its own."""
        found: list[Limit] = []
        for given in self.inputs:
            found += [given.most] if isinstance(given, JsonInput) else [given.most, given.most_bytes]
        return (*found, *self.limits)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"modality name {self.name!r} must match {_NAME.pattern}")
        if self.explanation and not self.presentation:
            raise ValueError(f"modality {self.name} has an explanation, so it must have a presentation, too")
        if bool(self.columns) != bool(self.read_row):
            raise ValueError(f"modality {self.name} must have both columns and read_row, or neither")
        if self.columns and self.column_reader:
            raise ValueError(f"modality {self.name} must have a column_reader or columns, not both")

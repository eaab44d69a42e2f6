"""Modality: all that the system knows of one kind of record, declared in one place.

A modality is one folder below `consilium.modalities`, or any module that an entry point of the group
``consilium.modalities`` names. What needs torch or reads files is named by reference, so that a declaration is cheap to
import; `Modality.load` fetches it where it is needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


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
    preparation : str
        Reference of its `consilium.modalities.part.Preparation`.
    encoder : str
        Reference of its `consilium.modalities.tokens.Encoder`.
    subject : str
        What a study has of it, as the subject of a sentence in the singular: ``The image``, which empty stands for.
    explanation : str
        Reference of its `consilium.explain.methods.ModalityExplanation`; empty: only what it brought as a whole is
        explained.
    novelty : str
        Reference of its `consilium.modalities.novelty.PartNovelty`; empty: it is compared with the training data by the
        features of its encoder alone.
    refer_checks : tuple of str
        Names of the checks of its `novelty`, which the recipe's section ``refer.checks`` may switch off.
    presentation : str
        Reference of its `consilium.modalities.presentation.Presentation`, which shows and sends what the explanation
        attributes; empty only where that is.

    Raises
    ------
    ValueError
        For a name that is no lower-case identifier.
    """

    name: str
    display: str
    record: str
    preparation: str
    encoder: str
    subject: str = ""
    explanation: str = ""
    presentation: str = ""
    novelty: str = ""
    refer_checks: tuple[str, ...] = ()

    @property
    def sentence_subject(self) -> str:
        """`subject`, or what it stands for."""
        return self.subject or f"The {self.record}"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"modality name {self.name!r} must match {_NAME.pattern}")


def load(reference: str) -> Any:
    """The object that ``package.module:name`` names; its module is imported now."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)

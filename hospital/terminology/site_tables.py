"""A site's tables: what a local code means, which kind of note a document is, who issued an identifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from consilium.domain.errors import InputError
from consilium.domain.variables import BUILT_IN, VariableTable
from consilium.modalities.text.note import AFTERWARDS, NoteKind
from hospital.store.received import Code

LOINC_NAMES = frozenset({"LN", "LOINC", "HTTP://LOINC.ORG", "2.16.840.1.113883.6.1", "URN:OID:2.16.840.1.113883.6.1"})
"""How senders name LOINC (HL7 table 0396, FHIR, the OID), in capitals."""

Entry = TypeVar("Entry")


class CodeTable(Generic[Entry]):
    """What codes mean at a site; a row without a system is for its code in any system, and a row with one goes first.

    Parameters
    ----------
    rows : iterable of (system or None, code, entry)
        Systems are compared without regard to case.

    Raises
    ------
    InputError
        A code stands twice for one system.
    """

    def __init__(self, rows: Iterable[tuple[str | None, str, Entry]] = ()) -> None:
        self._entries: dict[tuple[str | None, str], Entry] = {}
        for system, code, entry in rows:
            key = _key(system, code)
            if key in self._entries:
                raise InputError("code", code, "must stand once for each system")
            self._entries[key] = entry

    def of(self, codes: Iterable[Code]) -> Entry | None:
        """The entry of the first of `codes` that has one."""
        for code in codes:
            for key in (_key(code.system, code.value), (None, code.value)):
                if key in self._entries:
                    return self._entries[key]
        return None


def _key(system: str | None, code: str) -> tuple[str | None, str]:
    return system.upper() if system else None, code


@dataclass(frozen=True, slots=True)
class Issuers:
    """Names of assigning authorities as the gateway uses them, whatever a system calls them.

    Attributes
    ----------
    names : mapping
        A namespace, OID or URI as sent, to the name in the configuration.
    """

    names: Mapping[str, str] = field(default_factory=dict)

    def known(self, *sent: str) -> str | None:
        """The configured name of the first of `sent` that is known."""
        return next((self.names[one] for one in sent if one in self.names), None)

    def name(self, *sent: str) -> str | None:
        """The configured name; else what was sent first, as it stands; None where nothing was."""
        return self.known(*sent) or next((one for one in sent if one), None)


@dataclass(frozen=True)
class Terminology:
    """All tables of a site.

    Attributes
    ----------
    local_codes : CodeTable of str
        Local codes of results, to a code of `variables`: LOINC, or a cohort's own.
    documents : CodeTable of str
        Types of documents, to the kind of note that a model reads. A radiologist's findings and impression give a
        study's answer away and are no kind that a document can be.
    issuers : Issuers
    variables : VariableTable
        What the deployed model knows.
    """

    local_codes: CodeTable[str] = field(default_factory=CodeTable)
    documents: CodeTable[str] = field(default_factory=CodeTable)
    issuers: Issuers = field(default_factory=Issuers)
    variables: VariableTable = BUILT_IN


def document_kind(name: str) -> str:
    """The kind of note that a site gives a document; `InputError` where it is none, or would give the answer away."""
    allowed = [kind.value for kind in NoteKind if kind not in AFTERWARDS]
    if name not in allowed:
        raise InputError("kind", name, f"must be one of {', '.join(allowed)}")
    return name


def is_loinc(code: Code) -> bool:
    return code.system is not None and code.system.upper() in LOINC_NAMES


def translated(codes: Sequence[Code], terms: Terminology) -> str | None:
    """The code under which a model knows what `codes` name: by the site's table, else a LOINC code; else None.

    A code without a system counts as LOINC where the table of variables has it.
    """
    if (own := terms.local_codes.of(codes)) is not None:
        return own
    loinc = [code.value for code in codes if is_loinc(code)]
    bare = [code.value for code in codes if not code.system and terms.variables.by_code(code.value) is not None]
    known = [code for code in (*loinc, *bare) if terms.variables.by_code(code) is not None]
    return next(iter((*known, *loinc)), None)

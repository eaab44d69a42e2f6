"""The one family of errors.

Everything a caller can get wrong ends in a `ConsiliumError`. An `InputError` names the field, the value that was
received and the rule it broke; the command line prints it in one line, the service answers it with a status.

Messages go back to the caller who sent the value. They are never logged whole: logs carry `field` and `rule` only.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_VALUE = 80
_MOST_REASONS = 3


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _LONGEST_VALUE:
        return text
    kept = _LONGEST_VALUE // 2  # of either end: the last part of a path identifies it
    return f"{text[: kept - 1]}…{text[-kept:]}"


def with_reasons(rule: str, warnings: Sequence[str]) -> str:
    """`rule` and the first `warnings`: where nothing is left to diagnose, they name what became of the records."""
    more = [f"and {len(warnings) - _MOST_REASONS} more"] if len(warnings) > _MOST_REASONS else []
    return "; ".join([rule, *warnings[:_MOST_REASONS], *more])


def os_cause(error: OSError) -> str:
    """What the system says, and of which file: ``No space left on device (/var/lib/consilium/audit-log.keys)``."""
    message = error.strerror or str(error) or type(error).__name__
    return message if error.filename is None else f"{message} ({os.fsdecode(error.filename)})"


class ConsiliumError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(ConsiliumError):
    """Input that breaks a rule.

    Parameters
    ----------
    field : str
        Where the value stood, as the caller knows it: ``images[0].BitsStored``, ``observations[3].unit``.
    value : object
        What was received. Shown shortened.
    rule : str
        What is required, as a sentence without a full stop: ``must be one of mg/dL, mmol/L``.
    """

    status = 422
    """HTTP status with which the service answers this error."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)
        self.field = field
        self.value = value
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.field}: got {_shown(self.value)}, {self.rule}"

    @property
    def shown_value(self) -> str:
        """The value received, as text, shortened."""
        return _shown(self.value)

    def at(self, prefix: str) -> InputError:
        """The same error seen from outside: ``field`` gains `prefix` (``images[0]``)."""
        joint = "" if self.field.startswith("[") else "."
        return type(self)(f"{prefix}{joint}{self.field}", self.value, self.rule)


class MalformedRequest(InputError):
    """The request itself cannot be parsed."""

    status = 400


class TooLarge(InputError):
    """The input exceeds a limit: bytes, pixels, files, characters."""

    status = 413


class UnsupportedMedia(InputError):
    """A kind of file, object or pixel encoding that is refused by name."""

    status = 415


class UnreadableImage(InputError):
    """An image that is truncated, corrupt, without pixels, or that contradicts its own header."""


class InaccessibleFile(InputError):
    """A file that the operating system does not hand out: not there any more, not ours to read, a broken disk."""


class DecodeFailed(UnreadableImage):
    """The decoder hung, or ran out of memory, on this image."""


class DecodersDied(DecodeFailed):
    """Two decoding processes, one after the other, died of this image."""


class DecoderUnavailable(ConsiliumError):
    """No decoding process took this image to its end, through no fault of the image: it can be tried again."""


class RecipeError(InputError):
    """A recipe with an unknown key or a value outside its range."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one table.

    `row` counts as a spreadsheet shows it: the header is row 1, the first record row 2. None concerns the whole column.
    """

    table: str
    row: int | None
    column: str
    value: object
    rule: str

    def __str__(self) -> str:
        where = f"{self.table}" if self.row is None else f"{self.table} row {self.row}"
        return f"{where}, {self.column}: got {_shown(self.value)}, {self.rule}"


_SHOWN_ALIKE = 10
"""Problems of one column and rule that are written out; ``consilium check --json`` has all."""


class CohortError(ConsiliumError):
    """A cohort that cannot be used; carries every problem found, not the first one only."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        """Each problem on a line; of many alike, in one column by one rule, the first few and how many more."""
        alike = Counter[tuple[str, str, str]]()
        lines = []
        for problem in self.problems:
            kind = (problem.table, problem.column, problem.rule)
            alike[kind] += 1
            if alike[kind] <= _SHOWN_ALIKE:
                lines.append(f"  {problem}")
        more = [
            f"  {table}, {column}: {number - _SHOWN_ALIKE} more, {rule}"
            for (table, column, rule), number in alike.items()
            if number > _SHOWN_ALIKE
        ]
        return "\n".join([f"{len(self.problems)} problem(s):", *lines, *more])


class ArtifactError(ConsiliumError):
    """A model folder that is incomplete, altered, or of a format this version does not know."""


class UnsupportedArtifact(ArtifactError):
    """A model folder of a format, or written by a version of this project, that this version does not read."""


class RegistryError(ConsiliumError):
    """The model registry has no such model, version or alias, or cannot be reached."""


class NotRegistered(RegistryError):
    """The registry answers, and knows no such model, version or alias."""


class NotGated(RegistryError):
    """A version that has not passed its gates was to be promoted."""


class RegistryUnreachable(RegistryError):
    """The registry or its store of artifacts gives no answer; it may give one later."""


class AlteredArtifact(RegistryError):
    """A registered artifact is not what was registered, or nothing can vouch for it."""


class ModelFailure(ConsiliumError):
    """A model gave no finite answer: broken weights or an overflow, never an answer to pass on."""


class WrongAnswers(ModelFailure):
    """A model answers its reference studies otherwise than it should: see `consilium.inference.self_test`."""


class ServiceUnreachable(ConsiliumError):
    """No answer of the service arrived: it is not there, the connection broke, or it took too long."""


class UnreadableAnswer(ConsiliumError):
    """What the service answered is nothing that this version knows."""


class ServiceProblem(ConsiliumError):
    """The service answered with a problem (RFC 9457).

    Parameters
    ----------
    status : int
        HTTP status.
    detail : str
        What is wrong, in a sentence.
    title, instance : str
        The problem's kind, and this occurrence's name in the service's log; empty where the answer has none.
    field, value, rule : str, optional
        Where the input broke a rule: where, what was received, what is required; see `InputError`.
    retry_after_s : float, optional
        How long the service asks to wait.
    request_id : str, optional
        The name under which the service logged the request.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str = "",
        instance: str = "",
        field: str | None = None,
        value: str | None = None,
        rule: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.title = title
        self.instance = instance
        self.field = field
        self.value = value
        self.rule = rule
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        return f"the service answered {self.status}: {self.detail}"


class TrainingError(ConsiliumError):
    """A training run that must not go on: too few labels, a leak, a checkpoint of another recipe."""

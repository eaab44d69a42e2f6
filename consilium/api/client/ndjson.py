"""The lines of a worklist's or a job's answer, put in the order of its studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import httpx
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from consilium.api.client.retry import EXTRA, service_problem
from consilium.api.schemas import DiagnosisAnswer, ExplanationLine, WorklistAnswer, WorklistCount, WorklistProblem
from consilium.domain.errors import ServiceProblem, UnreadableAnswer

WorklistResult: TypeAlias = DiagnosisAnswer | ServiceProblem
"""Answer or problem of one study."""


def _kind(line: Any) -> str | None:
    """By its key, and nothing else: keys that a newer service adds do not matter."""
    keys = [key for key in ("answer", "problem", "studies") if isinstance(line, dict) and key in line]
    if keys == ["answer"] and isinstance(line["answer"], dict) and "explanations" in line["answer"]:
        return "explanation"
    return keys[0] if len(keys) == 1 else None


Line: TypeAlias = (
    Annotated[WorklistAnswer, Tag("answer")]
    | Annotated[ExplanationLine, Tag("explanation")]
    | Annotated[WorklistProblem, Tag("problem")]
    | Annotated[WorklistCount, Tag("studies")]
)
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Discriminator(_kind)])


def worklist_reader(studies: int | None = None) -> Callable[[httpx.Response], list[WorklistResult]]:
    """What makes of a response, for each of so many `studies`, its answer or problem, in their order.

    Without a number there are as many as the last line says.
    """

    def read(response: httpx.Response) -> list[WorklistResult]:
        lines = [_read(number, text) for number, text in enumerate(response.content.splitlines())]
        count = lines.pop() if lines else None
        results = {line.study: _result(line, response) for line in lines if not isinstance(line, WorklistCount)}
        most = count.studies if studies is None and isinstance(count, WorklistCount) else studies
        whole = isinstance(count, WorklistCount) and count.studies == len(lines) == most
        if most is None or not whole or sorted(results) != list(range(most)):
            expected = "studies" if studies is None else f"{studies} studies"
            raise UnreadableAnswer(f"a worklist's answer has not one line for each of its {expected}, and a count")
        return [results[study] for study in range(most)]

    return read


def _result(line: WorklistAnswer | ExplanationLine | WorklistProblem, response: httpx.Response) -> WorklistResult:
    return service_problem(line.problem, response.headers) if isinstance(line, WorklistProblem) else line.answer


def _read(number: int, text: bytes) -> Line:
    try:
        return _LINE.validate_json(text, extra=EXTRA)
    except ValidationError as error:
        kind = error.errors(include_url=False, include_input=False)[0]["type"]
        raise UnreadableAnswer(f"line {number} of a worklist's answer cannot be read ({kind})") from None

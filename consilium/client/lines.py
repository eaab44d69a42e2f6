"""The lines of a worklist's answer, put in the order of its studies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import httpx
from pydantic import TypeAdapter, ValidationError

from consilium.client.exchange import service_problem
from consilium.errors import ServiceProblem, UnreadableAnswer
from consilium.schemas import DiagnosisAnswer, WorklistAnswer, WorklistCount, WorklistLine, WorklistProblem

_LINE: TypeAdapter[WorklistLine] = TypeAdapter(WorklistLine)

Told: TypeAlias = DiagnosisAnswer | ServiceProblem
"""What the service says of one study."""


def worklist_reader(studies: int) -> Callable[[httpx.Response], list[Told]]:
    """What makes of a response, for each of so many `studies`, its answer or problem, in their order."""

    def read(response: httpx.Response) -> list[Told]:
        lines = [_read(number, text) for number, text in enumerate(response.content.splitlines())]
        count = lines.pop() if lines else None
        told = {line.study: _told(line, response) for line in lines if not isinstance(line, WorklistCount)}
        whole = isinstance(count, WorklistCount) and count.studies == len(lines) == studies
        if not whole or sorted(told) != list(range(studies)):
            raise UnreadableAnswer(f"a worklist's answer has not one line for each of {studies} studies, and a count")
        return [told[study] for study in range(studies)]

    return read


def _told(line: WorklistAnswer | WorklistProblem, response: httpx.Response) -> Told:
    return line.answer if isinstance(line, WorklistAnswer) else service_problem(line.problem, response.headers)


def _read(number: int, text: bytes) -> WorklistLine:
    try:
        return _LINE.validate_json(text)
    except ValidationError as error:
        kind = error.errors(include_url=False, include_input=False)[0]["type"]
        raise UnreadableAnswer(f"line {number} of a worklist's answer cannot be read ({kind})") from None

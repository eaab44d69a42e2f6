"""A FHIR server of the tests' own, which answers as hospital's servers do: pages, refusals, pauses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

Resource = dict[str, Any]
BASE = "https://fhir.example/r4"


class StubServer:
    """Answers searches by patient, identifier, category and _lastUpdated, two resources a page.

    Attributes
    ----------
    faults : list of httpx.Response
        Answered first, one for each request.
    requests : list of httpx.Request
    """

    def __init__(self, *resources: Resource, page: int = 2) -> None:
        self.resources = list(resources)
        self.binaries: dict[str, bytes] = {}
        self.page = page
        self.faults: list[httpx.Response | Exception] = []
        self.requests: list[httpx.Request] = []
        self.gone: set[str] = set()

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    @property
    def asked(self) -> Counter[str]:
        """How often each type was searched for."""
        return Counter(request.url.path.rpartition("/")[2] for request in self.requests)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        if str(request.url) in self.gone:
            self.gone.discard(str(request.url))
            return httpx.Response(410)
        path = request.url.path.removeprefix("/r4/")
        if path in self.binaries:
            return httpx.Response(200, content=self.binaries[path])
        return self._search(path, request.url)

    def _search(self, kind: str, url: httpx.URL) -> httpx.Response:
        asked = url.params
        if kind == "Observation" and "category" not in asked:
            # As Epic answers.
            return httpx.Response(400, json=outcome("required", "A required element is missing: 4711"))
        found = [one for one in self.resources if one["resourceType"] == kind and _matches(one, asked)]
        start = int(asked.get("page", 0))
        links = [{"relation": "self", "url": str(url)}]
        if start + self.page < len(found):
            following = url.copy_set_param("page", start + self.page)
            links.append({"relation": "next", "url": str(following)})
        entries = [{"resource": one, "search": {"mode": "match"}} for one in found[start : start + self.page]]
        entries.append({"resource": outcome("informational", "note"), "search": {"mode": "outcome"}})
        return httpx.Response(
            200, json={"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}
        )


def _matches(resource: Resource, asked: httpx.QueryParams) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "identifier": lambda value: (
            value in [f"{one['system']}|{one['value']}" for one in resource.get("identifier", [])]
        ),
        "patient": lambda value: resource["subject"]["reference"] == f"Patient/{value}",
        "category": lambda value: value in json.dumps(resource.get("category")),
        "_lastUpdated": lambda value: resource["meta"]["lastUpdated"] >= value.removeprefix("ge"),
    }
    return all(tests[name](value) for name, value in asked.items() if name in tests)


def outcome(code: str, text: str) -> Resource:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code, "diagnostics": text}]}


def patient(ident: str = "p1", value: str = "4711", **fields: Any) -> Resource:
    return {
        "resourceType": "Patient",
        "id": ident,
        "meta": {"lastUpdated": "2020-03-01T08:00:00Z"},
        "identifier": [{"system": "urn:mrn", "value": value}],
        "birthDate": "1950-07-12",
        "gender": "female",
        **fields,
    }


def observation(ident: str, **fields: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": ident,
        "meta": {"versionId": "1", "lastUpdated": "2020-03-01T11:00:00+00:00"},
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "1988-5", "display": "CRP"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2020-03-01T10:00:00+01:00",
        "valueQuantity": {"value": 112, "unit": "mg/L", "system": "http://unitsofmeasure.org", "code": "mg/L"},
        **fields,
    }

"""A client of the service: typed requests and answers over HTTP, with retries; sync and async. No torch.

    from consilium.api.client import Client

    with Client("https://consilium.hospital.example", token="csl_...") as client:
        answer = client.diagnose(images=["film.dcm"], notes=[{"kind": "history", "text": "Fever and cough."}])
        for finding in answer.findings:
            print(finding.display, finding.probability, answer.refer_reasons)

`clients.py` and `async_client.py` hold the two clients, `endpoints.py` what each call sends, `multipart.py` the body of
a request, `retry.py` when a call is tried again, and how an answer becomes a type or an error of
`consilium.domain.errors`. `ndjson.py` reads the answer for several studies, one line each.
"""

from consilium.api.client.async_client import AsyncClient
from consilium.api.client.clients import Client
from consilium.domain.errors import ServiceProblem, ServiceUnreachable, UnreadableAnswer

__all__ = [
    "AsyncClient",
    "Client",
    "ServiceProblem",
    "ServiceUnreachable",
    "UnreadableAnswer",
]

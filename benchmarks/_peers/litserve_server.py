"""LitServe with its own batching: ``python -m _peers.litserve_server``. The web server and the model are processes."""

import os
from typing import Any

import litserve

from _peers import BATCH, PORT, load, read_study
from consilium.domain.diagnosis import Diagnosis
from consilium.preprocessing.batch import Prepared


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = load()

    def decode_request(self, request: dict) -> Prepared:  # type: ignore[type-arg]  # FastAPI reads the annotation
        return self.model.prepare(read_study(request))

    def batch(self, inputs: list[Prepared]) -> list[Prepared]:
        return inputs

    def predict(self, inputs: list[Prepared]) -> list[Diagnosis]:
        return list(self.model.diagnose_prepared(inputs))

    def unbatch(self, output: list[Diagnosis]) -> list[Diagnosis]:
        return output

    def encode_response(self, output: Diagnosis) -> dict[str, Any]:
        return output.to_json()


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=int(os.environ[BATCH]), batch_timeout=0.005), accelerator="cpu", timeout=120
    )
    server.run(host="127.0.0.1", port=int(os.environ[PORT]), generate_client_file=False, log_level="warning")

"""Requests that must be refused, each with the status that it must get."""

from __future__ import annotations

import io
import json
import pickle
import zlib
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.consilium.formats.dicom.dicom_files import dicom_file, ramp

_BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}


@dataclass(frozen=True, slots=True)
class Hostile:
    """`arguments` are those of `httpx.Client.post`."""

    name: str
    status: int
    arguments: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/diagnose", headers=self.headers, **self.arguments)


def _images(*files: bytes) -> dict[str, Any]:
    return {"files": [("images", ("x", file)) for file in files]}


def _request(text: str) -> dict[str, Any]:
    return {"files": {"request": (None, text, "application/json")}}


def bomb(rows: int = 60_000, columns: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it is one of billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = columns.to_bytes(4, "big") + rows.to_bytes(4, "big")
    packed = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0])) + chunk(b"IDAT", packed)


def _pickled() -> bytes:
    data = io.BytesIO()
    pickle.dump({"weights": list(range(100))}, data)
    return data.getvalue()


def make_hostile() -> list[Hostile]:
    whole = dicom_file(ramp())
    return [
        Hostile("truncated DICOM", 422, _images(whole[: len(whole) // 2])),
        Hostile("decompression bomb", 413, _images(bomb())),
        Hostile("pickle", 415, _images(_pickled())),
        Hostile("PDF", 415, _images(b"%PDF-1.7")),
        Hostile("URL in a file field", 422, {"files": [("images", (None, "http://127.0.0.1:9/x.dcm"))]}),
        Hostile("too many files", 413, _images(*[whole] * 9)),
        Hostile("no JSON", 400, _request('{"notes": [')),
        Hostile("unknown key", 422, _request(json.dumps({"note": []}))),
        Hostile("deep JSON", 400, _request("[" * 100_000)),
        Hostile("no study", 422, _request("{}")),
        Hostile("no form", 415, {"json": {"notes": []}}),
        Hostile("unfinished form", 400, {"content": b"--b\r\nContent-Disposition: form-data"}, dict(_BOUNDARY)),
        Hostile("wrong token", 401, _request("{}"), {"Authorization": "Bearer consilium_000000000000_0"}),
    ]

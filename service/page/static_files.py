"""The files of the page, as `web/` was built: read once, compressed once, sent with the policy that they run under."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
ASSETS = "assets/"
"""Files whose names hold a digest of what is in them."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html"
)
"""Nothing is fetched from elsewhere, no text becomes a script, nobody frames the page; Svelte needs one policy."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept, Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FOREVER = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_TEXT = frozenset({".js", ".css", ".html", ".svg", ".txt", ".json", ".webmanifest"})
_SELF, _UP = b'"./', b'"../'


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file, as it is and compressed where that makes it smaller."""

    name: str
    data: bytes
    packed: bytes | None
    etag: str

    def response(self, headers: Headers, status: HTTPStatus = HTTPStatus.OK) -> Response:
        """The answer to a request with `headers`: the file, or that the browser has it."""
        sent = HEADERS | {
            "Cache-Control": _FOREVER if self.name.startswith(ASSETS) else _ASK_EACH_TIME,
            "ETag": self.etag,
        }
        if status == HTTPStatus.OK and self.etag in _tags(headers.get("if-none-match", "")):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=sent)
        if self.packed is not None and _takes_gzip(headers.get("accept-encoding", "")):
            sent["Content-Encoding"] = "gzip"
            return Response(self.packed, status, headers=sent, media_type=self._media_type)
        return Response(self.data, status, headers=sent, media_type=self._media_type)

    @property
    def _media_type(self) -> str:
        suffix = Path(self.name).suffix
        return _TYPES.get(suffix) or mimetypes.guess_type(self.name)[0] or "application/octet-stream"


class PageFiles:
    """All files of the page, by the names that they have in its folder."""

    def __init__(self, found: dict[str, bytes]) -> None:
        self._files = {name: _page_file(name, data) for name, data in found.items() if name != INDEX}
        self.index = _page_file(INDEX, found[INDEX])
        self.deeper = _page_file(INDEX, found[INDEX].replace(_SELF, _UP))
        """The same for a path one level below: what it names is named relative to it, so that any prefix works."""

    def named(self, name: str) -> PageFile | None:
        """The file called `name`; None where there is none, and for the page itself."""
        return self._files.get(name)


def read_files(folder: Path = FOLDER) -> PageFiles | None:
    """The page that was built into `folder`; None where there is none."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return PageFiles(found) if INDEX in found else None


def _page_file(name: str, data: bytes) -> PageFile:
    packed = gzip.compress(data, 9, mtime=0) if Path(name).suffix in _TEXT else data
    return PageFile(name, data, packed if len(packed) < len(data) else None, f'"{hashlib.sha256(data).hexdigest()}"')


def _tags(given: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in given.split(",")]


def _takes_gzip(given: str) -> bool:
    """Source: RFC 9110, section 12.5.3."""
    for offer in given.lower().split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False

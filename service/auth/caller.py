"""A caller, what it may do, and the errors where it may not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException

from service.scopes import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `name` is ``key:<id>`` of an API key, ``oidc:<subject>`` of an issuer's token.

    `groups` are the reading groups: who is in one sees the studies that others in it have sent.
    """

    name: str
    scopes: frozenset[Scope]
    groups: frozenset[str] = frozenset()


ANONYMOUS = Caller("anonymous", frozenset(Scope))
"""Whoever asks a service that authenticates nobody."""


class Unauthenticated(HTTPException):
    """No token, or none that holds. Which of its parts is wrong is not shown: that would help only who guesses.

    Source: RFC 6750, section 3.
    """

    def __init__(self, *, given: bool) -> None:
        challenge = 'Bearer realm="consilium"' + (', error="invalid_token"' if given else "")
        detail = "This token is not valid." if given else "An API key or a token is needed: Authorization: Bearer ..."
        super().__init__(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": challenge})


class Forbidden(HTTPException):
    """A good token that does not allow what was asked."""

    def __init__(self, missing: Scope, held: Iterable[Scope]) -> None:
        challenge = f'Bearer realm="consilium", error="insufficient_scope", scope="{missing}"'
        carried = ", ".join(sorted(held)) or "none"
        detail = f"This needs the scope {missing}; the token carries {carried}."
        super().__init__(HTTPStatus.FORBIDDEN, detail, {"WWW-Authenticate": challenge})


class TooManyRequests(HTTPException):
    """The caller asks more often than it may."""

    def __init__(self, retry_after_s: int) -> None:
        detail = "This caller exceeds its limit of requests per minute."
        super().__init__(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(retry_after_s)})


class CrossSite(HTTPException):
    """A browser sent this for another page than this service's own, or without what only that page knows.

    Source: W3C Fetch Metadata Request Headers; OWASP, Cross-Site Request Forgery Prevention.
    """

    kind = "cross-site-request"

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.FORBIDDEN, detail)


class WrongHost(HTTPException):
    """The request names the service by a name that is not its own, as a page does that had its name point here."""

    def __init__(self) -> None:
        detail = "The Host header is no name of this service: see CONSILIUM_PAGE_URL and CONSILIUM_HOSTS."
        super().__init__(HTTPStatus.MISDIRECTED_REQUEST, detail)

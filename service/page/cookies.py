"""The two cookies of the reading page, which no script can read.

Over https their names begin with ``__Host-``: no other host of the domain, and no page over http, can set them. A
loopback address over http, where browsers refuse such names, has plain ones.

Source: RFC 6265bis, section 4.1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie, by its plain name.

    Attributes
    ----------
    same_site : str
        ``strict``, or ``lax`` where it must come along when another site, as an issuer, leads back here.
    """

    plain_name: str
    secure: bool
    same_site: Literal["strict", "lax"] = "strict"

    @property
    def name(self) -> str:
        return f"__Host-{self.plain_name}" if self.secure else self.plain_name

    def read(self, headers: Headers) -> str | None:
        """Its value in a request; None where there is none."""
        for line in headers.getlist("cookie"):
            value = cookie_parser(line).get(self.name)
            if value and len(value) <= _LONGEST:
                return value
        return None

    def put(self, response: Response, value: str, max_age: int | None = None) -> None:
        """Have the browser send `value` from now on, until it is closed unless `max_age` seconds are given."""
        response.set_cookie(
            self.name, value, max_age=max_age, path="/", secure=self.secure, httponly=True, samesite=self.same_site
        )

    def clear(self, response: Response) -> None:
        """Have the browser forget it."""
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite=self.same_site)

"""From which pages a browser may send requests, and by which names it may call this service.

A token in a header is sent by whoever holds it. A cookie, and the mere place on this machine of a service that
authenticates nobody, are there for every page that a browser shows: what such a page asks for is refused here.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.auth.caller import CrossSite, WrongHost
from service.page_settings import LOOPBACK_NAMES
from service.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN = frozenset({"cross-site", "same-site"})
_ELSEWHERE = "A browser sent this request for another site's page."
_UNKNOWN_PAGE = "The request must say which page sent it: Origin or Sec-Fetch-Site."


class Sites:
    """The names and the origin of this service."""

    def __init__(self, settings: Settings) -> None:
        page = urlsplit(settings.page_url or "")
        self._page_origin = f"{page.scheme}://{page.netloc}".lower() if settings.page_url else None
        self._hosts = {*LOOPBACK_NAMES, *settings.hosts} | ({page.hostname} if page.hostname else set())

    def check_host(self, headers: Headers) -> None:
        """Raise `WrongHost` where the request names another host: its name may have been pointed at this machine."""
        given = headers.getlist("host")
        if len(given) != 1 or _host_name(given[0]) not in self._hosts:
            raise WrongHost

    def check_origin(self, method: str, headers: Headers, *, must_say: bool) -> None:
        """Raise `CrossSite` where another page than ours sent the request, or where nothing says that ours did.

        Parameters
        ----------
        must_say : bool
            Whether a request that changes something must come from a browser which says what sent it.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if method in SAFE_METHODS:
            # A link on another page may lead here; what it fetches or embeds may not.
            if site in _FOREIGN and headers.get("sec-fetch-mode") != "navigate":
                raise CrossSite(_ELSEWHERE)
            return
        if site is None and origin is None and must_say:
            raise CrossSite(_UNKNOWN_PAGE)
        if site not in (None, "same-origin") or (origin is not None and not self._is_own(origin, headers)):
            raise CrossSite(_ELSEWHERE)

    def _is_own(self, origin: str, headers: Headers) -> bool:
        """Whether `origin` is the page's by its setting, or the host that the request names, which is allowed."""
        parts = urlsplit(origin.lower())
        return origin.lower() == self._page_origin or (
            parts.scheme in ("http", "https") and parts.netloc == headers.get("host", "").lower()
        )


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

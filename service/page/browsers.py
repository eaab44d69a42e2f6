"""Which browser a session was begun in, coarsely: so that its reader knows it again, and nobody else is told more."""

from __future__ import annotations

_BROWSERS = (
    *(("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser/", "Samsung Internet"), ("Firefox/", "Firefox")),
    *(("FxiOS/", "Firefox"), ("CriOS/", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari")),
)
"""The more special ones first: most name others, too."""
_SYSTEMS = (
    *(("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iOS"), ("iPad", "iOS"), ("CrOS", "ChromeOS")),
    *(("Mac OS X", "macOS"), ("Linux", "Linux")),
)


def browser_of(user_agent: str) -> str | None:
    """``Firefox, Linux``, in words of this module alone; None where neither is known."""
    named = [next((name for mark, name in known if mark in user_agent), None) for known in (_BROWSERS, _SYSTEMS)]
    return ", ".join(filter(None, named)) or None

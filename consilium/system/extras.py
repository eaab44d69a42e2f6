"""Which extra of the distribution brings a package that is not installed."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires
from types import MappingProxyType

_DISTRIBUTIONS = MappingProxyType(
    {
        "PIL": "pillow",
        "jwt": "pyjwt",
        "opentelemetry": "opentelemetry-api",
        "prometheus_client": "prometheus-client",
        "pydantic_settings": "pydantic-settings",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
    }
)
"""Modules that are called otherwise than the distribution that brings them."""

_WITH_EXTRA = re.compile(r"([\w.-]+).*;\s*extra == ['\"]([\w-]+)['\"]")


def extra_that_installs(module: str) -> str | None:
    """The smallest extra of ``consilium`` that lists what brings `module`; None where no extra does.

    Read from the installed distribution's own metadata.
    """
    wanted = _DISTRIBUTIONS.get(top := module.partition(".")[0], top)
    try:
        lines = requires("consilium") or ()
    except PackageNotFoundError:
        return None
    listed = [match.groups() for line in lines if (match := _WITH_EXTRA.fullmatch(line))]
    sizes = Counter(extra for _, extra in listed)
    return min((extra for name, extra in listed if name == wanted), key=sizes.__getitem__, default=None)

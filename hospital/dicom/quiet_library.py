"""What pynetdicom and pydicom write about what peers send is kept out of the log: it quotes values."""

from __future__ import annotations

import logging
import warnings

from pynetdicom import _config


def quiet_library() -> None:
    """For the whole process; to be called before an association is made."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
    for library in ("pynetdicom", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=library)

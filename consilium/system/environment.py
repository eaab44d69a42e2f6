"""Variables of the environment that are no settings of the service; those are the fields of `service.settings`."""

from __future__ import annotations

import os
import pwd
import tempfile
from enum import StrEnum
from pathlib import Path


class Variable(StrEnum):
    """Who reads a variable takes its name from here, so that the service knows which names mean nothing."""

    HOME = "CONSILIUM_HOME"
    """The folder of what is made: the audit log, keys, copies of models, caches."""
    TOKEN = "CONSILIUM_TOKEN"  # noqa: S105 - the name of it
    """With which the command asks a service."""
    DICOMWEB_TOKEN = "CONSILIUM_DICOMWEB_TOKEN"  # noqa: S105 - the name of it
    """With which the command asks a DICOMweb archive."""
    TIME_ZONE = "CONSILIUM_TIME_ZONE"
    """The zone of the site's clocks (IANA name), for times that do not state their offset."""
    STORE_PATIENCE = "CONSILIUM_STORE_PATIENCE_S"
    """How long a training waits for a model store that gives no answer."""
    DATA = "CONSILIUM_DATA"
    """The folder of cohorts that tests read."""


def home_folder() -> Path:
    """``CONSILIUM_HOME``, or ``var`` below the working folder."""
    return Path(os.environ.get(Variable.HOME) or "var").absolute()


def provide_account() -> None:
    """Give libraries a user's name and a home where the account has none: a container may run under any user id.

    MONAI, torch and MLflow ask for the name while they are imported, and raise `KeyError` without one. Caches, which
    BentoML, matplotlib and Hugging Face want at home, go to ``CONSILIUM_HOME`` where nothing can be written there. Call
    it before they are imported; what runs in other processes inherits it.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        for name in ("USER", "LOGNAME"):
            os.environ.setdefault(name, f"uid-{os.getuid()}")
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry
        home = None
    if home is None or not _writable(home):
        ours = home_folder()
        above = next(folder for folder in (ours, *ours.parents) if folder.exists())
        os.environ["HOME"] = str(ours if _writable(above) else tempfile.gettempdir())


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)

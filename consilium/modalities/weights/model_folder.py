"""A pretrained model as a folder of files, as Hugging Face writes them: where it is, its weights' digest and licence.

A hub id is resolved to a folder once, and only that needs a network; everything else reads local files. No torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from consilium.domain.errors import InputError
from consilium.modalities.weight_source import NOT_STATED, WeightSource

WEIGHTS = "model*.safetensors"
README = "README.md"
_LONGEST_LICENCE = 80


def model_folder(name: str, field: str, files: Sequence[str]) -> Path:
    """The folder of the model `name`: itself, or where the hub's `files` of that id were fetched to.

    Parameters
    ----------
    field : str
        The recipe's key, for errors.
    files : sequence of str
        Patterns of what is fetched.

    Raises
    ------
    InputError
        Where there is no such folder, or nothing can be fetched: says what to download where.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or "\\" in name:
        raise InputError(field, name, "must be a folder that exists, or the hub id (owner/name) of a model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except GatedRepoError:
        rule = "asks for its terms to be accepted: do so on its page at huggingface.co, then `hf auth login`"
        raise InputError(field, name, rule) from None
    except RepositoryNotFoundError:
        raise InputError(field, name, "must be a folder, or a model that the hub has") from None
    except (OSError, ValueError) as error:
        here = name.rpartition("/")[2]
        rule = (
            f"cannot be fetched from the hub ({type(error).__name__}): with a network run `hf download {name} "
            f"--local-dir {here}`, bring that folder here and set {field}=./{here}"
        )
        raise InputError(field, name, rule) from None


def weights_source(folder: Path, name: str, architecture: str, field: str, licence: str | None = None) -> WeightSource:
    """Where the weights in `folder` come from.

    Parameters
    ----------
    name : str
        As the recipe names them.
    licence : str or None
        As the recipe states it; None: as the folder's README does.

    Raises
    ------
    InputError
        Where there are no weights that can be read without running what is in them.
    """
    files = sorted(folder.glob(WEIGHTS))
    if not files:
        rule = (
            "must have its weights as model.safetensors; `AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)` "
            "of transformers writes it"
        )
        raise InputError(field, name, rule)
    digests = [file_digest(file.resolve()) for file in files]
    if len(files) > 1:
        listed = "".join(f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
        digests = [hashlib.sha256(listed.encode()).hexdigest()]
    shown = name if not Path(name).expanduser().is_dir() else folder.resolve().name
    stated = licence or stated_licence(folder)
    return WeightSource(architecture=architecture, source=shown, sha256=digests[0], licence=stated)


def stated_licence(folder: Path) -> str:
    """As the model's page states it, in the first lines of its README; `NOT_STATED` where it does not."""
    try:
        text = (folder / README).read_text(encoding="utf-8")
        _, start, rest = text.partition("---\n")
        front: Any = yaml.safe_load(rest.partition("\n---")[0]) if start else {}
    except (OSError, ValueError, yaml.YAMLError):
        return NOT_STATED
    licence = front.get("license") if isinstance(front, dict) else None
    if licence == "other":
        licence = front.get("license_name") or licence
    plain = " ".join(licence.split())[:_LONGEST_LICENCE] if isinstance(licence, str) else ""
    return plain or NOT_STATED


def file_digest(path: Path) -> str:
    """SHA-256 of the file, in hex."""
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, modified: int) -> str:
    del size, modified  # of the key: another content is another entry
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the bars and reports of transformers that would stand across the log."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Start the service as its users do: `bentoml serve` in a process of its own.

`serve` is `consilium serve`: it runs in the foreground. `RunningService` runs in the background for as long as a `with`
block lasts: the demo, benchmarks and tests use it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn

import httpx

from consilium.artifacts.mlflow_store import tracking_uri
from consilium.domain.errors import ConsiliumError, InputError
from consilium.system.environment import Variable, home_folder
from service.app.binding import LOOPBACK, die_with_supervisor, is_loopback
from service.audit_log.database import read_url, refuse_unusable
from service.audit_log.pseudonyms import make_keys
from service.audit_settings import absolute_url, embedded_keys, embedded_url
from service.auth.keyring import KeyRing
from service.paths import keys_path
from service.settings import PREFIX, load_settings

SERVICE = "service.app.service:Consilium"
_FOLDER = Path(__file__).resolve().parents[2]
"""BentoML imports from its working folder first, and another folder may have a package called `service`, too."""
_SQLITE = "sqlite:///"
_WHO_MAY_ASK = {"keys", "oidc_issuer", "insecure"}
GRACE_S = 10
"""How long open requests may last once the service was asked to stop."""


class ServiceFailed(ConsiliumError):
    """The service ended, or did not become ready in time."""


def command(port: int, bento: str = SERVICE, host: str = LOOPBACK) -> list[str]:
    """The command that serves `bento` on `port`."""
    python = [sys.executable, "-m", "bentoml", "serve", bento]
    return [*python, "--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(GRACE_S)]


def environment(model: str | Path | None, settings: Mapping[str, object] | None = None) -> dict[str, str]:
    """The environment of the caller, with the model and the `settings` (``{"batch_size": 4}``) of the service.

    Without a model, a bento serves what was packed with it.

    Every path becomes absolute: the service runs in `_FOLDER`. An audit log that no setting names gets its keys here.
    """
    source = str(model)
    named = {f"{PREFIX}MODEL": source if source.startswith("models:") else str(Path(source).resolve())}
    places = ({} if model is None else named) | {
        Variable.HOME: str(home_folder().resolve()),
        "MLFLOW_TRACKING_URI": _absolute(tracking_uri()),
    }
    given = {f"{PREFIX}{name.upper()}": str(value) for name, value in (settings or {}).items()}
    places |= _audit_log(os.environ | given)
    places[f"{PREFIX}KEYS"] = str(Path(given.get(f"{PREFIX}KEYS") or keys_path()).resolve())
    return os.environ | {"BENTOML_DO_NOT_TRACK": "True"} | given | places


def _audit_log(given: Mapping[str, str]) -> dict[str, str]:
    """Where the audit log and its keys lie; an embedded one's are made, another's must be the same on every machine."""
    url, keys = given.get(f"{PREFIX}AUDIT_LOG_URL"), given.get(f"{PREFIX}AUDIT_LOG_KEYS")
    if not url and not keys:
        make_keys(embedded_keys())
    return {
        f"{PREFIX}AUDIT_LOG_URL": absolute_url(url or embedded_url().get_secret_value()),
        f"{PREFIX}AUDIT_LOG_KEYS": str(Path(keys or embedded_keys()).resolve()),
    }


def refuse_open_host(host: str) -> None:
    """Raise `InputError` where `host` is more than this machine and there is nobody to be authenticated."""
    if not is_loopback(host) and not _is_guarded():
        raise InputError("--host", host, f"must be {LOOPBACK} until there is an API key (consilium keys create)")


def refuse_settings(model: str) -> None:
    """Raise `InputError` where a setting of the environment is wrong: here the message reaches whoever started it."""
    refuse_unusable(read_url(load_settings(model).audit_log_url.get_secret_value()))


def refuse_taken(host: str, port: int) -> None:
    """Raise `InputError` where nobody can listen at `host` and `port`, or somebody does already."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As a server does: what a former one left behind does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(
            "--host and --port", f"{host}:{port}", f"must be free to listen at ({error.strerror})"
        ) from None


def serve(model: str | Path, port: int, host: str = LOOPBACK) -> NoReturn:
    """Become the service: this process's program is replaced, so that signals reach it as they are.

    Where there is nobody to be authenticated it answers everybody, on the loopback interface only.

    Raises
    ------
    InputError
        Where another interface was asked for, and there is nobody to be authenticated.
    """
    refuse_open_host(host)
    given = environment(model, {} if _is_guarded() else {"insecure": True})
    os.chdir(_FOLDER)
    arguments = command(port, host=host)
    os.execve(arguments[0], arguments, given)  # noqa: S606 - the command is ours


def _is_guarded() -> bool:
    return bool(os.environ.get(f"{PREFIX}OIDC_ISSUER")) or bool(KeyRing(keys_path()))


def _absolute(uri: str) -> str:
    place = uri.removeprefix(_SQLITE)
    return uri if place == uri else f"{_SQLITE}{Path(place).resolve()}"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


class RunningService:
    """A service in the background: a context whose `url` answers once it is entered.

    Parameters
    ----------
    model : str or Path or None
        A model folder, or a ``models:/`` URI; None for what is packed in a bento.
    settings : mapping, optional
        Settings of `service.settings.Settings`, by field name. Unless they name who may ask, everybody may.
    bento : str
        What to serve: the import path of the service, or a built bento's tag.
    ready_within_s : float
        How long it may take to become ready.
    """

    def __init__(
        self,
        model: str | Path | None,
        settings: Mapping[str, object] | None = None,
        *,
        bento: str = SERVICE,
        port: int | None = None,
        ready_within_s: float = 300.0,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._command = command(self.port, bento)
        open_to_all = {} if settings and _WHO_MAY_ASK & settings.keys() else {"insecure": True}
        self._environment = environment(model, {**open_to_all, **(settings or {})})
        self._ready_within_s = ready_within_s
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the supervisor, which ends its workers with it."""
        if self._process is None:
            raise ServiceFailed("the service is not running")
        return self._process.pid

    def log(self) -> str:
        """What the service has written so far."""
        if self._log is None:
            return ""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> RunningService:
        self._log = tempfile.NamedTemporaryFile(prefix="consilium-service-", suffix=".log")
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command,
            cwd=_FOLDER,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_supervisor,  # noqa: PLW1509 - one prctl, and this process has no other thread's locks
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(GRACE_S + 10)
            except subprocess.TimeoutExpired:
                # Its worker gets a signal from the kernel when the supervisor is gone.
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_within_s
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise ServiceFailed(f"the service ended with code {self._process.returncode}:\n{self._last_lines()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2.0).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise ServiceFailed(f"the service was not ready within {self._ready_within_s:g} s:\n{self._last_lines()}")

    def _last_lines(self) -> str:
        return "\n".join(self.log().splitlines()[-20:])

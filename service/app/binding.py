"""Where a service that answers everybody may be reached from, this machine alone; and how its worker ends.

BentoML binds every interface by default, before any code of a service runs. So the host asked for is checked
before a socket is made (`refuse_open_host`, in the supervisor), and the sockets that a worker was in fact given are
checked before it answers (`refuse_open_sockets`).
"""

from __future__ import annotations

import atexit
import ctypes
import ipaddress
import logging
import os
import signal
import sys
from pathlib import Path

import click
import psutil

from consilium.domain.errors import InputError

logger = logging.getLogger("consilium.service")

LOOPBACK = "127.0.0.1"
RULE = f"must be {LOOPBACK} while nobody is authenticated (bentoml serve --host {LOOPBACK})"
_GIVEN_UP = "_CONSILIUM_GIVEN_UP"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def refuse_open_host() -> None:
    """Raise `InputError` where `bentoml serve` was asked, or left, to bind more than the loopback interface.

    Without a host BentoML takes its configuration's, which is every interface by default: the host must be given.
    Started from Python there is no command line to look at; then `refuse_open_sockets` decides.
    """
    context = click.get_current_context(silent=True)
    if context is None or "host" not in context.params:
        return
    host = context.params["host"]
    if host is None or not is_loopback(host):
        raise InputError("host", host, RULE)


def refuse_open_sockets() -> None:
    """Raise `InputError` where this process listens on anything but the loopback interface."""
    for connection in psutil.Process().net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip):
            raise InputError("host", connection.laddr.ip, RULE)


def is_supervised() -> bool:
    """Whether this process is a worker that BentoML's supervisor started."""
    return "--worker-id" in sys.argv and "BENTOML_RUNNER_MAP" in os.environ


def die_with_supervisor() -> None:
    """Ask the kernel to end this worker when its supervisor is gone: a worker left alone would hold the port.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    supervisor = os.getppid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGTERM)


def fail_with_worker() -> None:
    """In the supervisor: end with exit code 1 where a worker gives up. BentoML's is 0 whatever ended it.

    The worker leaves the reason in a file without a name, which goes with the supervisor, however that ends.
    """
    given_up = os.memfd_create("given-up")
    os.environ[_GIVEN_UP] = f"/proc/{os.getpid()}/fd/{given_up}"
    atexit.register(_exit_code, given_up)


def _exit_code(given_up: int) -> None:
    if os.fstat(given_up).st_size > 0:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def give_up(reason: str) -> None:
    """Log why the service cannot start, and end it: the supervisor would otherwise start this worker for ever."""
    logger.critical("cannot start: %s", reason)
    try:
        if _GIVEN_UP in os.environ:
            Path(os.environ[_GIVEN_UP]).write_text(reason, encoding="utf-8")
    finally:
        os.kill(os.getppid() if is_supervised() else os.getpid(), signal.SIGTERM)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

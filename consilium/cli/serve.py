"""`consilium serve`: the service in the foreground, on this machine alone."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from consilium.errors import InputError


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium serve models:/consilium-phantom-demo@champion --port 3000")(serve)


def serve(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    host: Annotated[str, typer.Option(help="Address to listen on. Callers are not authenticated: this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
) -> None:
    """Serve a model over HTTP: POST /v1/diagnose, POST /v1/explain, GET /v1/model; the page of all of it at /docs.

    Settings are environment variables that begin with CONSILIUM_ (service/settings.py).
    """
    from consilium.registry import resolve
    from service.binding import LOOPBACK
    from service.launch import command, environment

    if host != LOOPBACK:
        raise InputError("--host", host, f"must be {LOOPBACK}: the service does not authenticate its callers")
    # A model that cannot be had is better said here, in one line, than by a server that goes down.
    resolve(model)
    arguments = command(port)
    os.execve(arguments[0], arguments, environment(model))  # noqa: S606 - no shell, our own interpreter

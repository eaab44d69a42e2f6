"""`consilium serve`: the service in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from consilium.domain.errors import ArtifactError, RegistryError


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium serve models:/consilium-phantom-demo@champion --port 3000")(serve)


def serve(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine needs API keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
) -> None:
    """Serve a model over HTTP: POST /v1/diagnose, POST /v1/explain, GET /v1/model; the page of all of it at /docs.

    Until there is an API key (consilium keys create) or an OpenID Connect issuer, everybody on this machine may ask.
    Settings are environment variables that begin with CONSILIUM_ (service/settings.py).
    """
    from consilium.artifacts.model_registry import resolve
    from service.app import launch
    from service.serving import last_verified

    launch.refuse_open_host(host)
    launch.refuse_settings(model)
    # A model that is unavailable gets one line here instead of a server that starts and ends.
    try:
        resolve(model)
    except (ArtifactError, RegistryError):
        # One that has served before goes on from the copy that was good, and says so.
        if last_verified.read(model) is None:
            raise
    launch.refuse_taken(host, port)
    launch.serve(model, port, host)

"""`consilium bento`: the service and its model as one thing to deploy."""

from __future__ import annotations

from typing import Annotated

import typer

from consilium.cli.shared.console import AsJson, show, show_json


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium bento models:/consilium-phantom-demo@champion")(bento)


def bento(
    model: Annotated[str, typer.Argument(help="Model folder, models:/NAME@ALIAS or models:/NAME/VERSION.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Pack no model: follow models:/NAME@ALIAS in the registry at run time.")
    ] = False,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="What the image has beside: postgresql, s3, cpu-fast, flac, jpeg-extended. Repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a bento that serves a model: with the model inside, which needs no network to run, or following an alias.

    Building needs no network. Prints the bento's tag (bentoml serve TAG) and where its Dockerfile lies
    (bentoml containerize TAG, or any other builder).
    """
    from service.packaging.build import build

    built = build(model, follow=follow, extras=extra or ())
    if as_json:
        identity = None if built.model is None else built.model.to_json()
        show_json(
            {
                "tag": built.tag,
                "folder": str(built.folder),
                "dockerfile": str(built.dockerfile),
                "source": built.source,
                "model": identity,
            }
        )
        return
    served = f"follows {model}" if built.model is None else f"{built.model.name} version {built.model.version} inside"
    show(f"{built.tag}: {served}", f"Dockerfile: {built.dockerfile}")

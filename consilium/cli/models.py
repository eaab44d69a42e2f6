"""`consilium models`: the registry on a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from consilium.cli.shared.console import AsJson, show, show_json

if TYPE_CHECKING:
    from consilium.artifacts.model_registry import RegisteredVersion

_SHORT = 12
"""Digits of a digest that tell versions apart on a terminal."""

Name = Annotated[str, typer.Argument(help="Registered model, such as consilium-phantom-demo.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the version.")]


def add_to(app: typer.Typer) -> None:
    models = typer.Typer(no_args_is_help=True, callback=_models)
    models.command("list", epilog="Example: consilium models list --json")(list_models)
    models.command("show", epilog="Example: consilium models show consilium-phantom-demo")(show_model)
    models.command(
        epilog="Example: consilium models promote consilium-phantom-demo 3 --reason 'better on every finding'"
    )(promote)
    models.command(
        epilog="Example: consilium models rollback consilium-phantom-demo --reason 'false alarms on ward 3'"
    )(rollback)
    models.command(epilog="Example: consilium models prune --keep 2 --dry-run")(prune)
    models.command(epilog="Example: consilium models relocate")(relocate)
    app.add_typer(models, name="models")


def _models() -> None:
    """Registered models: which there are, and which one serves."""
    from consilium.artifacts.mlflow_store import ask_briefly

    ask_briefly()


def list_models(as_json: AsJson = False) -> None:
    """List every model with its champion, previous and challenger versions."""
    from consilium.artifacts import model_registry as registry

    found = {name: registry.list_versions(name) for name in registry.list_models()}
    if as_json:
        show_json([{"name": name, "versions": [v.to_json() for v in versions]} for name, versions in found.items()])
        return
    table = Table("model", "versions", registry.CHAMPION, registry.PREVIOUS, registry.CHALLENGER)
    for name, versions in found.items():
        by_alias = {alias: version.version for version in versions for alias in version.aliases}
        aliased = [by_alias.get(alias, "-") for alias in (registry.CHAMPION, registry.PREVIOUS, registry.CHALLENGER)]
        table.add_row(name, str(len(versions)), *aliased)
    show(table)


def show_model(name: Name, as_json: AsJson = False) -> None:
    """Show every version of a model: aliases, digests, where it came from, when and why it was promoted."""
    from consilium.artifacts import model_registry as registry

    versions = registry.list_versions(name)
    if as_json:
        show_json({"name": name, "versions": [version.to_json() for version in versions]})
        return
    columns = ("version", "aliases", "made", "manifest", "cohort", "commit", "fusion", "weights trained")
    table = Table(*columns, title=name, title_justify="left")
    for version in versions:
        tags = version.tags
        table.add_row(
            version.version,
            ", ".join(version.aliases),
            f"{version.created:%Y-%m-%d %H:%M}",
            version.manifest_digest[:_SHORT],
            tags.get("cohort_digest", "")[:_SHORT],
            _short_commit(tags.get("git_commit", "")),
            tags.get(registry.FUSION, "").partition(",")[0],
            _trained(tags.get(registry.PARAMETERS, "{}")),
        )
    show(table)
    for version in reversed(versions):
        show(*_begun_from(version))
        fusion = version.tags.get(registry.FUSION, "")
        if "," in fusion:
            show(f"version {version.version}: fusion {fusion}, by AUROC on folds of the training studies")
    for version in reversed(versions):
        show(*(f"{event.time}  version {version.version} {event.action}: {event.reason}" for event in version.events))


def _trained(parameters: str) -> str:
    """A line a part: ``image 576 of 11,000``."""
    parts: dict[str, dict[str, int]] = json.loads(parameters)
    named = {("fusion and heads" if name == "fused" else name): of for name, of in parts.items()}
    return "\n".join(f"{name} {of['trained']:,} of {of['all']:,}" for name, of in named.items())


def _begun_from(version: RegisteredVersion) -> list[str]:
    """A line for each source of pretrained weights."""
    from consilium.artifacts.model_registry import WEIGHTS

    found: dict[str, list[dict[str, str]]] = json.loads(version.tags.get(WEIGHTS, "{}"))
    return [
        f"version {version.version} {modality}: {source['architecture']} weights of {source['source']}, SHA-256 "
        f"{source['sha256'][:_SHORT]}, licence {source['licence']}"
        for modality, sources in found.items()
        for source in sources
    ]


def _short_commit(commit: str) -> str:
    digits, dash, state = commit.partition("-")
    return digits[:_SHORT] + dash + state


def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Number, or @challenger.")],
    reason: Reason,
    gates: Annotated[
        Path | None,
        typer.Option(help="YAML file of the gates that it must have passed; the packaged ones unless given."),
    ] = None,
    override: Annotated[
        str | None, typer.Option(metavar="WHY", help="Promote it whether or not it has passed; kept with the version.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, which serves; the champion so far becomes the previous one.

    Its newest run of `consilium gate` must have passed, by the same gates and on the same artifact.
    """
    from consilium.artifacts import model_registry as registry

    demanded = None
    if override is None:
        from training.lifecycle.gate_file import load_gates

        demanded = load_gates(gates).digest
    _tell(registry.promote(name, version, reason, gates=demanded, override=override), as_json)


def rollback(name: Name, reason: Reason, as_json: AsJson = False) -> None:
    """Make the previous version the champion again."""
    from consilium.artifacts import model_registry as registry

    _tell(registry.rollback(name, reason), as_json)


def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many copies that nobody names stay, those used last.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove copies of models from CONSILIUM_HOME that no alias names, and that no service here would start from.

    A copy that was used within the hour stays. One that is needed later is fetched again.
    """
    from consilium.artifacts import local_cache as copies
    from consilium.artifacts import model_registry as registry
    from service.serving import last_verified

    noted = {one.manifest_digest: f"last verified of {one.source}" for one in last_verified.read_all()}
    found = copies.list_copies(noted | registry.named_by_aliases(), keep)
    removed = [copy for copy in found if not copy.kept] if dry_run else copies.prune(found)
    freed = sum(copy.size for copy in removed)
    if as_json:
        listed = [copy.to_json() | {"removed": copy in removed} for copy in found]
        show_json({"dry_run": dry_run, "freed_bytes": freed, "copies": listed})
        return
    table = Table("copy", "MB", "last used (UTC)", "kept")
    for copy in found:
        name = copy.digest[:_SHORT] or "(left over)"
        kept = copy.kept or ("no" if copy in removed else "used just now")
        table.add_row(name, f"{copy.size / 1e6:.1f}", f"{copy.used:%Y-%m-%d %H:%M}", kept)
    show(table, f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB in {copies.models_folder()}")


def relocate(as_json: AsJson = False) -> None:
    """Let a store that was moved or copied as a folder find its artifacts where it is now."""
    from consilium.artifacts.mlflow_store import relocate as rewrite

    old, rewritten = rewrite()
    if as_json:
        show_json({"old": str(old), "rewritten": rewritten})
    else:
        show(f"{rewritten} places rewritten, from {old}" if rewritten else f"nothing to rewrite: it was made as {old}")


def _tell(version: RegisteredVersion, as_json: bool) -> None:
    if as_json:
        show_json(version.to_json())
    else:
        show(f"{version.name} version {version.version}: {', '.join(version.aliases)}")

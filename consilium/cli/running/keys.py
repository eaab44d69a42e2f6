"""`consilium keys`: who may ask the service, by API key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from consilium.cli.shared.console import AsJson, show, show_json
from consilium.domain.errors import InputError

if TYPE_CHECKING:
    from service.auth.api_keys import Key
    from service.scopes import Scope

_MOST_OVERLAP_HOURS = 366 * 24
"""A year."""
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `consilium keys list` shows it.")]


def add_to(app: typer.Typer) -> None:
    keys = typer.Typer(
        no_args_is_help=True,
        help="API keys of the service. They lie in CONSILIUM_KEYS (CONSILIUM_HOME/keys.json unless set), without their "
        "secrets; a running service notices every change.",
    )
    keys.command(epilog="Example: consilium keys create pacs-router --scope read --scope diagnose")(create)
    keys.command("list", epilog="Example: consilium keys list --json")(list_keys)
    keys.command(epilog="Example: consilium keys rotate 3f09a1c27b54 --overlap-hours 24")(rotate)
    keys.command(epilog="Example: consilium keys revoke 3f09a1c27b54")(revoke)
    app.add_typer(keys, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is; no secret, shown in lists.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, diagnose, admin or metrics; repeatable; read and diagnose unless given."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="A reading group, repeatable: its callers see the studies that each other sent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its token, once."""
    from service.auth.api_keys import create_key
    from service.paths import keys_path

    _tell_token(*create_key(keys_path(), name, _scopes(scope or ("read", "diagnose")), group or ()), as_json=as_json)


def list_keys(as_json: AsJson = False) -> None:
    """List every key: whose it is, what it allows, whether it still opens."""
    from service.auth.api_keys import read_keys
    from service.paths import keys_path

    keys = read_keys(keys_path())
    if as_json:
        show_json([_line(key) for key in keys])
        return
    table = Table("id", "name", "scopes", "groups", "created (UTC)", "opens", "state")
    for key in keys:
        ends = ["always" if end is None else f"until {end}" for end in _ends(key)]
        scopes = ", ".join(sorted(key.scopes))
        groups, created = escape(", ".join(sorted(key.groups))), f"{key.created:%Y-%m-%d %H:%M}"
        table.add_row(key.id, escape(key.name), scopes, groups, created, ", ".join(ends), _state(key))
    show(table)


def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=_MOST_OVERLAP_HOURS, help="How long the secret so far still opens.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret beside the old one, and print its token, once."""
    from service.auth.api_keys import rotate_key
    from service.paths import keys_path

    _tell_token(*rotate_key(keys_path(), key_id, timedelta(hours=overlap_hours)), as_json=as_json)


def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """End a key, all its secrets included, now and for good."""
    from service.auth.api_keys import revoke_key
    from service.paths import keys_path

    line = _line(revoke_key(keys_path(), key_id))
    if as_json:
        show_json(line)
    else:
        show(f"{key_id} ({line['name']}): revoked")


def _scopes(names: list[str] | tuple[str, ...]) -> list[Scope]:
    from service.scopes import Scope

    for name in names:
        if name not in Scope.__members__.values():
            raise InputError("--scope", name, f"must be one of {', '.join(Scope)}")
    return [Scope(name) for name in names]


def _tell_token(key: Key, token: str, *, as_json: bool) -> None:
    if as_json:
        show_json(_line(key) | {"token": token})
    else:
        show(f"{key.id} ({key.name}): {', '.join(sorted(key.scopes))}", f"the token, shown this once: {token}")


def _line(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "groups": sorted(key.groups),
        "created": key.created.isoformat(),
        "ends": _ends(key),
        "state": _state(key),
    }


def _ends(key: Key) -> list[str | None]:
    """Until when each secret that still opens does so; None: until it is rotated."""
    now = datetime.now(UTC)
    held = [secret for secret in key.secrets if secret.holds(now)]
    return [None if secret.ends is None else secret.ends.isoformat() for secret in held]


def _state(key: Key) -> str:
    if key.revoked is not None:
        return "revoked"
    return "active" if key.active(datetime.now(UTC)) else "ended"

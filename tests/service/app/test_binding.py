from __future__ import annotations

import socket

import click
import pytest

from consilium.domain.errors import InputError
from service.app.binding import refuse_open_host, refuse_open_sockets


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_the_loopback_interface_is_taken(host: str) -> None:
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = host
        refuse_open_host()


@pytest.mark.parametrize("host", [None, "0.0.0.0", "::", "10.0.0.5", "example.org", ""])
def test_another_host_or_none_is_refused(host: str | None) -> None:
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = host
        with pytest.raises(InputError, match=r"host: got .* must be 127\.0\.0\.1"):
            refuse_open_host()


def test_a_socket_is_classified_by_where_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        refuse_open_sockets()
    with socket.create_server(("0.0.0.0", 0)), pytest.raises(InputError, match=r"host: got '0\.0\.0\.0'"):
        refuse_open_sockets()

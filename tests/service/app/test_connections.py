from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
from collections.abc import Callable

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http import auto

from service.app.connections import ConnectionLimits, Limits
from tests.patience import PATIENCE_S

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
_IN_TIME_S = 2.0
"""For headers that are sent at once: a busy machine may hold their sender up."""
_LONG_S = 2.5


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after a while, without reading the body; at ``/body`` with its SHA-256."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await asyncio.sleep(_LONG_S if scope["path"] == "/slow" else 0.01)
    answer = b"ok"
    if scope["path"] == "/body":
        answer = await _digest(receive) + answer
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


async def _digest(receive: Receive) -> bytes:
    digest, more = hashlib.sha256(), True
    while more:
        message = await receive()
        assert isinstance(message["body"], bytes)
        digest.update(message["body"])
        more = message["more_body"]
        await asyncio.sleep(0.001)
    return digest.hexdigest().encode()


def talk(scenario: Callable[[socket.socket], None], *, seconds: float, most_open: int = 512) -> None:
    """Run `scenario` over a connection to a server that leaves `seconds` for headers, started as BentoML does."""

    async def go() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        limited = ConnectionLimits(app, Limits(seconds, most_open))
        config = uvicorn.Config(limited, log_config=None, timeout_keep_alive=60)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await asyncio.to_thread(_connected, listener.getsockname(), scenario)
        finally:
            server.should_exit = server.force_exit = True
            await serving

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(asyncio.wait_for(go(), PATIENCE_S))
        # A server that is made to exit leaves its lifespan behind, which would complain of a closed loop later on.
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)


def _connected(address: tuple[str, int], scenario: Callable[[socket.socket], None]) -> None:
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        scenario(connection)


def answer(connection: socket.socket) -> bytes:
    """What comes until the body of the answer is there, or the connection is closed."""
    received = b""
    while not received.endswith(b"ok"):
        chunk = connection.recv(4096)
        if not chunk:
            break
        received += chunk
    return received


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_connection_that_says_nothing_is_closed() -> None:
    def scenario(connection: socket.socket) -> None:
        assert closed(connection)

    talk(scenario, seconds=0.2)


def test_headers_that_never_end_are_cut_off_however_many_come() -> None:
    def scenario(connection: socket.socket) -> None:
        connection.settimeout(0.05)
        connection.sendall(HEAD)
        for number in range(400):
            try:
                connection.sendall(f"X-{number}: y\r\n".encode())
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        raise AssertionError("twenty seconds of headers were taken")

    talk(scenario, seconds=0.5)


def test_the_next_request_of_a_connection_has_its_own_time() -> None:
    def scenario(connection: socket.socket) -> None:
        for _ in range(2):
            connection.sendall(HEAD + b"\r\n")
            assert answer(connection).endswith(b"ok")
        connection.sendall(HEAD)
        assert closed(connection)

    talk(scenario, seconds=_IN_TIME_S)


def test_an_answer_may_take_longer_than_the_headers_may() -> None:
    def scenario(connection: socket.socket) -> None:
        connection.sendall(HEAD.replace(b"/ ", b"/slow ") + b"\r\n")
        assert answer(connection).endswith(b"ok")

    talk(scenario, seconds=_IN_TIME_S)


def test_a_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    def scenario(connection: socket.socket) -> None:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert answer(connection).endswith(b"ok")
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
        raise AssertionError("twenty seconds of an unread body were taken")

    talk(scenario, seconds=_IN_TIME_S)


def test_a_rest_of_a_body_that_comes_in_time_leaves_the_connection_open() -> None:
    def scenario(connection: socket.socket) -> None:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
        assert answer(connection).endswith(b"ok")
        connection.sendall(b"c" + HEAD + b"\r\n")
        assert answer(connection).endswith(b"ok")

    talk(scenario, seconds=5.0)


@pytest.mark.parametrize("most", [3, 3_000, 300_000])
def test_a_body_arrives_whole_in_pieces_of_whatever_size(most: int) -> None:
    draw = random.Random(0)
    chunks = [draw.randbytes(draw.randint(1, most)) for _ in range(min(30_000, 3_000_000 // most))]
    body, mixed = b"".join(chunks), b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)

    def scenario(connection: socket.socket) -> None:
        start, wanted = b"POST /body HTTP/1.1\r\nHost: x\r\n", hashlib.sha256(body).hexdigest().encode() + b"ok"
        connection.sendall(start + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer(connection).endswith(wanted)
        connection.sendall(start + b"Transfer-Encoding: chunked\r\n\r\n" + mixed + b"0\r\n\r\n")
        assert answer(connection).endswith(wanted)

    talk(scenario, seconds=30.0)


def test_beyond_the_limit_a_connection_is_answered_503_and_health_is_answered() -> None:
    def asked(connection: socket.socket, path: str = "/") -> bytes:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return answer(connection)

    def scenario(first: socket.socket) -> None:
        assert asked(first).endswith(b"ok")
        address = first.getpeername()
        with socket.create_connection(address, timeout=PATIENCE_S) as beyond:
            received = asked(beyond).lower()
            assert received.startswith(b"http/1.1 503")
            assert b"retry-after: 5\r\n" in received
            assert b"content-type: application/problem+json" in received
            assert closed(beyond)
        with socket.create_connection(address, timeout=PATIENCE_S) as beyond:
            assert asked(beyond, "/livez").endswith(b"ok")
            with socket.create_connection(address, timeout=PATIENCE_S) as far_beyond:
                assert closed(far_beyond), "twice as many: closed without an answer"
        assert asked(first).endswith(b"ok"), "who was there is served on"

    talk(scenario, seconds=5.0, most_open=1)


def test_other_servers_of_the_process_keep_their_protocol() -> None:
    def scenario(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"\r\n")
        assert answer(connection).endswith(b"ok")
        config = uvicorn.Config(app, log_config=None)
        config.load()
        assert config.http_protocol_class is auto.AutoHTTPProtocol

    talk(scenario, seconds=5.0)


def test_a_server_that_is_not_uvicorn_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def started(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"

    async def send(_: Message) -> None: ...

    asyncio.run(ConnectionLimits(started, Limits())({"type": "lifespan"}, receive, send))
    assert "not uvicorn" in caplog.text

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.datastructures import Headers

from consilium.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from service.form import Form, read_form
from service.settings import Settings

BOUNDARY = "b0undary"
SETTINGS = Settings(model="m", max_body_bytes=2000, max_images=2, max_image_bytes=600, max_request_bytes=300)


def part(name: str, data: bytes, *, filename: str | None = None, headers: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    return f"--{BOUNDARY}\r\n{disposition}\r\n{headers}\r\n".encode() + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def read(data: bytes, *, chunk: int = 7, headers: dict[str, str] | None = None, settings: Settings = SETTINGS) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), chunk):
            yield data[start : start + chunk]

    given = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} | (headers or {})
    return asyncio.run(read_form(Headers(given), chunks(), settings))


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_images_and_request_arrive_whole_and_in_order_however_the_body_is_cut(chunk: int) -> None:
    first, second = bytes(range(256)), b"\r\n--b0undar\r\n" * 3
    form = read(
        body(
            part("images", first, filename="a.dcm"),
            part("request", b'{"notes": []}', headers="Content-Type: application/json\r\n"),
            part("images", second, filename=""),
        ),
        chunk=chunk,
    )
    assert form == Form(b'{"notes": []}', (first, second))


def test_an_absent_request_is_an_empty_object() -> None:
    assert read(body(part("images", b"x", filename="a"))).request == b"{}"


@pytest.mark.parametrize("value", [b"http://127.0.0.1:1/x.dcm", b"file:///etc/passwd", b"plain text"])
def test_a_text_value_in_the_file_field_is_refused_before_its_bytes(value: bytes) -> None:
    with pytest.raises(InputError, match=r"images\[0\]: .* a URL is never fetched"):
        read(body(part("images", value)))


def test_an_unknown_field_is_refused_with_the_nearest_named_and_not_in_the_error_field() -> None:
    with pytest.raises(InputError) as caught:
        read(body(part("image", b"x", filename="a")))
    assert (caught.value.field, caught.value.value) == ("form field", "image")
    assert caught.value.rule == "is no known form field; the nearest is 'images'"


def test_a_declared_length_over_the_limit_is_refused_before_any_byte_is_read() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}", "content-length": "2001"})
    with pytest.raises(TooLarge, match="at most 2000 bytes"):
        asyncio.run(read_form(headers, never(), SETTINGS))


def test_a_body_that_grows_over_the_limit_is_refused_while_it_arrives() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"preamble that is no part "
        while True:
            sent += 100
            yield b"x" * 100

    headers = Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}"})
    with pytest.raises((TooLarge, MalformedRequest)):
        asyncio.run(read_form(headers, endless(), SETTINGS))
    opening = part("images", b"", filename="a")[:-2]

    async def endless_part() -> AsyncIterator[bytes]:
        yield opening
        while True:
            yield b"x" * 10

    with pytest.raises(TooLarge, match=r"images\[0\]: .* at most 600 bytes"):
        asyncio.run(read_form(headers, endless_part(), SETTINGS))
    assert sent <= 2100


def test_the_body_limit_holds_where_every_part_is_small() -> None:
    settings = Settings(model="m", max_body_bytes=1000, max_images=100)
    with pytest.raises(TooLarge, match="body"):
        read(body(*[part("images", b"x" * 50, filename="a") for _ in range(20)]), settings=settings)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([part("images", b"x" * 601, filename="a")], r"images\[0\]"),
        ([part("images", b"x", filename="a")] * 3, "at most 2 files"),
        ([part("request", b" " * 301)], "request"),
    ],
)
def test_each_part_has_its_limit(parts: list[bytes], message: str) -> None:
    with pytest.raises(TooLarge, match=message):
        read(body(*parts))


def test_exactly_the_limit_is_taken() -> None:
    form = read(body(part("images", b"x" * 600, filename="a"), part("request", b" " * 300)))
    assert (len(form.images[0]), len(form.request)) == (600, 300)


def test_two_requests_are_refused() -> None:
    with pytest.raises(InputError, match="must come once"):
        read(body(part("request", b"{}"), part("request", b"{}")))


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"content-type": "application/json"}, UnsupportedMedia),
        ({"content-type": "application/x-www-form-urlencoded"}, UnsupportedMedia),
        ({"content-type": ""}, UnsupportedMedia),
        ({"content-encoding": "gzip"}, UnsupportedMedia),
        ({"content-type": "multipart/form-data"}, MalformedRequest),
        ({"content-type": f"multipart/form-data; boundary={'x' * 5000}"}, MalformedRequest),
    ],
)
def test_another_kind_of_body_is_refused(headers: dict[str, str], error: type[InputError]) -> None:
    with pytest.raises(error):
        read(body(part("request", b"{}")), headers=headers)


@pytest.mark.parametrize("kind", ["application/x-python-pickle", "application/xml"])
def test_a_request_of_another_type_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMedia, match="application/json"):
        read(body(part("request", b"{}", headers=f"Content-Type: {kind}\r\n")))


def test_a_transfer_encoding_is_refused_because_it_would_not_be_decoded() -> None:
    with pytest.raises(UnsupportedMedia):
        read(body(part("images", b"aGk=", filename="a", headers="Content-Transfer-Encoding: base64\r\n")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no framing at all",
        body(part("request", b"{}"))[:-8],
        part("request", b"{}"),
        b"--b0undary\r\nno colon\r\n\r\nx\r\n--b0undary--\r\n",
        f"--{BOUNDARY}\r\n".encode() + b"A: " + b"x" * 100_000,
    ],
)
def test_broken_or_unfinished_framing_is_malformed(data: bytes) -> None:
    settings = Settings(model="m")
    with pytest.raises(MalformedRequest):
        read(data, chunk=4096, settings=settings)

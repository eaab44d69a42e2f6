from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from consilium.domain.errors import InputError, MalformedRequest, TooLarge, UnsupportedMedia
from service.http.multipart import FileBytes, Form, read_form
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


def files(*contents: bytes) -> dict[str, tuple[FileBytes, ...]]:
    return {"images": tuple(FileBytes((data,)) for data in contents)}


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
    assert form == Form(b'{"notes": []}', files(first, second))


_FRAGMENTS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n--b0undar", b"b0undary", b"\r\n\r\n", b"x", b"\0\xff" * 9]
)
_CONTENTS = st.lists(_FRAGMENTS, max_size=12).map(b"".join).filter(lambda data: b"\r\n--b0undary" not in b"\r\n" + data)


@settings(max_examples=150, deadline=None)
@given(
    images=st.lists(_CONTENTS, max_size=3),
    request=_CONTENTS,
    preamble=st.sampled_from([b"", b"\r\n", b"Not for\r\nreaders.\r\n", b"--b0undar\r\n"]),
    epilogue=st.sampled_from([b"", b"\r\n", b"\r\nafter it all\r\n--b0undary\r\n"]),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
@example([b"\r\n--b0undar"], b"{}", b"", b"", [1])
def test_however_a_body_is_cut_its_parts_are_the_same(
    images: list[bytes], request: bytes, preamble: bytes, epilogue: bytes, cuts: list[int]
) -> None:
    parts = [part("images", data, filename="a") for data in images]
    whole = preamble + body(*parts, part("request", request)).removesuffix(b"\r\n") + epilogue

    async def chunks() -> AsyncIterator[bytes]:
        left, turn = whole, 0
        while left:
            size = cuts[turn % len(cuts)]
            yield left[:size]
            left, turn = left[size:], turn + 1

    limits = Settings(model="m", max_images=3)
    headers = Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}"})
    assert asyncio.run(read_form(headers, chunks(), limits)) == Form(request, files(*images) if images else {})


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="b0undary"',
        "Multipart/Form-Data; Boundary=b0undary",
        "multipart/form-data;charset=utf-8;boundary=b0undary",
        'multipart/form-data ;  charset="utf-8" ; boundary=b0undary ',
        "multipart/form-data;\tboundary=b0undary",
        "multipart/form-data; boundary*=utf-8''b0undary",
    ],
)
def test_a_boundary_is_found_however_its_header_is_written(content_type: str) -> None:
    data = body(part("images", b"x", filename="a"))
    assert read(data, headers={"content-type": content_type}) == Form(b"{}", files(b"x"))


def test_a_boundary_may_hold_what_must_be_quoted() -> None:
    boundary = "a b:(c)=d,'e?"
    data = body(part("images", b"x", filename="a")).replace(BOUNDARY.encode(), boundary.encode())
    assert read(data, headers={"content-type": f'multipart/form-data; boundary="{boundary}"'}).files == files(b"x")


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Disposition: form-data; name=\"images\"; filename*=UTF-8''R%C3%B6ntgen.dcm",
        "Content-Disposition: form-data; name=images; filename=a.dcm",
        'content-disposition: FORM-DATA; NAME="images"; FILENAME="a.dcm"',
        'CONTENT-DISPOSITION:form-data;filename="a;b.dcm";name="images"',
        'Content-Disposition: form-data;\r\n name="images";\r\n\tfilename="a.dcm"',
        'Content-Disposition: form-data; name="images"; filename="R\xf6ntgen \\"x\\".dcm"',
        'Content-Disposition: form-data; name="images"; filename="a"\r\nContent-Type: APPLICATION/DICOM; x="y"',
        'Content-Disposition: form-data; name="images"; filename="a"\r\nContent-Transfer-Encoding: BINARY',
        'Content-Disposition: form-data; name="images"; filename="a"\r\nContent-Length: 3\r\nX-Other: 1',
    ],
)
def test_a_file_is_one_however_its_headers_are_written(headers: str) -> None:
    data = f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode("latin-1") + b"abc\r\n"
    assert read(body(data)) == Form(b"{}", files(b"abc"))


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", 'APPLICATION/JSON;charset="utf-8"', "text/plain"])
def test_a_request_is_json_however_its_type_is_written(kind: str) -> None:
    assert read(body(part("request", b"{ }", headers=f"Content-Type: {kind}\r\n"))).request == b"{ }"


def test_a_field_of_a_browser_s_form_in_which_no_file_was_chosen_is_no_image() -> None:
    nothing = part("images", b"", filename="", headers="Content-Type: application/octet-stream\r\n")
    assert read(body(nothing, part("images", b"x", filename="a"))).files == files(b"x")
    with pytest.raises(TooLarge, match="at most 2 files"):
        read(body(*[nothing] * 3))


def test_an_empty_file_is_an_image_that_is_refused_by_whoever_reads_it() -> None:
    assert read(body(part("images", b"", filename="a.dcm"))).files == files(b"")


def test_two_mebibytes_cost_the_event_loop_little() -> None:
    data = body(part("images", bytes(range(256)) * (1 << 13), filename="a"), part("request", b"{}"))
    pieces = [data[start : start + (1 << 16)] for start in range(0, len(data), 1 << 16)]
    headers, limits = Headers({"content-type": f"multipart/form-data; boundary={BOUNDARY}"}), Settings(model="m")

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def seconds() -> list[float]:
        taken = []
        for _ in range(20):
            begun = time.thread_time()
            form = await read_form(headers, chunks(), limits)
            taken.append(time.thread_time() - begun)
            assert len(form.files["images"][0]) == 1 << 21
        return taken

    assert min(asyncio.run(seconds())) < 0.005, "about 0.5 ms; a parser that walks over every byte takes 34"


def test_a_file_keeps_the_pieces_in_which_it_came_unless_they_are_short() -> None:
    content = bytes(range(256)) * 400
    data = body(part("images", content, filename="a"))
    start, large = data.index(content), Settings(model="m")
    (whole,) = read(data, chunk=40_000, settings=large).files["images"]
    assert [len(piece) for piece in whole.pieces] == [40_000 - start, 40_000, 22_400 + start]
    (joined,) = read(data, chunk=1000, settings=large).files["images"]
    assert joined.pieces == (content,)
    assert whole == joined
    assert bytes(whole) == content


def test_what_a_form_holds_is_not_shown() -> None:
    assert "Roe" not in repr(Form(b'{"notes": "Jane Roe"}', files(b"Roe")))


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
    assert (len(form.files["images"][0]), len(form.request)) == (600, 300)


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
        ({"content-encoding": "GZIP, br"}, UnsupportedMedia),
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
        body(part("request", b"{}")).replace(b"\r\n", b"\n"),
        body(part("request", b"{}")).replace(b"form-data", b"attachment"),
        body(part("images", b"x", filename="a", headers="Content-Length: 2\r\n")),
        b"x" * 5000 + b"\r\n" + body(part("request", b"{}")),
        b"xx" + body(part("request", b"{}")),
    ],
)
def test_broken_or_unfinished_framing_is_malformed(data: bytes) -> None:
    settings = Settings(model="m")
    with pytest.raises(MalformedRequest):
        read(data, chunk=4096, settings=settings)

"""What a study consists of, in chunks that are small enough not to hold the database up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from service.audit_log.pseudonyms import AuditLogKeys
from service.http.multipart import FileBytes, Form

_CHUNK_BYTES = 1 << 20


def size(form: Form) -> int:
    """How many bytes `form` takes, its seals aside."""
    return len(_head(form)) + len(form.request) + sum(map(len, form.contents))


def sealed(form: Form, keys: AuditLogKeys, name: str) -> Iterator[bytes]:
    """The chunks of `form`, each sealed for its place in what is called `name`: none can be left out or exchanged."""
    return sealed_bytes(b"".join((_head(form), form.request, *map(bytes, form.contents))), keys, name)


def sealed_bytes(whole: bytes, keys: AuditLogKeys, name: str) -> Iterator[bytes]:
    """The same of any bytes that are not empty."""
    count = -(-len(whole) // _CHUNK_BYTES)
    for number in range(count):
        chunk = whole[number * _CHUNK_BYTES : (number + 1) * _CHUNK_BYTES]
        yield keys.newest.seal(chunk, _place(name, number, count))


def unsealed(chunks: Sequence[bytes], keys: AuditLogKeys, name: str) -> Form:
    """The form that was `sealed`.

    Raises
    ------
    Unsealable
    """
    whole = unsealed_bytes(chunks, keys, name)
    start = whole.index(b"\n") + 1
    request_bytes, names, sizes = json.loads(whole[:start])
    ends = accumulate((request_bytes, *sizes), initial=start)
    request, *contents = (whole[begin:end] for begin, end in pairwise(ends))
    files: dict[str, tuple[FileBytes, ...]] = {}
    for sent_as, data in zip(names, contents, strict=True):
        files[sent_as] = (*files.get(sent_as, ()), FileBytes((data,)))
    return Form(request, files)


def unsealed_bytes(chunks: Sequence[bytes], keys: AuditLogKeys, name: str) -> bytes:
    """The bytes that were sealed as `chunks`.

    Raises
    ------
    Unsealable
    """
    count = len(chunks)
    return b"".join(keys.unseal(chunk, _place(name, number, count)) for number, chunk in enumerate(chunks))


def _head(form: Form) -> bytes:
    """How long the request is, and of each file its name and how long it is."""
    names = [name for name, files in form.files.items() for _ in files]
    return json.dumps([len(form.request), names, [len(data) for data in form.contents]]).encode() + b"\n"


def _place(name: str, number: int, count: int) -> str:
    return f"{name}, chunk {number} of {count}"

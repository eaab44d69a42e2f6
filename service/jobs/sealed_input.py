"""What a study consists of, in chunks that are small enough not to hold the database up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from service.audit_log.pseudonyms import AuditLogKeys
from service.http.multipart import Form

_CHUNK_BYTES = 1 << 20


def size(form: Form) -> int:
    """How many bytes `form` takes, its seals aside."""
    return len(_head(form)) + sum(map(len, _parts(form)))


def sealed(form: Form, keys: AuditLogKeys, name: str) -> Iterator[bytes]:
    """The chunks of `form`, each sealed for its place in what is called `name`: none can be left out or exchanged."""
    whole = _head(form) + b"".join(_parts(form))
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
    count = len(chunks)
    whole = b"".join(keys.unseal(chunk, _place(name, number, count)) for number, chunk in enumerate(chunks))
    start = whole.index(b"\n") + 1
    ends = accumulate(json.loads(whole[:start]), initial=start)
    request, *images = (whole[begin:end] for begin, end in pairwise(ends))
    return Form(request, tuple(images))


def _parts(form: Form) -> tuple[bytes, ...]:
    return (form.request, *form.images)


def _head(form: Form) -> bytes:
    """How long each part is."""
    return json.dumps([len(part) for part in _parts(form)]).encode() + b"\n"


def _place(name: str, number: int, count: int) -> str:
    return f"{name}, chunk {number} of {count}"

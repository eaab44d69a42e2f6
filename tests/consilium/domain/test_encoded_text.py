import codecs

import pytest

from consilium.domain.encoded_text import decode_text
from consilium.domain.errors import InputError

TEXT = "Fièvre 38,5 °C\n发热"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
)
def test_unicode_is_read_by_its_mark(data):
    assert decode_text(data, "file") == TEXT


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("Fièvre".encode("latin-1"), "Latin-1"),
        ("Müller, 38 °C".encode("cp1252"), "Windows-1252"),
        ("Жалобы на кашель".encode("cp1251"), "8-bit"),
        ("肺炎".encode("shift-jis"), "Shift JIS"),
        ("Fever, cough".encode("utf-16-le"), "UTF-16 or UTF-32 without"),
        ("Fever, cough".encode("utf-16-be"), "UTF-16 or UTF-32 without"),
        ("Fever".encode("utf-32-be"), "UTF-16 or UTF-32 without"),
        (codecs.BOM_UTF16_LE + b"odd", "broken UTF-16"),
        (codecs.BOM_UTF8 + b"\xff", "broken UTF-8"),
    ],
)
def test_other_encodings_are_refused_by_name(data, name):
    with pytest.raises(InputError) as refused:
        decode_text(data, "--note[0]")
    assert name in str(refused.value.value)
    assert refused.value.field == "--note[0]"


def test_empty_and_short_files_are_text():
    assert decode_text(b"", "file") == ""
    assert decode_text(b"x", "file") == "x"

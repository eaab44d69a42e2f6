from dataclasses import replace

import numpy as np
import pytest

from consilium.formats.dicom.origin import Origin
from consilium.modalities.image.image_record import Image
from consilium.modalities.image.origins import Origins

BLANK = Image(np.zeros((4, 4), np.uint16), "0" * 64, "dicom")


def _images(*origins: Origin) -> list[Image]:
    return [replace(BLANK, origin=origin) for origin in origins]


CHEST = Origins.of(
    _images(*[Origin("DX", "CHEST")] * 300, *[Origin("CR", "CHEST")] * 100, Origin("CT", "KNEE"), Origin())
)


def test_what_the_files_say_is_counted() -> None:
    assert Origins(402, {"DX": 300, "CR": 100, "CT": 1}, {"CHEST": 400, "KNEE": 1}, 0) == CHEST
    assert list(CHEST.modality) == ["DX", "CR", "CT"]
    assert Origins.from_json(CHEST.to_json()) == CHEST


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (Origin("CR", "CHEST"), ()),
        (Origin(), ()),
        (
            Origin("CT", "KNEE"),
            (
                "images[1]: modality CT; this model was trained on DX, CR",
                "images[1]: body part KNEE; this model was trained on CHEST",
            ),
        ),
        (
            Origin("DX", "CHEST", for_processing=True),
            ("images[1]: FOR PROCESSING; this model was not trained on such files",),
        ),
    ],
)
def test_what_training_images_did_not_say_is_unknown(origin: Origin, expected: tuple[str, ...]) -> None:
    assert CHEST.unknown(_images(Origin("DX", "CHEST"), origin)) == expected


def test_training_files_without_declarations_make_nothing_unknown_but_raw_values() -> None:
    assert Origins(50).unknown(_images(Origin("CT", "KNEE"))) == ()
    assert len(Origins(50).unknown(_images(Origin("CT", "KNEE", for_processing=True)))) == 1
    assert Origins(50, for_processing=20).unknown(_images(Origin(for_processing=True))) == ()

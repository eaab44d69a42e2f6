from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image as Picture

from consilium.api.schemas import DiagnoseRequest, parse_request
from consilium.domain.errors import InputError, TooLarge, UnsupportedMedia
from service.http.multipart import FileBytes
from service.serving.intake import Intake
from service.settings import Settings
from tests.patience import PATIENCE_S


def png(grey: int) -> bytes:
    data = io.BytesIO()
    Picture.fromarray(np.full((30, 40), grey, np.uint8)).save(data, "PNG")
    return data.getvalue()


def exercise(scenario: Callable[[Intake], Awaitable[None]], **settings: int) -> None:
    async def go() -> None:
        intake = Intake(Settings(model="m", max_notes=2, **settings))
        await intake.start()
        try:
            await scenario(intake)
        finally:
            await intake.stop()

    asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


async def images_of(intake: Intake, files: tuple[bytes, ...]) -> list[Any]:
    sent = tuple(FileBytes((data[:9], data[9:])) for data in files)
    return (await intake.decode({"images": sent}, {}))["images"]


_OTHERS: set[psutil.Process] = set()
"""Decoders that are lent to other tests of this worker."""


@pytest.fixture(autouse=True)
def lent_pools() -> None:
    """Each of these tests has a pool of its own."""
    _OTHERS.update(decoders())


def decoders() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    spawned = [child for child in children if any("spawn_main" in argument for argument in child.cmdline())]
    return [child for child in spawned if child not in _OTHERS]


def test_images_come_back_in_order_and_the_refused_one_is_named() -> None:
    async def scenario(intake: Intake) -> None:
        images = await images_of(intake, (png(10), png(20), png(30)))
        assert [round(float(image.pixels.mean()) / 257) for image in images] == [10, 20, 30]
        assert await intake.decode({}, {}) == {}
        with pytest.raises(UnsupportedMedia, match=r"images\[1\]"):
            await images_of(intake, (png(10), b"GIF89a", png(30)))

    exercise(scenario)


def test_an_image_of_more_pixels_than_may_be_is_refused_and_one_of_just_as_many_is_not() -> None:
    async def scenario(intake: Intake) -> None:
        with pytest.raises(TooLarge, match=r"images\[0\].*must be at most 1199 pixels"):
            await images_of(intake, (png(10),))

    exercise(scenario, max_image_pixels=30 * 40 - 1)

    async def taken(intake: Intake) -> None:
        assert len(await images_of(intake, (png(10),))) == 1

    exercise(taken, max_image_pixels=30 * 40)


def test_a_decoder_has_the_memory_that_the_settings_give_it() -> None:
    async def scenario(intake: Intake) -> None:
        await images_of(intake, (png(10),))
        (decoder,) = decoders()
        assert decoder.rlimit(psutil.RLIMIT_AS)[0] == 2 << 30

    exercise(scenario, decode_memory_bytes=2 << 30)


def test_the_pool_outlives_a_decoder_that_dies_between_two_images() -> None:
    async def scenario(intake: Intake) -> None:
        await images_of(intake, (png(10),))
        (decoder,) = decoders()
        decoder.kill()
        for grey in range(5):
            (image,) = await images_of(intake, (png(grey),))
            assert round(float(image.pixels.mean()) / 257) == grey
        assert decoders() != [decoder]

    exercise(scenario)


def test_a_cancelled_caller_leaves_the_pool_fit_for_others() -> None:
    async def scenario(intake: Intake) -> None:
        decoding = asyncio.create_task(images_of(intake, (png(1),) * 4))
        await asyncio.sleep(0)
        decoding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decoding
        assert len(await images_of(intake, (png(2),))) == 1

    exercise(scenario)


def test_records_become_a_study_within_the_limits_of_the_settings() -> None:
    intake = Intake(Settings(model="m", max_notes=2))

    def request(notes: int) -> DiagnoseRequest:
        note = b'{"kind": "history", "text": "Cough.", "time": "2024-05-01T10:00:00"}'
        patient = b'"patient": {"age": 67, "sex": "female"}'
        return parse_request(DiagnoseRequest, b'{"notes": [' + b", ".join([note] * notes) + b"], " + patient + b"}")

    study = intake.study({}, request(2))
    assert [note.text for note in study.parts["text"]] == ["Cough.", "Cough."]
    assert (study.patient.age, study.patient.sex.value) == (67.0, "F")
    with pytest.raises(TooLarge, match="notes"):
        intake.study({}, request(3))
    with pytest.raises(InputError, match="study"):
        intake.study({}, request(0))

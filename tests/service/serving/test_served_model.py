"""What decoders make of files, so that every model that is loaded can read them."""

from __future__ import annotations

from consilium.configuration.recipe import Recipe
from consilium.modalities.converter import Converter
from consilium.modalities.image.letterbox import SquareConverter
from service.serving.served_model import decoder_converters
from tests.service.fakes import FakeModel


class WholeOnly(SquareConverter):
    in_decoder = False


def reading(converter: Converter | None) -> FakeModel:
    model = FakeModel()
    model.converters = {} if converter is None else {"image": converter}
    return model


def keys(*models: FakeModel) -> list[str] | None:
    found = decoder_converters(models).get("images")
    return None if found is None else [converter.key for converter in found]


def test_decoders_make_what_every_loaded_model_reads_once_each() -> None:
    models = [reading(SquareConverter(side)) for side in (64, 48, 64)]
    assert keys(*models) == ["letterbox2-64", "letterbox2-48"]


def test_where_one_model_needs_the_whole_record_decoders_make_nothing_of_it() -> None:
    assert keys(reading(SquareConverter(64)), reading(None)) is None
    assert keys(reading(SquareConverter(64)), reading(WholeOnly(64))) is None


def test_a_model_that_reads_no_images_does_not_ask_for_whole_ones() -> None:
    of_words = reading(None)
    of_words.recipe = Recipe(name="words", description="No image.", modalities={"text": {}})
    assert keys(reading(SquareConverter(64)), of_words) == ["letterbox2-64"]

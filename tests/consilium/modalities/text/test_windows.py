import pytest
import torch

from consilium.domain.errors import InputError
from consilium.modalities.text.windows import Windows
from tests.consilium.tiny import TEXT, tiny_model, tiny_preprocessing, tiny_recipe, tiny_study


@pytest.mark.parametrize(("size", "overlap", "marked"), [(6, 2, True), (6, 0, False), (7, 3, True), (8, 4, False)])
@pytest.mark.parametrize("length", [1, 5, 6, 7, 12, 13, 40])
def test_every_piece_is_read_from_one_window(size, overlap, marked, length):
    layout = Windows(size, overlap, marked).layout(length)
    assert layout.places.flatten()[layout.owner].tolist() == list(range(length))
    assert layout.there.flatten()[layout.owner].all()
    assert layout.owned.flatten()[layout.owner].all()
    assert layout.places.shape[1] == min(size, length)
    assert (len(layout.places) == 1) == (length <= size)


def test_windows_overlap_and_begin_with_the_marker():
    layout = Windows(6, 2, marked=True).layout(12)
    assert layout.places.tolist() == [[0, 1, 2, 3, 4, 5], [0, 4, 5, 6, 7, 8], [0, 7, 8, 9, 10, 11]]
    assert layout.owned[:, 0].tolist() == [True, False, False]
    # A piece in two windows is read from the one with more text on either side.
    assert layout.owner.tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 14, 15, 16, 17]


def test_a_layout_that_was_first_needed_without_gradients_serves_with_them():
    with torch.inference_mode():
        layout = Windows(9, 2, marked=True).layout(23)
    values = torch.randn(1, 23, requires_grad=True)
    values[:, layout.places].sum().backward()
    assert values.grad is not None


def test_what_lies_beyond_the_end_is_not_there():
    layout = Windows(6, 2, marked=False).layout(8)
    assert layout.there.tolist() == [[True] * 6, [True] * 4 + [False] * 2]


def test_a_small_bert_reads_long_notes_in_windows():
    recipe = tiny_recipe(text={**TEXT, "window": 16, "overlap": 4, "max_tokens": 64}, modalities=["text"])
    preprocessing = tiny_preprocessing(recipe)
    model = tiny_model(recipe, preprocessing)
    assert model.encoders["text"].model.config.max_position_embeddings == 16
    (note,) = tiny_study(1).parts["text"]
    study = tiny_study(1).with_parts(text=(note, note, note))
    batch = preprocessing.collate([preprocessing.prepare(study)])
    encoder, inputs = model.encoders["text"], batch.inputs["text"]
    length = inputs["mask"].shape[1]
    assert length > 20
    with torch.no_grad():
        tokens = encoder(inputs)
        first = encoder({name: tensor[:, :16] for name, tensor in inputs.items()})
        # The first window's own pieces are read as if there were no others.
        assert torch.allclose(tokens.values[:, :14], first.values[:, :14], atol=1e-6)
        assert not torch.allclose(tokens.values[:, 14:16], first.values[:, 14:16], atol=1e-3)
    assert tokens.mask.sum() == length


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"window": 32, "overlap": 20, "max_tokens": 64}, r"text\.overlap: got 20, must be at most half of the 32"),
        ({"max_tokens": 40_000}, r"text\.max_tokens: got 40000"),
        ({"window": 8}, r"text\.window: got 8"),
    ],
)
def test_windows_that_cannot_be_are_refused(section, message):
    with pytest.raises(InputError, match=message):
        tiny_preprocessing(tiny_recipe(text={**TEXT, **section}))

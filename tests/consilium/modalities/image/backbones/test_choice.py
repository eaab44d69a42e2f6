"""Weights that MONAI fetches, and files that are not what a recipe says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from consilium.domain.errors import InputError
from consilium.modalities.image.backbones import choice
from consilium.modalities.image.backbones.choice import build, describe
from consilium.modalities.image.backbones.description import ImageInput
from consilium.modalities.image.backbones.monai_networks import nets
from consilium.modalities.image.backbones.weights_file import WeightsHeader
from consilium.modalities.image.section import ImageSection
from consilium.modalities.weight_source import WeightSource
from tests.consilium.modalities.image.backbones import published

_FETCH = "monai.networks.nets.densenet.load_state_dict_from_url"


@pytest.fixture(autouse=True)
def _fetched_anew() -> Iterator[None]:
    choice._downloaded.cache_clear()
    yield
    choice._downloaded.cache_clear()


def test_monai_s_weights_of_imagenet_are_fetched_by_monai_and_take_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    state = published.densenet121(3)
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): one for key, one in state.items() if "denselayer" in key}
    old = {key: one for key, one in state.items() if "denselayer" not in key} | old  # as torchvision's file names them
    assert nets.DenseNet121.__module__ == "monai.networks.nets.densenet"
    monkeypatch.setattr(_FETCH, lambda url, **options: {**old})
    section = ImageSection(encoder="densenet121", size=64, weights="monai")
    description = describe(section)
    assert description.input.mean == (0.485, 0.456, 0.406)
    (source,) = description.sources
    assert (source.source, source.licence, len(source.sha256)) == ("fetched by MONAI", "not stated", 64)
    backbone = build(section, description, pretrained=True).eval()
    grey = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)
    mean, sd = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (description.input.mean, description.input.sd))
    with torch.no_grad():
        expected = published.run_densenet121(state, (grey - mean) / sd)
        assert torch.allclose(backbone(grey), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_weights_that_monai_s_loader_passes_over_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    state = published.densenet121(3)  # under names that MONAI does not look for
    monkeypatch.setattr(_FETCH, lambda url, **options: {**state})
    with pytest.raises(InputError, match=r"weights: got 'monai', .*denseblock1\.denselayer1.*more stay random"):
        describe(ImageSection(encoder="densenet121", size=64, weights="monai"))


def test_without_a_network_monai_s_weights_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(_FETCH, refused)
    section = ImageSection(encoder="densenet121", size=64, weights="monai")
    with pytest.raises(InputError, match=r"weights: got 'monai', cannot be fetched \(URLError\): .*TORCH_HOME"):
        describe(section)


def test_where_monai_has_none_it_says_of_what_it_has() -> None:
    with pytest.raises(InputError, match="MONAI has no weights of vit, only of densenet121"):
        describe(ImageSection(encoder="vit", size=224, weights="monai"))


def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html>")


def _pytorch(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, path)


def _cut(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    path.write_bytes(path.read_bytes()[:500])


def _of_another(path: Path) -> None:
    source = WeightSource(architecture="efficientnet-lite0", source="x", sha256="ab" * 32)
    save_file({"made": torch.zeros(1)}, path, WeightsHeader(source, ImageInput()).metadata())


def _of_another_version(path: Path) -> None:
    save_file({"made": torch.zeros(1)}, path, {"consilium": '{"format": "consilium image weights 99"}'})


def _of_other_keys(path: Path) -> None:
    save_file({"made": torch.zeros(1)}, path)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "a page": (_page, "must be a safetensors file .*it is an HTML or XML page"),
    "PyTorch's": (_pytorch, "it is a PyTorch file: `consilium weights import weights --architecture NAME"),
    "truncated": (_cut, r"must be a safetensors file with this encoder's weights \("),
    "another encoder": (_of_another, "holds weights of efficientnet-lite0, must be of resnet18; or set"),
    "another version": (_of_another_version, "must be written by `consilium weights import` of this version"),
    "other keys": (_of_other_keys, r"must be this encoder's weights \(lacks conv1\.weight, .* more\)"),
    "a folder": (Path.mkdir, r"must be a file that can be read \(Is a directory"),
    "none": (lambda path: None, r"must be a file that can be read \(No such file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_weights_end_in_one_line(kind: str, tmp_path: Path) -> None:
    make, expected = WRONG[kind]
    make(tmp_path / "weights")
    section = ImageSection(encoder="resnet18", size=64, weights=str(tmp_path / "weights"))
    with pytest.raises(InputError, match=rf"^modalities\.image\.weights: got .*{expected}") as error:
        build(section, describe(section), pretrained=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"encoder": "resnet19"}, "the nearest is 'resnet18'"),
        ({"encoder": "efficientnet-lite0", "size": 100}, "size: got 100, must be a multiple of 32"),
        ({"encoder": "efficientnet-lite0", "width": 8}, "width: got 8, must be left out"),
        ({"encoder": "owner/name", "weights": "x.safetensors"}, "weights: got 'x.safetensors', must be left out"),
        ({"encoder": "owner/name", "weights": "monai"}, "weights: got 'monai', must be left out"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(section: dict[str, object], expected: str) -> None:
    with pytest.raises((InputError, ValueError), match=expected):
        describe(ImageSection.model_validate(section))

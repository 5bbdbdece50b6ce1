"""Encoders as files for other programs."""

import importlib.util
import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Generator, nn

from vicreg.networks import ResNet, ViT, image_encoder
from vicreg.networks.export import FORMATS, exported

VIEW = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "size": 16}


def moved(encoder):
    """With running statistics and gains away from their start, in training mode."""
    generator = Generator().manual_seed(0)
    for name, one in encoder.state_dict().items():
        if name.endswith("running_var") or one.ndim == 1:
            one.copy_(torch.rand(one.shape, generator=generator) + 0.5)
    return encoder.train()


def small(name="resnet18", size=16, width=16):
    return moved(image_encoder(name, size, Generator().manual_seed(0), width=width))


def outputs(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]


def check_onnx(encoder, rtol=1e-4):
    before = {name: one.clone() for name, one in encoder.state_dict().items()}
    modes = [one.training for one in encoder.modules()]
    content, notes = exported(encoder, "onnx", **VIEW)
    assert [one.training for one in encoder.modules()] == modes
    assert all(torch.equal(one, before[name]) for name, one in encoder.state_dict().items())
    encoder.eval()
    for n in (1, 2, 7):
        images = torch.randn(n, 3, 16, 16, generator=Generator().manual_seed(n))
        expected = encoder(images).detach().numpy()
        np.testing.assert_allclose(outputs(content, images), expected, atol=rtol * np.abs(expected).max(), rtol=0)
    return content, notes


@pytest.mark.slow
def test_onnx_gives_what_the_encoder_gives(recwarn, caplog):
    content, notes = check_onnx(small())
    assert not recwarn.list
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
    assert len(notes) == 1
    assert notes[0].startswith(f"checked against onnxruntime {onnxruntime.__version__}: largest deviation ")
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model)
    plain = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert plain == {"mean": list(VIEW["mean"]), "std": list(VIEW["std"]), "size": 16}
    (one,), (other,) = model.graph.input, model.graph.output
    sides = [[part.dim_param or part.dim_value for part in put.type.tensor_type.shape.dim] for put in (one, other)]
    assert (one.name, other.name, sides) == ("images", "representations", [["n", 3, 16, 16], ["n", 128]])
    for path in (b".py", b"site-packages", str(importlib.util.find_spec("vicreg").origin).encode()):
        assert path not in content  # nothing of this machine


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: moved(ViT(16, 4, 32, 2, 2)),
        lambda: small("resnet50"),
        lambda: moved(ResNet("basic", (1, 1), 16, "imagenet")).to(memory_format=torch.channels_last),
        lambda: moved(ResNet("basic", (1, 1), 16)).double(),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.Dropout(0.5), nn.Tanh()),
    ],
)
def test_onnx_of_every_kind_of_encoder(make):
    encoder = make()
    if next(encoder.parameters()).dtype == torch.float64:
        encoder = encoder.float()
    check_onnx(encoder)


class Unsteady(nn.Module):
    """In the graph it is what it was while it was traced."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        factor = 2.0 if torch.compiler.is_exporting() else 1.0
        return factor * self.linear(x.mean((2, 3)))


class Unfit(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.sort(x.numpy().reshape(len(x), -1)))


def test_a_graph_that_deviates_is_an_error_with_the_figure():
    with pytest.raises(RuntimeError, match="the ONNX graph must give what the encoder gives, .*; got 1 in onnxruntime"):
        exported(Unsteady(), "onnx", **VIEW)


def test_what_cannot_be_exported_is_said():
    with pytest.raises(ValueError, match="the encoder must be a module that PyTorch can export to ONNX; got .*Error"):
        exported(Unfit(), "onnx", **VIEW)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ImportError, match="needs onnx, onnxscript and onnxruntime: pip install 'vicreg.export.'"):
        exported(small(), "onnx", **VIEW)


def test_safetensors_hold_weights_architecture_and_normalisation(tmp_path):
    encoder = small().to(memory_format=torch.channels_last)
    content, notes = exported(encoder, "safetensors", **VIEW)
    assert notes == ()
    (tmp_path / "w.safetensors").write_bytes(content)
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        plain = {name: file.metadata()[name] for name in ("architecture", "mean", "std", "size")}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    again = ResNet(**json.loads(plain["architecture"]))
    again.load_state_dict(tensors)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again.eval()(x), encoder.eval()(x))
    assert (json.loads(plain["mean"]), json.loads(plain["size"])) == (list(VIEW["mean"]), 16)


def test_any_module_is_exported_to_safetensors_even_with_shared_weights():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    assert len(exported(module, "safetensors", **VIEW).content) > 2 * 9 * 4


@pytest.mark.parametrize(("name", "size"), [("resnet18", 16), ("resnet50", 224)])
def test_torchvision_s_format_is_a_state_dict_with_its_names(name, size):
    encoder = image_encoder(name, size, Generator().manual_seed(0))
    content, notes = exported(encoder, "torchvision", **VIEW | {"size": size})
    state = torch.load(io.BytesIO(content), weights_only=True)
    assert list(state) == list(encoder.state_dict())  # test_networks_image holds these against torchvision's
    assert all(torch.equal(one, state[key]) for key, one in encoder.state_dict().items())
    assert notes[0] == f"torchvision.models.{name}().load_state_dict(..., strict=False) lacks only fc"
    assert notes[1] == "pictures are to be normalised by mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]"
    assert [note for note in notes if "model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1" in note] == list(notes[2:])
    assert len(notes) == (3 if size == 16 else 2)


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (small, "a resnet18 of width 16 with the small-image stem"),
        (lambda: small("vit_tiny"), "a vision transformer of width 16"),
        (lambda: ResNet("basic", (2, 2, 2, 2), dims=1), "a resnet18 for signals"),
        (lambda: ResNet("basic", (1, 1)), "a ResNet of 1-1 basic blocks of width 64"),
        (lambda: nn.Linear(2, 2), "another architecture"),
    ],
)
def test_torchvision_s_format_is_for_its_architectures(make, got):
    match = f"the encoder must be one of resnet18, resnet34, resnet50 at its usual width for .*; got {got}"
    with pytest.raises(ValueError, match=match):
        exported(make(), "torchvision", **VIEW)


def test_bad_settings_are_refused():
    assert FORMATS == ("torchvision", "safetensors", "onnx")
    with pytest.raises(ValueError, match="format must be one of 'onnx', 'safetensors', 'torchvision'; got 'tflite'"):
        exported(small(), "tflite", **VIEW)
    with pytest.raises(ValueError, match="mean and std must be of one length; got 3 and 1"):
        exported(small(), "onnx", **VIEW | {"std": (1.0,)})
    with pytest.raises(ValueError, match="each value of std must be a finite number above 0; got 0.0"):
        exported(small(), "onnx", **VIEW | {"std": (1.0, 0.0, 1.0)})
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        exported(small(), "onnx", **VIEW | {"size": 0})

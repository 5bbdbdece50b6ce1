"""Weights from files: ours, others', damaged, hostile, of another architecture."""

import json
import pickle
import re
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Generator, nn

from vicreg.networks import ResNet, TimmEncoder, ViT, image_encoder
from vicreg.networks.weights import load_weights


def small(seed=0, size=32, width=16, name="resnet18"):
    return image_encoder(name, size, Generator().manual_seed(seed), width=width)


def trained(seed=0, **given):
    """An encoder whose every tensor, buffers too, is its own."""
    encoder = small(seed, **given)
    generator = Generator().manual_seed(seed)
    for name, one in encoder.state_dict().items():
        if one.is_floating_point():
            one.copy_(torch.rand(one.shape, generator=generator) + 0.5)
        else:
            one.fill_(len(name))
    return encoder


def equal(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(one, theirs[name]) for name, one in ours.items())


def refused(path, match, encoder=None):
    encoder = small(5) if encoder is None else encoder
    before = {name: one.clone() for name, one in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        load_weights(encoder, path)
    assert all(torch.equal(one, before[name]) for name, one in encoder.state_dict().items())


def prefixed(prefix, state):
    return {prefix + name: one for name, one in state.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny"])
@pytest.mark.parametrize("save", [save_file, torch.save])
def test_what_was_written_comes_back(tmp_path, name, save):
    source, target = trained(name=name), small(1, name=name)
    save(source.state_dict(), tmp_path / "weights")
    assert load_weights(target, str(tmp_path / "weights")) == []
    assert equal(source, target)


HEADS = {"fc.weight": torch.ones(10, 128), "fc.bias": torch.ones(10)}
WRAPPED = {
    "torchvision": lambda state: (OrderedDict(state | HEADS), ["left aside: 'fc'"]),
    "backbone only": lambda state: (state, []),
    "official checkpoint": lambda state: (
        {
            "epoch": 100,
            "model": prefixed("module.backbone.", state) | {"module.projector.0.weight": torch.ones(3, 128)},
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.2}]},
        },
        ["left aside: 'module.projector'"],
    ),
    "lightning": lambda state: (
        {
            "state_dict": prefixed("backbone.", state)
            | {"classifier.weight": torch.ones(1), "projector.0.bias": torch.ones(1)}
        },
        ["left aside: 'classifier', 'projector'"],
    ),
    "compiled": lambda state: (prefixed("_orig_mod.", state), []),
    "dino": lambda state: ({"student": {}, "teacher": prefixed("backbone.", state)}, []),
    "nested": lambda state: ({"model": {"state_dict": prefixed("encoder.", state)}}, []),
    "joint": lambda state: (
        prefixed("branches.0.encoder.", state) | {"branches.0.expander.0.weight": torch.ones(1)},
        ["left aside: 'branches'"],
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_prefixes_and_heads_are_left_aside(tmp_path, kind):
    source, target = trained(), small(1)
    content, notes = WRAPPED[kind](source.state_dict())
    torch.save(content, tmp_path / "weights.pth")
    assert load_weights(target, tmp_path / "weights.pth") == notes
    assert equal(source, target)


def test_old_files_without_counters_and_half_precision_fit(tmp_path):
    source, target = trained(), trained(1)
    half = {name: one.half() for name, one in source.state_dict().items() if not name.endswith("tracked")}
    torch.save(half, tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    for name, one in target.state_dict().items():
        assert torch.equal(one, half[name].float() if name in half else torch.tensor(0)), name
        assert one.dtype in (torch.float32, torch.int64)


def test_the_old_format_of_torch_save_fits(tmp_path):
    source, target = trained(), small(1)
    torch.save(source.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    load_weights(target, tmp_path / "weights.pth")
    assert equal(source, target)


def test_positions_of_another_size_are_interpolated(tmp_path):
    source = ViT(32, 4, 16, 1, 2)
    target = ViT(16, 4, 16, 1, 2)
    with torch.no_grad():
        source.pos_embed[:, 1:] = torch.arange(16.0)
        source.pos_embed[:, :1] = 7
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    assert load_weights(target, tmp_path / "weights.pth") == ["position embeddings interpolated from 64 patches"]
    expected = torch.cat((torch.full((1, 1, 16), 7.0), torch.arange(16.0).expand(1, 16, 16)), 1)
    torch.testing.assert_close(target.pos_embed.detach(), expected)
    odd = source.state_dict() | {"pos_embed": torch.zeros(1, 1 + 15, 16)}
    torch.save(odd, tmp_path / "weights.pth")
    refused(
        tmp_path / "weights.pth", "width 16 and depth 1 with patches of 4 at 17 positions; got .* 16 positions", target
    )


def test_another_stem_is_named_in_words(tmp_path):
    torch.save(small(size=224).state_dict(), tmp_path / "weights.pth")
    match = (
        "weights.pth' must hold the weights of a resnet18 of width 16 with the small-image stem .a 3x3 convolution.; "
        "got those of a resnet18 of width 16 with the ImageNet stem .a 7x7 convolution.. The stem follows from"
    )
    refused(tmp_path / "weights.pth", match)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(name="resnet34"), "a resnet34 of width 16 with the small-image stem"),
        (lambda: small(width=32), "a resnet18 of width 32 with"),
        (lambda: small(name="resnet18", width=64, size=128), "a resnet18 with the ImageNet stem"),
        (lambda: small(name="resnet50"), "a resnet50 of width 16 with"),
        (lambda: ResNet("bottleneck", (1, 1), 16), "a ResNet of 1-1 bottleneck blocks of width 16"),
        (
            lambda: ResNet("basic", (2, 2, 2, 2), 16, dims=1, in_channels=1),
            "signals with .* .a 7 convolution. on 1 channels",
        ),
        (
            lambda: small(name="vit_tiny", width=64),
            "a vision transformer of width 64 and depth 12 with patches of 4 at 65",
        ),
    ],
)
def test_another_architecture_is_named(tmp_path, make, words):
    save_file(prefixed("module.", make().state_dict()), tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", f"got those of {words}" if words.startswith("a ") else words)


def test_the_double_width_is_told_from_the_single_one(tmp_path):
    with torch.device("meta"):
        wide, usual = (ResNet("bottleneck", (3, 4, 6, 3), width) for width in (128, 64))
    from_shapes = {name: torch.zeros(()).expand(one.shape) for name, one in wide.state_dict().items()}
    torch.save(from_shapes, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="weights of a resnet50 with .*; got those of a resnet50x2 with"):
        load_weights(usual, tmp_path / "w.pth")


def test_a_resnet_that_is_wider_inside_is_no_resnet50(tmp_path):
    state = ResNet("bottleneck", (1, 1), 16).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(32, 16, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", r"of 1-1 bottleneck blocks of width 16 \(32 inside\)", ResNet("bottleneck", (1, 1), 16))


def test_what_does_not_fit_is_listed(tmp_path):
    state = small().state_dict()
    state["layer3.0.conv1.weight"] = state["layer3.0.conv1.weight"][:, :-1].contiguous()
    state["layer9\n.weight"] = state.pop("bn1.weight")
    state["layer2.0.bn1.weight"] = torch.ones(32, dtype=torch.int64)
    torch.save(state, tmp_path / "w.pth")
    match = (
        r"got no 'bn1.weight'; unknown 'layer9\\n.weight'; "
        r"'layer3.0.conv1.weight' .64, 31, 3, 3. instead of .64, 32, 3, 3.; 'layer2.0.bn1.weight' of another type"
    )
    refused(tmp_path / "w.pth", match)


def test_any_module_takes_weights(tmp_path):
    source, target = (nn.Sequential(nn.Linear(3, 4), nn.PReLU()) for _ in range(2))
    nn.init.constant_(source[1].weight, 0.7)
    torch.save({"state_dict": prefixed("net.", source.state_dict())}, tmp_path / "w.pth")
    load_weights(target, tmp_path / "w.pth")
    assert equal(source, target)
    match = "hold the weights of Linear; got 'weight' .4, 3. instead of .5, 3. and 1 more such shapes"
    refused(tmp_path / "w.pth", match, nn.Linear(3, 5))


def test_timm_s_keys_are_its_own(tmp_path, monkeypatch):
    class Model(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.stem = nn.Conv2d(3, 5, 3)

        def forward(self, x):
            return self.stem(x).mean((2, 3))

    module = types.ModuleType("timm")
    module.is_model = lambda name: True
    module.create_model = lambda name, **given: Model(**given)
    monkeypatch.setitem(sys.modules, "timm", module)
    source, target = TimmEncoder("model", 8), TimmEncoder("model", 8, seed=1)
    for state in (source.model.state_dict(), source.state_dict()):  # timm's file; the file of a run
        nn.init.zeros_(target.model.stem.weight)
        torch.save(state, tmp_path / "w.pth")
        assert load_weights(target, tmp_path / "w.pth") == []
        assert equal(source, target)


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = small().state_dict()
    state["bn1.bias"][3] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "must hold finite weights; got NaN or infinity in 'bn1.bias'")


class Code:
    def __reduce__(self):
        return Path.touch, (Path(Code.marker),)


def test_code_in_a_file_is_not_run(tmp_path):
    Code.marker = str(tmp_path / "marker")
    torch.save({"state_dict": small().state_dict(), "config": Code()}, tmp_path / "w.pth")
    refused(
        tmp_path / "w.pth", "hold weights; got more than tensors, which only code could restore. Save the weights alone"
    )
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code()))
    refused(tmp_path / "plain.pth", "must hold weights; got")
    assert not Path(Code.marker).exists()


def damaged_files():
    header = json.dumps({"conv1.weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    whole = len(header).to_bytes(8, "little") + header
    return {
        "empty": b"",
        "text": b"these are no weights\n" * 100,
        "cut": whole + bytes(15),
        "cut header": whole[:20],
        "a zip": b"PK\x03\x04" + bytes(100),
        "old pickle": pickle.dumps({"conv1.weight": [1.0, 2.0]}),
        "numbers": pickle.dumps(3, protocol=2),
        "long header": (2**62).to_bytes(8, "little") + b"{}",
    }


@pytest.mark.parametrize("kind", damaged_files())
def test_files_that_are_no_weights_are_refused(tmp_path, kind):
    (tmp_path / "w.pth").write_bytes(damaged_files()[kind])
    refused(
        tmp_path / "w.pth", r"w.pth' must hold weights; got (no such thing|no tensors by name).* Name a safetensors"
    )


def test_torchscript_and_lists_and_whole_modules_are_refused(tmp_path):
    for what in ([torch.ones(3)], {1: torch.ones(3)}, {"model": {"lr": 0.1}}, torch.ones(3)):
        torch.save(what, tmp_path / "w.pth")
        refused(tmp_path / "w.pth", "must hold weights; got no tensors by name")
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "must hold weights; got more than tensors, which only code could restore")


def test_missing_files_and_folders_are_named(tmp_path):
    refused(tmp_path / "nothing.pth", "nothing.pth' must be a file of weights; got 'No such file or directory'")
    refused(tmp_path, re.escape("must be a file of weights; got a folder. A run's is its encoder.safetensors."))


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x10" + bytes(7) + b"{"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_get_past_the_message(tmp_path, rest, start):
    (tmp_path / "w.pth").write_bytes(start + rest)
    with pytest.raises(ValueError, match="must hold (weights|the weights of Linear)"):
        load_weights(nn.Linear(2, 2), tmp_path / "w.pth")

"""Encoders for pictures and signals: ResNets, vision transformers, timm's."""

import copy
import json
import math
import sys
import types

import pytest
import torch
from torch import Generator, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from vicreg.networks import (
    ENCODERS,
    IMAGE_ENCODERS,
    ResNet,
    TimmEncoder,
    ViT,
    drawn,
    image_encoder,
    initialise,
    output_width,
)
from vicreg.networks.resnet import RESNETS
from vicreg.networks.vit import Attention

# As torchvision and timm count them, without the classifier; the last is "94M" in SimCLR's table 1.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet50x2": 93_907_072,
    "vit_tiny": 5_524_416,
    "vit_small": 21_665_664,
}
WIDTHS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet50x2": 4096, "vit_tiny": 192, "vit_small": 384}


def seeded(seed=0):
    return Generator().manual_seed(seed)


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(1), dtype=dtype)


def shaken(encoder):
    """The encoder with every weight and running statistic away from its start, in float64 and evaluation mode."""
    generator = seeded(2)
    encoder = encoder.double().eval()
    with torch.no_grad():
        for name, value in encoder.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=generator)
            elif value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype), alpha=0.1)
    return encoder


def on_meta(name, size=224):
    with torch.device("meta"):
        return IMAGE_ENCODERS[name](size, None)


@pytest.mark.parametrize("name", PARAMETERS)
def test_as_many_parameters_as_published(name):
    encoder = on_meta(name)
    assert sum(one.numel() for one in encoder.parameters()) == PARAMETERS[name]
    assert encoder.width == WIDTHS[name]


def norm_names(prefix, width):
    shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (width,))
    return {f"{prefix}.{part}": shape for part, shape in (shapes | {"num_batches_tracked": ()}).items()}


def torchvision_names(depth):
    """The names and shapes in ``torchvision.models.resnet<depth>().state_dict()``, in order and without ``fc``."""
    numbers = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    names = {"conv1.weight": (64, 3, 7, 7)} | norm_names("bn1", 64)
    before = 64
    for stage, number in enumerate(numbers, 1):
        inner = 32 * 2**stage
        outer = inner * (4 if depth == 50 else 1)
        for i in range(number):
            at = f"layer{stage}.{i}"
            kernels = (1, 3, 1) if depth == 50 else (3, 3)
            channels = [before, *[inner] * (len(kernels) - 1), outer]
            for j, kernel in enumerate(kernels):
                names[f"{at}.conv{j + 1}.weight"] = (channels[j + 1], channels[j], kernel, kernel)
                names |= norm_names(f"{at}.bn{j + 1}", channels[j + 1])
            if i == 0 and before != outer:
                names[f"{at}.downsample.0.weight"] = (outer, before, 1, 1)
                names |= norm_names(f"{at}.downsample.1", outer)
            before = outer
    return names


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_names_and_shapes_are_torchvision_s(depth):
    found = {name: tuple(one.shape) for name, one in on_meta(f"resnet{depth}").state_dict().items()}
    assert list(found.items()) == list(torchvision_names(depth).items())


def test_names_and_shapes_are_timm_s():
    found = {name: tuple(one.shape) for name, one in on_meta("vit_small").state_dict().items()}
    expected = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 197, 384),
        "patch_embed.proj.weight": (384, 3, 16, 16),
        "patch_embed.proj.bias": (384,),
    }
    linear = {"attn.qkv": (1152, 384), "attn.proj": (384, 384), "mlp.fc1": (1536, 384), "mlp.fc2": (384, 1536)}
    for i in range(12):
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            expected[f"blocks.{i}.{part}.weight"] = linear.get(part, (384,))
            expected[f"blocks.{i}.{part}.bias"] = (linear.get(part, (384,))[0],)
    expected |= {"norm.weight": (384,), "norm.bias": (384,)}
    assert list(found.items()) == list(expected.items())


def by_hand(weights, x, kernel, layers, strides_at):
    """A ResNet written out with functions, from the names of its weights; ``strides_at`` has the stride."""
    convolve = F.conv2d if x.ndim == 4 else F.conv1d

    def conv_norm(x, conv, norm, stride):
        weight = weights[f"{conv}.weight"]
        x = convolve(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        each = (1, -1, *[1] * (x.ndim - 2))
        mean, variance, gain, shift = (
            weights[f"{norm}.{part}"].reshape(each) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * gain + shift

    x = conv_norm(x, "conv1", "bn1", 2 if kernel == 7 else 1).clamp(min=0)
    if kernel == 7:
        pool = F.max_pool2d if x.ndim == 4 else F.max_pool1d
        x = pool(x, 3, stride=2, padding=1)
    for stage, number in enumerate(layers, 1):
        for i in range(number):
            at = f"layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            skip = (
                conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
                if f"{at}.downsample.0.weight" in weights
                else x
            )
            last = 3 if f"{at}.conv3.weight" in weights else 2
            for j in range(1, last + 1):
                x = conv_norm(x, f"{at}.conv{j}", f"{at}.bn{j}", stride if j == strides_at else 1)
                x = x.clamp(min=0) if j < last else x
            x = (x + skip).clamp(min=0)
    return x.mean(dim=tuple(range(2, x.ndim)))


@pytest.mark.parametrize(("block", "strides_at"), [("basic", 1), ("bottleneck", 2)])
@pytest.mark.parametrize(("stem", "kernel", "size"), [("imagenet", 7, 67), ("small", 3, 17)])
def test_forward_is_the_definition(block, strides_at, stem, kernel, size):
    encoder = shaken(ResNet(block, (2, 1, 2), 16, stem))
    x = random(2, 3, size, size - 6)
    expected = by_hand(encoder.state_dict(), x, kernel, (2, 1, 2), strides_at)
    torch.testing.assert_close(encoder(x), expected)


def test_maps_are_what_the_mean_is_taken_of():
    encoder = shaken(ResNet("basic", (1, 1), 16, "small"))
    x = random(2, 3, 12, 8)
    assert encoder.maps(x).shape == (2, 32, 6, 4)
    torch.testing.assert_close(encoder.maps(x).mean((2, 3)), encoder(x))


@pytest.mark.parametrize("stem", ["imagenet", "small", "wave"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_signal_is_a_picture_of_height_one(block, stem):
    picture = shaken(ResNet(block, (1, 2), 16, stem, in_channels=2))
    signal = ResNet(block, (1, 2), 16, stem, dims=1, in_channels=2).double().eval()
    # Beyond a height of one there is padding: of a kernel, its middle row is all that counts.
    flat = {
        name: one[:, :, one.shape[2] // 2, None] if one.ndim == 4 else one for name, one in picture.state_dict().items()
    }
    signal.load_state_dict(flat)
    x = random(3, 2, 50)
    torch.testing.assert_close(signal(x), picture(x.unsqueeze(2)))
    assert signal.maps(x).shape == picture.maps(x.unsqueeze(2)).squeeze(2).shape


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_blocks_start_as_their_skip_path(block):
    encoder = drawn(lambda: ResNet(block, (1, 1), 16), seeded()).eval()
    x = random(1, 16 * (4 if block == "bottleneck" else 1), 8, 8, dtype=torch.float32)
    layer = encoder.layer2[0]
    torch.testing.assert_close(layer(x), layer.downsample(x).relu())
    other = drawn(lambda: ResNet(block, (1, 1), 16, zero_init=False), seeded()).eval().layer2[0]
    assert not torch.allclose(other(x), other.downsample(x).relu())


@pytest.mark.parametrize(
    "make", [lambda: drawn(lambda: ResNet("basic", (1, 1)), seeded()), lambda: ResNet("basic", (1, 1))]
)
def test_convolutions_start_by_their_fan_out(make):
    torch.manual_seed(0)
    encoder = make()
    for name, one in encoder.named_parameters():
        if one.ndim == 4:
            std = math.sqrt(2 / (one.shape[0] * one.shape[2] * one.shape[3]))
            assert float(one.detach().std()) == pytest.approx(std, rel=0.05), name


def test_a_drawn_network_has_nothing_left_of_the_memory_it_lies_in():
    torch.empty(1 << 20).fill_(7)  # what an allocator may hand out next
    for make in (lambda: ResNet("bottleneck", (1, 1), 16), lambda: ViT(16, 8, 64, 1, 1)):
        one, other = drawn(make, seeded()).state_dict(), drawn(make, seeded()).state_dict()
        for name, value in one.items():
            assert torch.equal(value, other[name]), name
            assert bool(torch.isfinite(value).all())
            assert value.abs().max() <= 5, name
            expected = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}.get(name.split(".")[-1])
            assert expected is None or bool((value == expected).all()), name


def test_a_transformer_starts_as_deit_does():
    encoder = drawn(lambda: ViT(32, 4, 128, 2, 2), seeded())
    for name, one in encoder.named_parameters():
        value = one.detach()
        if (name.startswith("blocks") and value.ndim == 2) or name == "pos_embed":
            assert float(value.std()) == pytest.approx(0.02, rel=0.1), name
        elif value.ndim == 1:
            assert bool((value == (1 if "norm" in name and "weight" in name else 0)).all()), name
    assert float(encoder.cls_token.detach().abs().max()) > 0


def test_a_layer_with_a_buffer_of_its_own_is_refused():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(2))

    with pytest.raises(TypeError, match="a layer must be linear, a convolution or a norm to be drawn, .*; got Own"):
        initialise(Own(), seeded())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny"])
def test_every_parameter_gets_a_gradient_and_copies_are_equal(name):
    before = torch.get_rng_state()
    encoder = image_encoder(name, 16, seeded(), width=16)
    assert torch.equal(before, torch.get_rng_state())
    for one in encoder.parameters():  # off the zeros that it starts with
        one.data += 0.01
    x = random(4, 3, 16, 16, dtype=torch.float32)
    encoder(x).square().sum().backward()
    assert all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in encoder.parameters())
    again = ENCODERS["vit" if "vit" in name else "resnet"](**json.loads(json.dumps(encoder.settings)))
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(x), encoder.eval()(x))
    assert torch.equal(copy.deepcopy(encoder)(x), encoder(x))
    assert encoder(x).shape == (4, encoder.width)
    last = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, encoder(x))


def test_weights_of_another_seed_differ():
    a, b = (image_encoder("resnet18", 32, seeded(seed), width=16).conv1.weight for seed in (0, 1))
    assert not torch.equal(a, b)


def test_attention_is_pytorch_s():
    ours = Attention(16, 4).double()
    theirs = nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.proj.weight,
            "out_proj.bias": ours.proj.bias,
        }
    )
    x = random(2, 5, 16)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_the_transformer_is_pytorch_s_encoder_on_patches():
    encoder = shaken(ViT(image_size=12, patch=4, width=16, depth=3, heads=2, in_channels=2))
    weights = encoder.state_dict()
    x = random(2, 2, 12, 12)
    patches = [x[:, :, i : i + 4, j : j + 4].flatten(1) for i in (0, 4, 8) for j in (0, 4, 8)]
    projection = weights["patch_embed.proj.weight"].flatten(1)
    tokens = torch.stack(patches, 1) @ projection.T + weights["patch_embed.proj.bias"]
    tokens = torch.cat((weights["cls_token"].expand(2, 1, 16), tokens), 1) + weights["pos_embed"]
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    for i in range(3):
        layer = nn.TransformerEncoderLayer(
            16, 2, 64, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True, dtype=torch.float64
        )
        parts = {f"{a}{c}": weights[f"blocks.{i}.{b}{c}"] for a, b in names.items() for c in ("weight", "bias")}
        layer.load_state_dict(parts)
        tokens = layer(tokens)  # in training mode, since PyTorch has another path for evaluation; no dropout
    expected = F.layer_norm(tokens, (16,), weights["norm.weight"], weights["norm.bias"], 1e-6)
    torch.testing.assert_close(encoder(x), expected[:, 0])
    maps = torch.stack([expected[:, 1 + 3 * i : 4 + 3 * i] for i in range(3)], 1).permute(0, 3, 1, 2)
    torch.testing.assert_close(encoder.maps(x), maps)


def test_small_crops_get_interpolated_positions():
    encoder = shaken(ViT(32, 4, 16, 1, 2))
    with torch.no_grad():
        encoder.pos_embed[:, 1:] = 0.5  # a constant stays what it is
    x = random(1, 3, 16, 24)
    smaller = ViT(16, 4, 16, 1, 2).double().eval()
    state = encoder.state_dict() | {"pos_embed": encoder.pos_embed[:, :17].clone()}
    smaller.load_state_dict(state)
    torch.testing.assert_close(encoder(x[..., :16]), smaller(x[..., :16]))
    assert encoder.maps(x).shape == (1, 16, 4, 6)


def test_positions_are_interpolated_along_the_right_axes():
    encoder = ViT(32, 4, 2, 1, 1).double()
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    with torch.no_grad():
        encoder.pos_embed[0, 1:] = torch.stack((rows, columns), -1).reshape(64, 2)
    found = []
    encoder.blocks.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        encoder.patch_embed.proj.weight.zero_()
        encoder(torch.zeros(1, 3, 16, 16, dtype=torch.float64))
    rows, columns = found[0][0, 1:].reshape(4, 4, 2).unbind(-1)
    centres = torch.tensor([0.5, 2.5, 4.5, 6.5], dtype=torch.float64)  # of 4 cells on 8
    torch.testing.assert_close(rows[:, 1], centres, atol=0.15, rtol=0)
    torch.testing.assert_close(columns[1], centres, atol=0.15, rtol=0)


def test_the_stem_and_the_patches_follow_from_the_size():
    made = {size: image_encoder("resnet18", size, seeded(), width=16) for size in (64, 65)}
    assert [one.settings["stem"] for one in made.values()] == ["small", "imagenet"]
    assert made[64].maps(torch.zeros(1, 3, 64, 64)).shape[2:] == (8, 8)
    assert made[65].maps(torch.zeros(1, 3, 65, 65)).shape[2:] == (3, 3)
    for size, patch in [(32, 4), (64, 8), (96, 16), (224, 16)]:
        assert image_encoder("vit_tiny", size, seeded(), width=64).settings["patch"] == patch


def test_one_pixel_is_a_picture():
    encoder = image_encoder("resnet18", 1, seeded(), width=16).eval()
    assert bool(torch.isfinite(encoder(torch.zeros(2, 3, 1, 1))).all())


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="encoder must be one of 'resnet18', .*'timm:NAME'.*; got 'resnet19'"):
        image_encoder("resnet19", 32, seeded())
    with pytest.raises(ValueError, match="image_size must be at least 1; got 0"):
        image_encoder("resnet18", 0, seeded())
    with pytest.raises(ValueError, match="width must be at least 1; got 0"):
        image_encoder("resnet18", 32, seeded(), width=0)
    with pytest.raises(ValueError, match="image_size must be a multiple of 16 for a vision .*; got 100. Choose 96."):
        image_encoder("vit_tiny", 100, seeded())
    with pytest.raises(ValueError, match="block must be one of 'basic', 'bottleneck'; got 'none'"):
        ResNet("none", (1,))
    with pytest.raises(ValueError, match="stem must be one of 'imagenet', 'small', 'wave'; got 'large'"):
        ResNet("basic", (1,), stem="large")
    with pytest.raises(ValueError, match="layers must have at least one stage; got none"):
        ResNet("basic", ())
    with pytest.raises(ValueError, match="dims must lie between 1 and 2; got 3"):
        ResNet("basic", (1,), dims=3)
    with pytest.raises(ValueError, match="width must be a multiple of the 3 heads; got 64"):
        ViT(32, 4, 64, 1, 3)
    with pytest.raises(ValueError, match="image_size must be a multiple of the patches' 5; got 32"):
        ViT(32, 5, 64, 1, 1)
    with pytest.raises(ValueError, match="pictures must have a height and width that are multiples .* 4; got 6 x 8"):
        ViT(8, 4, 16, 1, 1)(torch.zeros(1, 3, 6, 8))


def test_every_name_is_of_a_size():
    assert set(RESNETS) <= set(IMAGE_ENCODERS)
    assert set(IMAGE_ENCODERS) == set(PARAMETERS)


class Convolutional(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


class OfOneSize(nn.Module):
    def __init__(self, num_classes, img_size):
        super().__init__()
        self.linear = nn.Linear(3 * img_size**2, 7)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Maps(Convolutional):
    def forward(self, x):
        return self.conv(x)


@pytest.fixture
def timm(monkeypatch):
    models = {"convolutional": Convolutional, "one_size": OfOneSize, "maps": Maps}
    module = types.ModuleType("timm")
    module.is_model = models.__contains__
    module.create_model = lambda name, **given: models[name](**given)
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.parametrize(("name", "width"), [("convolutional", 5), ("one_size", 7)])
def test_timm_s_models_are_drawn_from_the_generator(timm, name, width):
    before = torch.get_rng_state()
    a, b, c = (image_encoder(f"timm:{name}", 8, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert a.width == width
    assert a(torch.zeros(2, 3, 8, 8)).shape == (2, width)
    weights = [next(iter(one.state_dict().values())) for one in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    again = ENCODERS["timm"](**json.loads(json.dumps(a.settings)))
    again.load_state_dict(a.state_dict())
    x = torch.ones(2, 3, 8, 8)
    assert torch.equal(again(x), a(x))


def test_timm_s_models_that_do_not_fit_are_refused(timm):
    with pytest.raises(ValueError, match="the encoder after 'timm:' must be a model that timm has; got 'hf-hub:a/b'"):
        image_encoder("timm:hf-hub:a/b", 8, seeded())
    with pytest.raises(
        ValueError, match="timm:maps must give one vector for each sample, .1, width.; got .1, 5, 6, 6."
    ):
        TimmEncoder("maps", 8)
    with pytest.raises(ValueError, match="width must be left out for timm's models; got 16"):
        image_encoder("timm:maps", 8, seeded(), width=16)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="Encoders timm:NAME need timm: pip install timm"):
        image_encoder("timm:resnet18", 32, seeded())


def test_the_width_of_any_module_is_found_and_nothing_of_it_changed():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 9))
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    assert output_width(module, torch.ones(2, 3, 2, 2)) == 9
    assert [one.training for one in module.modules()] == [True, True, False, True]
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())

    class Wrong(nn.Module):
        def forward(self, x):
            return {"features": x}

    with pytest.raises(ValueError, match="encoder must give one vector for each sample, .2, width.; got dict"):
        output_width(Wrong(), torch.ones(2, 3))

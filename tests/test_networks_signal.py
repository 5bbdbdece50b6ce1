"""Encoders of signals by name."""

import pytest
import torch

from vicreg.networks.resnet import ResNet
from vicreg.networks.signal import SIGNAL_ENCODERS, signal_encoder


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "shape"), [("resnet18-1d", (2, 3, 300)), ("resnet18-mel", (2, 3, 40, 50))])
def test_resnets_of_either_kind(name, shape):
    x = torch.randn(shape, generator=seeded())
    encoder = signal_encoder(name, 3, min(shape[2:]), seeded(), width=4).eval()
    again = signal_encoder(name, 3, min(shape[2:]), seeded(), width=4).eval()
    other = ResNet(**encoder.settings)
    other.load_state_dict(encoder.state_dict())
    assert encoder(x).shape == (2, encoder.width) == (2, 32)
    torch.testing.assert_close(encoder(x), again(x))
    torch.testing.assert_close(encoder(x), other.eval()(x))
    assert encoder.settings["stem"] == "imagenet"
    assert signal_encoder(name, 1, 32, seeded(), width=4).settings["stem"] == "small"
    assert signal_encoder(name, 1, 500, seeded()).width == 512


def test_long_signals_lose_most_of_their_resolution_in_the_stem():
    encoders = {size: signal_encoder("resnet18-1d", 1, size, seeded(), width=4).eval() for size in (4096, 4097)}
    assert [encoder.settings["stem"] for encoder in encoders.values()] == ["imagenet", "wave"]
    x = torch.randn(2, 1, 8000, generator=seeded())
    assert [encoder.maps(x).shape for encoder in encoders.values()] == [(2, 32, 250), (2, 32, 63)]
    assert signal_encoder("resnet18-mel", 1, 5000, seeded(), width=4).settings["stem"] == "imagenet"
    stem = encoders[4097]
    by_hand = torch.nn.functional.conv1d(x, stem.conv1.weight[:, :, 0], stride=4, padding=40)
    torch.testing.assert_close(stem.conv1(x[:, :, None])[:, :, 0], by_hand)


def test_names():
    assert {"resnet18-1d", "resnet18-mel"} <= set(SIGNAL_ENCODERS)
    with pytest.raises(ValueError, match="encoder must be one of 'resnet18-1d', 'resnet18-mel'"):
        signal_encoder("resnet18", 1, 100, seeded())
    with pytest.raises(ValueError, match="channels must be at least 1; got 0"):
        signal_encoder("resnet18-1d", 0, 100, seeded())

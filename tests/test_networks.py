"""Encoders, expanders, branches."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from vicreg.networks import Branch, JointEmbedding, TableEncoder, drawn, expander, initialise, perceptron
from vicreg.training.config import TableConfig
from vicreg.training.table import whitened_pca


def seeded():
    return torch.Generator().manual_seed(0)


def test_the_encoder_starts_at_whitened_pca():
    x = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 8.0))
    encoder = TableEncoder(7, 3)
    projection, offset = whitened_pca(x.numpy(), 3)
    encoder.start_at(torch.from_numpy(projection), torch.from_numpy(offset), seeded())
    expected = torch.from_numpy(PCA(3, whiten=True).fit_transform(x.numpy()))
    with torch.no_grad():
        h = encoder.eval()(x)
    torch.testing.assert_close(h.abs(), expected.abs(), atol=1e-4, rtol=1e-4)


def test_components_beyond_the_rank_start_small_but_not_at_zero():
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat((x, x), 1)
    projection, offset = whitened_pca(x.numpy(), 4)
    assert projection.shape == (2, 4)
    encoder = TableEncoder(4, 6)
    encoder.start_at(torch.from_numpy(projection), torch.from_numpy(offset), seeded())
    beyond = encoder.linear.weight[2:]
    assert 0 < float(beyond.detach().abs().max()) < 0.1


def test_the_earliest_form_is_one_dense_layer_and_a_relu():
    encoder = TableEncoder(5, None, hidden=(50,), linear_path=False, norm=False)
    assert encoder.width == 50
    (name, weight), (other, bias) = encoder.state_dict().items()
    assert (name, other) == ("hidden.0.weight", "hidden.0.bias")
    x = torch.randn(20, 5, generator=seeded())
    expected = np.maximum(x.numpy() @ weight.numpy().T + bias.numpy(), 0)
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_encoders_defaults_are_those_of_the_settings():
    given = {name: one.default for name, one in inspect.signature(TableEncoder).parameters.items()}
    config = TableConfig()
    expected = (config.n_components, config.encoder, config.linear_path, config.encoder_norm)
    assert (given["n_components"], given["hidden"], given["linear_path"], given["norm"]) == expected


def make():
    return perceptron(7, (16, 8), 3)


def test_a_drawn_network_is_pytorch_s_own_from_that_seed():
    torch.manual_seed(4)
    expected = make().state_dict()
    before = torch.get_rng_state()
    network = drawn(make, torch.Generator().manual_seed(4))
    assert torch.equal(before, torch.get_rng_state())
    assert list(expected) == list(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_networks_drawn_at_the_same_time_are_equal():
    with ThreadPoolExecutor(4) as threads:
        networks = list(threads.map(lambda _: drawn(make, seeded()).state_dict(), range(40)))
    for network in networks:
        assert all(torch.equal(value, networks[0][name]) for name, value in network.items())


def test_a_layer_that_cannot_be_drawn_is_refused():
    with pytest.raises(TypeError, match="a layer must be linear, a convolution or a norm to be drawn, .*; got PReLU"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), seeded())


@pytest.mark.parametrize(("hidden", "linear_path"), [((), True), ((8,), True), ((8, 8), False)])
def test_every_form_maps_rows_to_representations(hidden, linear_path):
    encoder = TableEncoder(5, 3, hidden=hidden, linear_path=linear_path)
    assert encoder(torch.randn(4, 5)).shape == (4, 3)
    again = TableEncoder(**encoder.settings)
    again.load_state_dict(encoder.state_dict())


def test_an_encoder_without_any_path_is_refused():
    with pytest.raises(ValueError, match="encoder must have hidden layers or a linear path; got neither"):
        TableEncoder(5, 3, hidden=(), linear_path=False)
    with pytest.raises(ValueError, match="n_components must be a number"):
        TableEncoder(5, None)


def test_one_branch_is_shared_and_two_are_not():
    make = lambda: Branch(nn.Linear(3, 2), expander(2, (4, 4)))  # noqa: E731
    views = (torch.ones(5, 3), torch.ones(5, 3))
    shared = JointEmbedding([make()]).eval()(views)
    assert torch.equal(shared.h[0], shared.h[1])
    separate = JointEmbedding([make(), make()]).eval()(views)
    assert not torch.equal(separate.h[0], separate.h[1])
    with pytest.raises(ValueError, match="views must be 2, one for each branch; got 3"):
        JointEmbedding([make(), make()])((*views, views[0]))


def test_the_decoder_sees_every_representation():
    joint = JointEmbedding([Branch(nn.Identity(), nn.Identity())], nn.Linear(3, 7))
    out = joint((torch.ones(5, 3), torch.zeros(5, 3)))
    assert [one.shape for one in out.decoded] == [(5, 7), (5, 7)]

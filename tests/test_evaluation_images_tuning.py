"""Fine-tuning, the online probe and the readings of an epoch, against torch's own modules."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from vicreg.evaluation import (
    FineTuning,
    OnlineLinear,
    epoch_readings,
    fine_tuned,
    labelled_share,
    published_settings,
)
from vicreg.functional import spectrum

X, Y = load_digits(return_X_y=True)
X, Y = torch.from_numpy(X).float() / 16, torch.from_numpy(Y)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU())


def batches(epoch):
    order = torch.randperm(200, generator=torch.Generator().manual_seed(epoch))
    return [(X[part], Y[part]) for part in order.split(50)]


def test_fine_tuning_is_torchs_sgd_in_two_groups():
    settings = FineTuning(epochs=3, encoder_rate=0.03, head_rate=0.3)
    found = fine_tuned(encoder(), 12, batches, 10, settings, seed=4)

    first = fine_tuned(encoder(), 12, batches, 10, FineTuning(1, 0.0, 0.0), seed=4)[1]
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not first.bias.any()
    model = nn.Sequential(encoder(), copy.deepcopy(first)).train()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.03}, {"params": model[1].parameters(), "lr": 0.3}], momentum=0.9
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for epoch in range(3):
        for x, y in batches(epoch):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        schedule.step()
    assert not found.training
    torch.testing.assert_close(found(X), model.eval()(X))


def test_the_given_encoder_stays_as_it_is():
    given = encoder().requires_grad_(False).eval()
    before = copy.deepcopy(given.state_dict())
    tuned = fine_tuned(given, 12, batches, 10, FineTuning(1, 0.1, 0.1))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert not given.training
    assert not given[0].weight.requires_grad
    assert not torch.equal(tuned[0][0].weight, given[0].weight)  # a frozen encoder is tuned all the same


def test_a_tenth_of_the_labels_teaches_most_of_the_digits():
    rows = torch.from_numpy(labelled_share(Y, 0.1))

    def epoch_of(epoch):
        order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))]
        return [(X[part], Y[part]) for part in order.split(60)]

    others = np.setdiff1d(np.arange(len(Y)), rows)
    tuned = fine_tuned(encoder(), 12, epoch_of, 10, FineTuning(60, 0.03, 0.1))
    with torch.no_grad():
        assert (tuned(X[others]).argmax(1) == Y[others]).float().mean() > 0.85


def test_the_labelled_share_is_stratified_nested_and_leaves_no_class_out():
    labels = np.array(["a"] * 1000 + ["b"] * 200 + ["c"] * 3)
    one, ten = labelled_share(labels, 0.01), labelled_share(labels, 0.1)
    assert [int((labels[one] == name).sum()) for name in "abc"] == [10, 2, 1]
    assert [int((labels[ten] == name).sum()) for name in "abc"] == [100, 20, 1]
    assert set(one) <= set(ten)
    assert set(labelled_share(labels, 0.01, seed=1)) != set(one)
    assert len(labelled_share(labels, 1.0)) == len(labels)


def test_settings_are_those_of_the_nearest_published_share():
    assert published_settings(0.02, 10**6) == published_settings(0.01, 10**6) == FineTuning(20, 0.03, 0.08)
    assert published_settings(1.0, 10**6) == published_settings(0.1, 10**6) == FineTuning(20, 0.01, 0.1)
    assert published_settings(0.01, 600).epochs * math.ceil(600 / 256) >= 1000


TUNING = FineTuning(1, 0.1, 0.1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: fine_tuned(encoder(), 11, batches, 10, TUNING),
            r"encoder's output must have shape \(50, 11\); got \(50, 12\)",
        ),
        (
            lambda: fine_tuned(encoder(), 12, lambda epoch: [], 10, TUNING),
            "batches must hold rows to tune with; got none in epoch 0",
        ),
        (
            lambda: fine_tuned(encoder(), 12, lambda epoch: [(X[:1], Y[:1])], 10, TUNING),
            "batch must have at least 2 rows; got 1",
        ),
        (lambda: fine_tuned(encoder(), 12, batches, 1, TUNING), "classes must be at least 2"),
        (lambda: fine_tuned(nn.Flatten(), 64, batches, 10, TUNING), "encoder must have parameters to tune"),
        (lambda: labelled_share(Y, 0), "share must be a finite number above 0 and at most 1"),
        (lambda: published_settings(2, 10), "share must be a finite number above 0 and at most 1"),
    ],
)
def test_fine_tuning_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def stream(steps=30):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(len(X), (64,), generator=generator)
        yield X[rows], Y[rows]


def test_the_online_probe_is_batch_norm_and_a_linear_layer_that_answers_before_it_learns():
    probe = OnlineLinear(64, 10, rate=0.1, seed=2)
    norm, layer = nn.BatchNorm1d(64, affine=False), nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(probe.tensors()["weight"])
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, weight_decay=1e-6)
    right = seen = 0
    for h, labels in stream():
        logits = layer(norm(h))
        right, seen = right + int((logits.argmax(1) == labels).sum()), seen + len(h)
        optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        optimizer.step()
        accuracy = probe.step(h, labels)
        assert float(accuracy) == pytest.approx(right / seen)
    held_out = layer(norm.eval()(X)).detach()
    torch.testing.assert_close(probe.logits(X), held_out, rtol=1e-3, atol=1e-3)
    assert accuracy > 0.6
    probe.restart()
    assert probe.accuracy() == 0
    assert probe.step(h, labels) > accuracy  # learned is learned


def test_the_online_probe_stops_the_gradient():
    h = X[:32].clone().requires_grad_()
    accuracy = OnlineLinear(64, 10).step(h * 2, Y[:32])
    assert h.grad is None
    assert not accuracy.requires_grad


def test_the_online_probe_resumes_bit_by_bit():
    whole = OnlineLinear(64, 10, seed=1)
    for h, labels in stream():
        expected = whole.step(h, labels)
    half, resumed = OnlineLinear(64, 10, seed=1), OnlineLinear(64, 10, seed=9)
    parts = list(stream())
    for h, labels in parts[:11]:
        half.step(h, labels)
    saved = half.tensors()
    half.step(*parts[0])  # what is saved does not move with the probe
    resumed.restore(saved)
    for h, labels in parts[11:]:
        found = resumed.step(h, labels)
    assert torch.equal(found, expected)
    assert all(torch.equal(tensor, resumed.tensors()[name]) for name, tensor in whole.tensors().items())


def test_the_online_probe_works_in_float32_under_autocast():
    plain, half = OnlineLinear(64, 10), OnlineLinear(64, 10)
    for h, labels in stream(5):
        plain.step(h.bfloat16().float(), labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half.step(h.bfloat16(), labels)
    assert torch.equal(plain.tensors()["weight"], half.tensors()["weight"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda probe: probe.step(X[:, :3], Y), r"h must have shape \(b, 64\), b >= 2; got \(1797, 3\)"),
        (lambda probe: probe.step(X[:1], Y[:1]), r"h must have shape \(b, 64\), b >= 2; got \(1, 64\)"),
        (lambda probe: probe.step(X[:5], Y), r"labels must have shape \(5,\); got \(1797,\)"),
        (lambda probe: probe.restore({}), "online probe's state must be 'weight', .*; got "),
        (
            lambda probe: probe.restore(OnlineLinear(64, 9).tensors()),
            r"weight must have shape \(10, 64\); got \(9, 64\)",
        ),
        (lambda probe: OnlineLinear(64, 1), "classes must be at least 2"),
        (lambda probe: OnlineLinear(64, 2, rate=0), "rate must be a finite number above 0"),
    ],
)
def test_the_online_probe_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call(OnlineLinear(64, 10))


def test_readings_of_an_epoch_are_plain_and_those_of_the_functions():
    h = normal(400, 20) * torch.arange(1, 21)
    found = epoch_readings(h)
    assert json.loads(json.dumps(found)) == found
    assert found["rankme"] == spectrum.rankme(h).item()
    assert found["alpha_req"] == spectrum.alpha_req(h).item()
    assert found["participation_ratio"] == spectrum.participation_ratio(h).item()
    assert found["dead_dimensions"] == 0
    assert found["deviation"] == pytest.approx(h.double().std(0).mean().item())
    collapsed = epoch_readings(torch.ones(10, 4))
    assert collapsed["rankme"] == 0
    assert collapsed["dead_dimensions"] == 4
    assert math.isnan(collapsed["alpha_req"])

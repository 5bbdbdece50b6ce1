"""Alignment and uniformity: against loops, closed forms, and points whose answer is known."""

import math

import pytest
import torch
from scipy.special import ive

from vicreg.functional import alignment, sphere, uniformity


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(row):
    return row / math.sqrt(float(row @ row))


@pytest.mark.parametrize(("n", "d"), [(7, 3), (2, 1), (5, 20)])
def test_loops_give_the_same(n, d, monkeypatch):
    monkeypatch.setattr(sphere, "BLOCK", 3)
    a, b = normal(n, d) * 3 + 1, normal(n, d, seed=1)
    for alpha in (1.0, 2.0, 3.5):
        by_loop = sum(math.dist(unit(a[i]), unit(b[i])) ** alpha for i in range(n)) / n
        assert alignment(a, b, alpha).item() == pytest.approx(by_loop)
    for t in (0.5, 2.0):
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        mean = sum(math.exp(-t * math.dist(unit(a[i]), unit(a[j])) ** 2) for i, j in pairs) / len(pairs)
        assert uniformity(a, t).item() == pytest.approx(math.log(mean))


def test_known_points():
    rows = normal(40, 6)
    assert alignment(rows, 5 * rows).item() == pytest.approx(0, abs=1e-12)
    assert alignment(rows, -rows).item() == pytest.approx(4)
    assert uniformity(torch.ones(9, 4)).item() == pytest.approx(0, abs=1e-6)
    simplex = torch.eye(5, dtype=torch.float64) - 0.2  # five points as far apart as can be
    assert uniformity(simplex).item() == pytest.approx(-2 * 2 * 5 / 4)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_uniformity_of_the_uniform_distribution(d):
    """E exp(4 <x, y>) over the sphere is a Bessel function: exp(-4) times it is the mean potential at t = 2."""
    order = d / 2 - 1
    expected = math.log(math.gamma(d / 2) * (2 / 4) ** order * ive(order, 4.0))
    assert uniformity(normal(4000, d)).item() == pytest.approx(expected, rel=0.01)


def test_random_views_are_two_apart_and_have_no_graph():
    a, b = normal(4000, 50).half().requires_grad_(), normal(4000, 50, seed=1).half()
    assert alignment(a, b).item() == pytest.approx(2, rel=0.01)
    for reading in (alignment(a, b), uniformity(a)):
        assert reading.dtype == torch.float32
        assert not reading.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda z: alignment(z, z[:2]), ValueError, "z_a and z_b must have the same shape"),
        (lambda z: alignment(z, None), TypeError, "z_b must be a torch.Tensor; got NoneType"),
        (lambda z: alignment(z, z, alpha=0), ValueError, "alpha must be a finite number above 0"),
        (lambda z: uniformity(z, t=-1), ValueError, "t must be a finite number above 0"),
        (lambda z: uniformity(z[:1]), ValueError, r"z must have at least 2 rows; got shape \(1, 3\)"),
        (lambda z: uniformity(z[:, None]), ValueError, r"z must have shape \(n, d\)"),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error, match=words):
        call(normal(4, 3))

"""The definitions: against slow loops, closed forms and the symmetries that the terms have."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vicreg.functional import terms


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def slow_variance(z, target, eps, form):
    total = 0.0
    for column in zip(*z, strict=True):
        mean = sum(column) / len(column)
        var = sum((value - mean) ** 2 for value in column) / (len(column) - 1)
        total += max(0.0, target - (math.sqrt(var + eps) if form == "std" else var))
    return total / len(z[0])


def slow_covariance(z):
    n, d = len(z), len(z[0])
    means = [sum(row[j] for row in z) / n for j in range(d)]
    total = 0.0
    for i, j in itertools.permutations(range(d), 2):
        entry = sum((row[i] - means[i]) * (row[j] - means[j]) for row in z) / (n - 1)
        total += entry**2
    return total / d


def slow_u_statistic(z):
    """The mean, over all ordered quadruples of rows, of the kernel of sum_{i != j} Sigma_ij^2."""
    n, d = len(z), len(z[0])
    total = 0.0
    for p, q, r, s in itertools.permutations(range(n), 4):
        for i, j in itertools.permutations(range(d), 2):
            first = (z[p][i] - z[q][i]) * (z[p][j] - z[q][j])
            second = (z[r][i] - z[s][i]) * (z[r][j] - z[s][j])
            total += first * second / 4
    return total / math.perm(n, 4) / d


@pytest.mark.parametrize(("n", "d"), [(2, 1), (5, 3), (3, 7)])
@pytest.mark.parametrize("form", ["std", "var"])
def test_slow_loops(n, d, form):
    z_a, z_b = normal(n, d), normal(n, d, seed=1)
    a, b = z_a.tolist(), z_b.tolist()
    gaps = [(x - y) ** 2 for row, other in zip(a, b, strict=True) for x, y in zip(row, other, strict=True)]
    assert terms.invariance(z_a, z_b).item() == pytest.approx(sum(gaps) / (n * d), rel=1e-12)
    assert terms.invariance(z_a, z_b, per="row").item() == pytest.approx(sum(gaps) / n, rel=1e-12)
    expected = slow_variance(a, 1.3, 0.01, form)
    assert terms.variance(z_a, target=1.3, eps=0.01, form=form).item() == pytest.approx(expected, rel=1e-12)
    assert terms.covariance(z_a).item() == pytest.approx(slow_covariance(a), rel=1e-12, abs=1e-15)


def test_covariance_against_numpy():
    z = normal(20, 9)
    matrix = np.cov(z.numpy(), rowvar=False)
    expected = (matrix**2).sum() - (np.diag(matrix) ** 2).sum()
    assert terms.covariance(z).item() == pytest.approx(expected / 9, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(4, 2), (5, 3), (6, 2)])
def test_the_unbiased_estimator_is_the_u_statistic_of_order_four(n, d):
    z = normal(n, d) ** 3
    assert terms.covariance(z, "unbiased").item() == pytest.approx(slow_u_statistic(z.tolist()), rel=1e-9)


def test_the_unbiased_estimator_is_zero_on_average_on_white_data_and_the_plugin_is_not():
    draws = normal(2000, 8, 16)
    unbiased = torch.stack([terms.covariance(z, "unbiased") for z in draws])
    plugin = torch.stack([terms.covariance(z) for z in draws])
    assert abs(unbiased.mean()) < 4 * unbiased.std() / math.sqrt(2000)
    assert plugin.mean().item() == pytest.approx(15 / 7, rel=0.02)


def test_local_features_are_the_mean_over_locations():
    z_a, z_b = normal(6, 4, 5), normal(6, 4, 5, seed=1)
    for estimator in ("plugin", "unbiased"):
        each = [terms.covariance(z_a[:, t], estimator) for t in range(4)]
        torch.testing.assert_close(terms.covariance(z_a, estimator), torch.stack(each).mean())
    each = [terms.variance(z_a[:, t]) for t in range(4)]
    torch.testing.assert_close(terms.variance(z_a), torch.stack(each).mean())
    for per in ("element", "row"):
        each = [terms.invariance(z_a[:, t], z_b[:, t], per) for t in range(4)]
        torch.testing.assert_close(terms.invariance(z_a, z_b, per), torch.stack(each).mean())


@given(n=st.integers(2, 9), d=st.integers(1, 9), seed=st.integers(0, 2**31), shift=st.floats(-100, 100))
def test_order_and_offset_do_not_matter(n, d, seed, shift):
    z, other = normal(n, d, seed=seed), normal(n, d, seed=seed + 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    columns = torch.randperm(d, generator=torch.Generator().manual_seed(seed))
    for term in (terms.variance, terms.covariance):
        value = term(z)
        for changed in (z[order], z[:, columns], z + shift * torch.arange(d), -z):
            torch.testing.assert_close(term(changed), value, rtol=1e-8, atol=1e-10)
    moved = terms.invariance(z[order] + shift, other[order] + shift)
    torch.testing.assert_close(moved, terms.invariance(z, other), rtol=1e-8, atol=1e-10)


@given(n=st.integers(2, 9), d=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_rotation_leaves_invariance_and_all_squared_covariances(n, d, seed):
    z, other = normal(n, d, seed=seed), normal(n, d, seed=seed + 1)
    rotation = torch.linalg.qr(normal(d, d, seed=seed + 2)).Q
    turned = z @ rotation
    torch.testing.assert_close(terms.invariance(turned, other @ rotation), terms.invariance(z, other))
    whole, turned_whole = (d * terms.covariance(x) + x.var(dim=0).square().sum() for x in (z, turned))
    torch.testing.assert_close(turned_whole, whole)


def test_gradients_twice_differentiable():
    z_a, z_b = normal(5, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    functions = [
        terms.variance,
        lambda z: terms.variance(z, target=2.0, form="var"),
        terms.covariance,
        lambda z: terms.covariance(z, "unbiased"),
    ]
    for function in functions:
        assert torch.autograd.gradcheck(function, (z_a,))
        assert torch.autograd.gradgradcheck(function, (z_a,))
    assert torch.autograd.gradgradcheck(terms.invariance, (z_a, z_b))


def test_the_gradient_of_var_dies_on_the_way_to_collapse_and_that_of_std_does_not():
    sizes = {}
    for form in ("std", "var"):
        for deviation in (1e-1, 1e-2):
            z = (normal(64, 8) * deviation).requires_grad_()
            terms.variance(z, form=form).backward()
            sizes[form, deviation] = z.grad.norm().item()
    assert sizes["var", 1e-2] == pytest.approx(sizes["var", 1e-1] / 10, rel=1e-6)
    assert sizes["std", 1e-2] > 0.6 * sizes["std", 1e-1]


def test_half_precision_is_widened():
    z = normal(32, 8, dtype=torch.float16) * 100
    assert terms.covariance(z).dtype == torch.float32
    torch.testing.assert_close(terms.covariance(z).double(), terms.covariance(z.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: terms.variance([1.0]), TypeError, r"z must be a torch.Tensor; got list"),
        (
            lambda: terms.variance(torch.ones(3, 2, dtype=torch.long)),
            TypeError,
            r"z must be of a floating type; got torch.int64",
        ),
        (lambda: terms.variance(torch.ones(3)), ValueError, r"z must have shape \(n, d\) or \(n, t, d\); got \(3,\)"),
        (lambda: terms.variance(torch.ones(1, 3)), ValueError, r"z must have at least 2 rows; got shape \(1, 3\)"),
        (lambda: terms.variance(torch.ones(3, 0)), ValueError, r"z must have no empty dimension; got shape \(3, 0\)"),
        (
            lambda: terms.variance(torch.ones(3, 2), form="sd"),
            ValueError,
            r"form must be one of 'std', 'var'; got 'sd'",
        ),
        (lambda: terms.covariance(torch.ones(3, 2), "unbiased"), ValueError, r"z must have at least 4 rows"),
        (lambda: terms.covariance(torch.ones(3, 2), "u"), ValueError, r"estimator must be one of 'plugin', 'unbiased'"),
        (
            lambda: terms.invariance(torch.ones(64, 128), torch.ones(64, 256)),
            ValueError,
            r"z_a and z_b must have the same shape; got \(64, 128\) and \(64, 256\)\.",
        ),
        (
            lambda: terms.invariance(torch.ones(2, 2), torch.ones(2, 2), "column"),
            ValueError,
            r"per must be one of 'element', 'row'",
        ),
        (
            lambda: terms.per_view("std_coeff", (1.0, 2.0), 3),
            ValueError,
            r"std_coeff must be one number, or one for each of 3 views; got \(1.0, 2.0\)",
        ),
        (
            lambda: terms.check_coefficients("std_coeff", (1.0, -2.0)),
            ValueError,
            r"std_coeff\[1\] must be a finite number of at least 0; got -2.0",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()


@settings(max_examples=100)
@given(shape=st.lists(st.integers(0, 4), max_size=4), dtype=st.sampled_from([torch.float32, torch.int64, torch.bool]))
def test_any_shape_gives_a_number_or_a_message(shape, dtype):
    z = torch.ones(shape).to(dtype)
    for term in (terms.variance, terms.covariance):
        try:
            assert term(z).isfinite()
        except (TypeError, ValueError) as error:
            assert str(error).startswith("z must ")

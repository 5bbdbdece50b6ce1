"""The unbiased covariance term: right on average whatever the distribution, in value and in gradient."""

import itertools
import math

import pytest
import torch

from vicreg.functional import spectrum, terms
from vicreg.functional.fused import Formula, evaluate


def normal(draw, *shape):
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def skewed(draw, *shape):
    return torch.empty(*shape, dtype=torch.float64).exponential_(generator=draw) - 1


def heavy(draw, *shape):
    """Student's t with 7 degrees of freedom, of variance 1: kurtosis 5, no eighth moment."""
    squares = torch.stack([normal(draw, *shape).square() for _ in range(7)]).mean(dim=0)
    return normal(draw, *shape) / squares.sqrt() * math.sqrt(5 / 7)


def coins(draw, *shape):
    return torch.randint(2, shape, generator=draw).double() * 2 - 1


def long_and_short_rows(draw, *shape):
    """Columns that are uncorrelated, but not independent."""
    return normal(draw, *shape) * (0.8 + 0.6 * coins(draw, *shape[:-1], 1))


INDEPENDENT = [normal, skewed, heavy, coins]
SHAPES = [(12, 6), (6, 12), (4, 5)]  # dense, Gram, and the fewest rows there may be


def fused_covariance(z, estimator="unbiased"):
    return evaluate(Formula(covariance=(1.0,), estimator=estimator), [z]).total


def stacks(sample, seed, n, d):
    """200 times 10 samples of n rows; the terms take the mean over the 10."""
    return sample(torch.Generator().manual_seed(seed), 200, n, 10, d)


def assert_on_average(values, expected, errors=4.0):
    values = torch.stack(list(values))
    mean, error = values.mean(dim=0), values.std(dim=0) / math.sqrt(len(values))
    assert ((mean - expected).abs() <= errors * error).all(), (mean, error, expected)


def assert_above_on_average(values, other):
    """That the samples are enough to see a bias."""
    gaps = torch.stack(list(values)) - torch.stack(list(other))
    assert gaps.mean() > 5 * gaps.std() / math.sqrt(len(gaps))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sample", [*INDEPENDENT, long_and_short_rows])
def test_zero_on_average_where_columns_are_uncorrelated(sample, shape):
    scales = torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    draws = stacks(sample, 7, *shape) * scales + 3
    unbiased = [fused_covariance(z) for z in draws]
    assert_on_average(unbiased, 0)
    assert_on_average((terms.covariance(z, "unbiased") for z in draws), 0)
    assert_above_on_average((fused_covariance(z, "plugin") for z in draws), unbiased)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sample", INDEPENDENT)
def test_what_people_read_is_less_its_noise_floor_whatever_the_distribution(sample, shape):
    scales = torch.linspace(0.5, 2, shape[1], dtype=torch.float64)
    draws = stacks(sample, 8, *shape)[:, :, :5].transpose(1, 2).flatten(0, 1) * scales
    assert_on_average((spectrum.off_diagonal(z) for z in draws), spectrum.noise_floor(scales.square(), shape[0]))
    assert_on_average((spectrum.excess_covariance(z) for z in draws), 0)


def mixing(d):
    return normal(torch.Generator().manual_seed(d), d, d) / math.sqrt(d)


def population(mix):
    """The covariance term of mix @ e with e white."""
    sigma = mix @ mix.T
    return (sigma.square().sum() - sigma.diagonal().square().sum()) / len(mix)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sample", INDEPENDENT)
def test_the_population_s_value_on_average_where_columns_are_correlated(sample, shape):
    mix = mixing(shape[1])
    draws = stacks(sample, 9, *shape) @ mix.T - 1
    unbiased = [fused_covariance(z) for z in draws]
    assert_on_average(unbiased, population(mix))
    assert_above_on_average((fused_covariance(z, "plugin") for z in draws), unbiased)


@pytest.mark.parametrize("sample", [normal, skewed])
def test_the_gradient_of_a_layer_is_the_population_s_on_average(sample):
    """What training sees. The plug-in's pulls inwards even where there is nothing to decorrelate."""
    mix = mixing(4).requires_grad_()
    draws = stacks(sample, 10, 8, 4)

    def gradients(estimator):
        return [torch.autograd.grad(fused_covariance(x @ mix.T, estimator), mix)[0] for x in draws]

    (expected,) = torch.autograd.grad(population(mix), mix)
    unbiased = gradients("unbiased")
    assert_on_average(unbiased, expected, errors=4.5)  # of 16 entries
    inwards = [[(gradient * mix.detach()).sum() for gradient in found] for found in (gradients("plugin"), unbiased)]
    assert_above_on_average(*inwards)


@pytest.mark.parametrize(("n", "d"), [(4, 3), (6, 3), (5, 8)])
def test_value_and_gradient_are_those_of_all_quadruples_of_rows(n, d):
    """With products of raw rows, E[xi xj] E[xi xj] - 2 E[xi xj] E[xi] E[xj] + E[xi] E[xj] E[xi] E[xj], each expectation
    from a row of its own: no mean is subtracted anywhere."""
    z = (skewed(torch.Generator().manual_seed(n), n, d) + 0.5).requires_grad_()
    one, two, three, four = (z[list(rows)] for rows in zip(*itertools.permutations(range(n), 4), strict=True))

    def without_equal_columns(left, right):
        return (left.sum(dim=1) * right.sum(dim=1) - (left * right).sum(dim=1)).mean()

    slow = without_equal_columns(one * two, one * two) - 2 * without_equal_columns(one * two, one * three)
    slow = (slow + without_equal_columns(one * three, two * four)) / d
    (expected,) = torch.autograd.grad(slow, z)
    found = fused_covariance(z)
    (gradient,) = torch.autograd.grad(found, z)
    torch.testing.assert_close(found, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(9, 4), (5, 11)])
def test_of_degree_four_in_scale(shape):
    """Euler: the derivative along z itself is four times the value, so it vanishes on average on white data."""
    z = heavy(torch.Generator().manual_seed(11), *shape).requires_grad_()
    value = fused_covariance(z)
    (gradient,) = torch.autograd.grad(value, z)
    torch.testing.assert_close((gradient * z).sum(), 4 * value, rtol=1e-10, atol=1e-10)

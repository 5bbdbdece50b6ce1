"""The readings: against numpy, closed forms, and embeddings whose answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import eigh

from vicreg.functional import spectrum


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (9, 9), (2, 1)])
def test_numpy_gives_the_same(shape, monkeypatch):
    monkeypatch.setattr(spectrum, "BLOCK", 4)
    z = normal(*shape) * torch.arange(1, shape[1] + 1) + 3
    x, (n, d) = z.numpy(), shape
    centred = x - x.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    eigen = np.sort(np.linalg.eigvalsh(np.cov(x, rowvar=False).reshape(d, d)))[::-1]
    share = values[values > 1e-9] / values.sum()
    off = np.cov(x, rowvar=False).reshape(d, d)
    correlation = np.corrcoef(x, rowvar=False).reshape(d, d) if n > 2 else np.eye(d)
    oracle = {
        spectrum.standard_deviation: x.std(axis=0, ddof=1),
        spectrum.singular_values: values,
        spectrum.covariance_spectrum: eigen[: min(n, d)],
        spectrum.rankme: math.exp(-(share * np.log(share)).sum()),
        spectrum.participation_ratio: eigen.sum() ** 2 / (eigen**2).sum(),
        spectrum.off_diagonal: ((off**2).sum() - (np.diag(off) ** 2).sum()) / d,
        spectrum.mean_correlation: (np.abs(correlation).sum() - d) / max(d * (d - 1), 1),
    }
    for function, expected in oracle.items():
        np.testing.assert_allclose(function(z).numpy(), expected, rtol=1e-9, atol=1e-9, err_msg=function.__name__)


def test_ranks_of_known_embeddings():
    flat = torch.linalg.qr(normal(64, 9))[0]
    flat = torch.linalg.qr(flat - flat.mean(dim=0))[0]  # nine orthonormal columns without mean
    assert spectrum.rankme(flat).item() == pytest.approx(9)
    assert spectrum.participation_ratio(flat).item() == pytest.approx(9)
    line = normal(64, 1) @ normal(1, 9)
    assert spectrum.rankme(line).item() == pytest.approx(1, abs=1e-6)
    assert spectrum.participation_ratio(line).item() == pytest.approx(1)
    assert spectrum.mean_correlation(line).item() == pytest.approx(1)


def test_an_offset_that_all_rows_share_does_not_lower_the_rank():
    z = normal(256, 16)
    assert spectrum.rankme(z + 1000).item() == pytest.approx(spectrum.rankme(z).item(), rel=1e-9)
    uncentred = torch.linalg.svdvals(z + 1000)
    assert torch.special.entr(uncentred / uncentred.sum()).sum().exp() < 2


def test_complete_collapse():
    z = torch.arange(1.0, 9.0).repeat(16, 1)
    assert spectrum.dead_dimensions(z).item() == 8
    for reading in (
        spectrum.rankme,
        spectrum.participation_ratio,
        spectrum.mean_correlation,
        spectrum.excess_covariance,
    ):
        assert reading(z).item() == 0


def test_dead_dimensions_by_threshold():
    z = normal(500, 4) * torch.tensor([1.0, 0.005, 0.2, 0.0])
    assert spectrum.dead_dimensions(z).item() == 2
    assert spectrum.dead_dimensions(z, threshold=0.3).item() == 3
    assert spectrum.dead_dimensions(z, threshold=0).item() == 1


def test_the_noise_floor_is_the_mean_of_white_noise():
    scales = torch.arange(1, 13) / 6.0
    draws = normal(3000, 9, 12) * scales
    mean = torch.stack([spectrum.off_diagonal(z) for z in draws]).mean().item()
    assert spectrum.noise_floor(scales.double().square(), 9).item() == pytest.approx(mean, rel=0.02)
    assert spectrum.noise_floor(torch.ones(8192), 256).item() == pytest.approx(8191 / 255)


def test_excess_covariance_sees_what_is_above_the_floor():
    z = normal(4000, 20)
    assert abs(spectrum.excess_covariance(z).item()) < 1e-3
    shared = z + 0.5 * normal(4000, 1, seed=1)  # covariance 1/4 between any two columns
    assert spectrum.excess_covariance(shared).item() == pytest.approx(19 / 16, rel=0.1)


def test_correlation_of_white_noise():
    assert spectrum.mean_correlation(normal(400, 300)).item() == pytest.approx(math.sqrt(2 / (math.pi * 400)), rel=0.02)


@given(
    n=st.integers(2, 12), d=st.integers(1, 12), scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e6]), seed=st.integers(0, 999)
)
def test_bounds_whatever_the_scale(n, d, scale, seed):
    z = (normal(n, d, seed=seed) * scale).float()
    most = min(n - 1, d) * (1 + 1e-4)
    assert 1 - 1e-4 <= spectrum.rankme(z).item() <= most
    assert 1 - 1e-4 <= spectrum.participation_ratio(z).item() <= most
    assert 0 <= spectrum.mean_correlation(z).item() <= 1 + 1e-5


def test_half_precision_and_graphs():
    z = normal(32, 8).half().requires_grad_()
    for reading in (
        spectrum.rankme,
        spectrum.participation_ratio,
        spectrum.mean_correlation,
        spectrum.excess_covariance,
    ):
        assert reading(z).dtype == torch.float32
        assert not reading(z).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: spectrum.rankme(torch.ones(1, 3)), ValueError, r"z must have at least 2 rows; got shape \(1, 3\)"),
        (lambda: spectrum.rankme(torch.ones(2, 2, 2)), ValueError, r"z must have shape \(n, d\); got \(2, 2, 2\)"),
        (lambda: spectrum.rankme(torch.ones(2, 2).int()), TypeError, r"z must be of a floating type; got torch.int32"),
        (lambda: spectrum.rankme(None), TypeError, r"z must be a torch.Tensor; got NoneType"),
        (
            lambda: spectrum.dead_dimensions(torch.ones(2, 2), -1),
            ValueError,
            r"threshold must be a finite number of at least 0",
        ),
        (lambda: spectrum.noise_floor(torch.ones(3), 1), ValueError, r"n must be at least 2; got 1"),
        (
            lambda: spectrum.noise_floor(torch.ones(3, 3), 5),
            ValueError,
            r"variances must have shape \(d,\); got \(3, 3\)",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()


def power_law(alpha, rows=400, columns=150):
    """An embedding whose covariance has the eigenvalues 1, 2^-alpha, 3^-alpha, ... exactly."""
    flat = torch.linalg.qr(normal(rows, columns) - normal(rows, columns).mean(dim=0))[0]
    flat = torch.linalg.qr(flat - flat.mean(dim=0))[0]
    turned = torch.linalg.qr(normal(columns, columns, seed=1))[0]
    return (flat * torch.arange(1.0, columns + 1, dtype=torch.float64) ** (-alpha / 2)) @ turned


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("columns", [3, 8, 50, 150])
def test_alpha_of_a_power_law_is_its_exponent(alpha, columns):
    z = power_law(alpha, columns=columns)
    for moved in (z, 30 * z + 5, z.float()):
        assert spectrum.alpha_req(moved).item() == pytest.approx(alpha, abs=1e-3)


@pytest.mark.parametrize(("shape", "first", "last"), [((300, 120), 4, 100), ((40, 60), 4, 39), ((300, 5), 1, 5)])
def test_alpha_is_numpys_weighted_fit(shape, first, last):
    z = normal(*shape) * torch.arange(1, shape[1] + 1)
    eigen = np.sort(np.linalg.eigvalsh(np.cov(z.numpy(), rowvar=False)))[::-1][first - 1 : last]
    number = np.arange(first, last + 1)
    slope = np.polyfit(np.log(number), np.log(eigen), 1, w=number**-0.5)[0]  # numpy squares its weights
    assert spectrum.alpha_req(z).item() == pytest.approx(-slope, rel=1e-9)


def test_alpha_leaves_out_directions_that_are_not_there():
    z = torch.cat([power_law(1.0, columns=30), torch.zeros(400, 20)], dim=1)
    z = z @ torch.linalg.qr(normal(50, 50, seed=2))[0]
    assert spectrum.alpha_req(z).item() == pytest.approx(1, abs=1e-3)
    assert spectrum.alpha_req(z.float()).item() == pytest.approx(1, abs=1e-3)
    assert math.isnan(spectrum.alpha_req(normal(64, 1) @ normal(1, 9)).item())
    assert math.isnan(spectrum.alpha_req(torch.ones(8, 3)).item())


@pytest.mark.parametrize(
    ("first", "last", "words"), [(0, 9, "first must be at least 1"), (4, 4, "last must be at least 5")]
)
def test_alpha_refuses_an_empty_range(first, last, words):
    with pytest.raises(ValueError, match=words):
        spectrum.alpha_req(normal(9, 9), first, last)


def slow_lidar(views, delta):
    """By the definition, with loops, and scipy's solver of generalised eigenvalue problems."""
    q, n, d = views.shape
    within, between = delta * np.eye(d), np.zeros((d, d))
    grand = views.reshape(-1, d).mean(axis=0)
    for i in range(n):
        mean = views[:, i].mean(axis=0)
        between += np.outer(mean - grand, mean - grand) / (n - 1)
        for j in range(q):
            within += np.outer(views[j, i] - mean, views[j, i] - mean) / (n * (q - 1))
    values = np.clip(eigh(between, within, eigvals_only=True), 0, None)
    share = values / values.sum()
    return math.exp(-sum(p * math.log(p) for p in share if p > 0))


@pytest.mark.parametrize(("q", "n", "d"), [(2, 30, 5), (3, 8, 6), (2, 4, 20), (2, 3, 9), (5, 2, 3), (2, 9, 1)])
@pytest.mark.parametrize("delta", [1e-4, 0.5])
def test_lidar_is_its_definition(q, n, d, delta):
    views = normal(1, n, d) + 0.3 * normal(q, n, d, seed=1) * torch.arange(1, d + 1) + 2
    expected = slow_lidar(views.numpy(), delta)
    assert spectrum.lidar(*views, delta=delta).item() == pytest.approx(expected, rel=1e-6)
    assert spectrum.lidar(*views.float(), delta=delta).item() == pytest.approx(expected, rel=1e-3)


def test_lidar_does_not_count_directions_in_which_views_differ():
    samples = normal(400, 8)
    blurred = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).double()
    views = [samples + 3 * blurred * normal(400, 8, seed=seed) + 0.1 * normal(400, 8, seed=9 + seed) for seed in (1, 2)]
    assert spectrum.lidar(*views).item() == pytest.approx(4, rel=0.1)
    assert spectrum.rankme(views[0]).item() > 6


def test_lidar_of_collapsed_and_of_low_rank_embeddings():
    assert spectrum.lidar(torch.ones(5, 3), torch.ones(5, 3)).item() == 0
    line = normal(50, 1) @ normal(1, 7)
    assert spectrum.lidar(line, line).item() == pytest.approx(1, abs=1e-5)
    same = torch.linalg.qr(normal(64, 9) - normal(64, 9).mean(dim=0))[0]  # nine orthonormal columns without mean
    assert spectrum.lidar(8 * same, 8 * same).item() == pytest.approx(9)


@pytest.mark.parametrize(
    ("views", "options", "error", "words"),
    [
        ((torch.ones(3, 2),), {}, ValueError, "views must be at least two; got 1. One view alone does not scatter."),
        ((torch.ones(3, 2), torch.ones(2, 2)), {}, ValueError, "views must have the same shape"),
        ((torch.ones(3, 2),) * 2, {"delta": 0}, ValueError, "delta must be a finite number above 0"),
        ((torch.ones(3, 2), [1]), {}, TypeError, "z must be a torch.Tensor; got list"),
    ],
)
def test_lidar_refuses(views, options, error, words):
    with pytest.raises(error, match=words):
        spectrum.lidar(*views, **options)


def test_white_noise_by_closed_form():
    """For n x d white noise the participation ratio tends to n d / (n + d), and its covariance to its floor."""
    z = normal(900, 300)
    assert spectrum.participation_ratio(z).item() == pytest.approx(900 * 300 / 1200, rel=0.01)
    assert spectrum.off_diagonal(z).item() == pytest.approx(299 / 899, rel=0.02)

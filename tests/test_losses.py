"""Formulas of the relatives against slow, independent evaluations: loops, quadrature, optimal assignment."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm, pearsonr

from vicreg.distributed import Batch
from vicreg.functional import terms
from vicreg.functional.contrastive import nt_xent
from vicreg.functional.correlation import correlation, cross_diagonal, cross_off_diagonal
from vicreg.functional.local import matched, middles
from vicreg.functional.prediction import deviation, prediction_error
from vicreg.functional.sliced import centre, directions, epps_pulley, scale, shape

N = 7
WIDTHS = {"dense": 5, "gram": 19}  # up to 2n columns, and beyond


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(d=5, n=N):
    return normal(n, d) * 2 + 1, normal(n, d) + normal(n, d, seed=1) - 3


ALONG = torch.nn.functional.normalize(normal(5, 6, seed=9), dim=0)


# Correlations


@pytest.mark.parametrize("d", WIDTHS.values(), ids=WIDTHS)
def test_cross_correlation_by_loops(d):
    a, b = pair(d)
    on = off = 0.0
    for i in range(d):
        for j in range(d):
            x, y = a[:, i].numpy(), b[:, j].numpy()
            c = np.mean((x - x.mean()) * (y - y.mean())) / math.sqrt((x.var() + 1e-5) * (y.var() + 1e-5))
            on, off = (on + (1 - c) ** 2, off) if i == j else (on, off + c**2)
    assert cross_diagonal(a, b).item() == pytest.approx(on, rel=1e-10)
    assert cross_off_diagonal(a, b).item() == pytest.approx(off, rel=1e-10)


def test_standardisation_is_batch_norm():
    a, b = pair()
    layer = torch.nn.BatchNorm1d(5, affine=False, dtype=torch.float64)
    c = layer(a).T @ layer(b) / N
    assert cross_diagonal(a, b).item() == pytest.approx((c.diagonal() - 1).square().sum().item())


@pytest.mark.parametrize("d", [5, 12])
def test_correlation_by_scipy(d):
    z, _ = pair(d)
    squares = [pearsonr(z[:, i], z[:, j]).statistic ** 2 for i in range(d) for j in range(d) if i != j]
    assert correlation(z).item() == pytest.approx(sum(squares) / d**2, rel=1e-9)
    assert correlation(z * torch.arange(1, d + 1) + 7).item() == pytest.approx(sum(squares) / d**2, rel=1e-9)


def test_the_noise_floor_of_the_correlation():
    z = normal(40, 30, seed=3)
    found = [correlation(normal(40, 30, seed=seed)).item() for seed in range(30)]
    assert np.mean(found) == pytest.approx(29 / (30 * 39), rel=0.02)
    assert correlation(torch.cat((z, z), dim=1)).item() > 10 * correlation(z).item() / 30


# Contrastive


def test_nt_xent_by_loops():
    a, b = pair()
    rows = torch.cat((a, b)).tolist()
    cosine = lambda x, y: float(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y))  # noqa: E731
    total = 0.0
    for i, row in enumerate(rows):
        others = [math.exp(cosine(row, other) / 0.3) for k, other in enumerate(rows) if k != i]
        total -= math.log(math.exp(cosine(row, rows[(i + N) % (2 * N)]) / 0.3) / sum(others))
    assert nt_xent(a, b, 0.3).item() == pytest.approx(total / (2 * N), rel=1e-12)


def test_nt_xent_does_not_depend_on_lengths():
    a, b = pair()
    assert nt_xent(3 * a, b / 7).item() == pytest.approx(nt_xent(a, b).item())


# Predictions


def test_prediction_error_by_loops():
    p, z = [normal(N, 5, seed=i) for i in range(4)], [normal(N, 5, seed=10 + i) for i in range(4)]
    for targets in (2, 4):
        found = []
        for i in range(4):
            for j in range(targets):
                if i != j:
                    x, y = (one / one.norm(dim=1, keepdim=True) for one in (p[i], z[j]))
                    found.append((x - y).square().sum(dim=1).mean().item())
        assert prediction_error(p, z[:targets]).item() == pytest.approx(np.mean(found), rel=1e-12)


def test_two_views_are_the_published_formulas():
    p, z = (normal(N, 5), normal(N, 5, seed=1)), (normal(N, 5, seed=2), normal(N, 5, seed=3))
    cosines = [torch.cosine_similarity(p[i], z[1 - i]).mean().item() for i in range(2)]
    assert 2 * prediction_error(p, z).item() == pytest.approx(sum(2 - 2 * c for c in cosines))  # BYOL, equation 2
    assert 0.5 * prediction_error(p, z).item() == pytest.approx(1 - sum(cosines) / 2)  # SimSiam, equation 2, plus 1


def test_no_gradient_reaches_targets():
    p, z = [normal(N, 5, seed=i).requires_grad_() for i in range(2)], [normal(N, 5).requires_grad_() for _ in range(2)]
    prediction_error(p, z).backward()
    assert p[0].grad.abs().max() > 0
    assert z[0].grad is None


def test_deviation_by_loops():
    views = [normal(N, 5, seed=i) for i in range(4)]
    for large in (2, 4):
        middle = sum(view.numpy() for view in views[:large]) / large
        expected = np.mean([(view.numpy() - middle) ** 2 for view in views])
        assert deviation(views, large).item() == pytest.approx(expected, rel=1e-12)
    assert deviation(views[:2]).item() == pytest.approx(terms.invariance(*views[:2]).item() / 4)


# Slices


def test_directions_are_unit_vectors_from_the_generator():
    z = torch.ones(3, 4)
    one = directions(z, 1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one, directions(z, 1000, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(one.norm(dim=0), torch.ones(1000))
    torch.testing.assert_close(one @ one.T / 1000, torch.eye(4) / 4, rtol=0, atol=0.03)  # uniform on the sphere
    torch.manual_seed(3)
    one = directions(z.double(), 5)
    torch.manual_seed(3)
    assert torch.equal(one, directions(z.double(), 5))
    assert one.dtype == torch.float64
    assert not torch.equal(one, directions(z.double(), 5))


def characteristic_gap(x, t):
    return abs(np.exp(1j * t * x).mean() - math.exp(-(t**2) / 2)) ** 2 * math.exp(-(t**2) / 2)


def test_epps_pulley_by_the_trapezoidal_rule():
    z, _ = pair()
    knots = np.linspace(-3, 3, 2 * 17 - 1)
    every = [N * np.trapezoid([characteristic_gap(x, t) for t in knots], knots) for x in (z @ ALONG).T.numpy()]
    assert epps_pulley(z, ALONG).item() == pytest.approx(np.mean(every), rel=1e-10)


def test_epps_pulley_by_quadrature_and_in_closed_form():
    z, _ = pair()
    found, closed = [], []
    for x in (z @ ALONG).T.numpy():
        found.append(2 * N * quad(lambda t, x=x: characteristic_gap(x, t), 0, 8)[0])
        gaps = (x[:, None] - x) ** 2  # int |f - g|^2 w over the line, each of its three parts a Gaussian integral
        inner = np.exp(-gaps / 2).mean() * math.sqrt(2 * math.pi) - 2 * np.exp(-(x**2) / 4).mean() * math.sqrt(math.pi)
        closed.append(N * (inner + math.sqrt(2 * math.pi / 3)))
    ours = epps_pulley(z, ALONG, knots=801, limit=8.0).item()
    assert ours == pytest.approx(np.mean(found), rel=1e-6)
    assert ours == pytest.approx(np.mean(closed), rel=1e-6)


def test_epps_pulley_prefers_the_gaussian():
    sample = normal(400, 5)
    gaussian = epps_pulley(sample, ALONG).item()
    assert gaussian < 2
    for other in (2 * sample, sample / 2, sample + 1, sample.sign(), torch.zeros_like(sample)):
        assert epps_pulley(other, ALONG).item() > 3 * gaussian


def test_scale_and_centre_by_numpy():
    z, _ = pair()
    assert scale(z).item() == pytest.approx(np.mean((1 - z.numpy().std(axis=0)) ** 2), rel=1e-9)
    assert centre(z).item() == pytest.approx(np.mean(z.numpy().mean(axis=0) ** 2), rel=1e-12)


def test_shape_is_the_cost_of_the_best_assignment():
    z, _ = pair()
    white = (z.numpy() - z.numpy().mean(axis=0)) / z.numpy().std(axis=0)
    quantiles = norm.ppf(np.arange(1, N + 1) / (N + 1))
    costs = []
    for k in range(ALONG.shape[1]):
        cost = (white @ ALONG[:, k].numpy()[:, None] - quantiles) ** 2
        costs.append(cost[linear_sum_assignment(cost)].mean())
    assert shape(z, ALONG).item() == pytest.approx(np.mean(costs), rel=1e-9)


def test_shape_leaves_scale_alone():
    """The gradient takes the deviations as given: it is that of the projections divided by constants."""
    z = pair()[0].requires_grad_()
    (gradient,) = torch.autograd.grad(shape(z, ALONG), z)
    (divided,) = torch.autograd.grad(shape(10 * z, ALONG), z)
    torch.testing.assert_close(divided, gradient)
    assert shape(z, ALONG).item() == pytest.approx(shape(10 * z + 3, ALONG).item())
    direction = normal(N, 5, seed=4)
    deviation_of = lambda x: (x - x.mean(dim=0)).square().mean(dim=0).sqrt()  # noqa: E731
    step = 1e-6
    constant = deviation_of(z.detach())

    def with_constant(x):
        x = (x - x.mean(dim=0)) / constant
        levels = torch.arange(1, N + 1, dtype=torch.float64) / (N + 1)
        return ((x @ ALONG).sort(dim=0).values - torch.special.ndtri(levels)[:, None]).square().mean().item()

    slope = (with_constant(z.detach() + step * direction) - with_constant(z.detach() - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-6)


# Matches


def test_matches_by_loops():
    a, b = normal(3, 6, 4), normal(3, 5, 4, seed=1)
    for matches in (None, 2, 6, 9):
        found_a, found_b = matched(a, b, matches)
        for i in range(3):
            near = []
            for place in range(6):
                gaps = [(a[i, place] - b[i, other]).norm().item() for other in range(5)]
                near.append((min(gaps), place, int(np.argmin(gaps))))
            kept = sorted(sorted(near)[:matches], key=lambda match: match[1])
            assert torch.equal(found_a[i], a[i, [place for _, place, _ in kept]])
            assert torch.equal(found_b[i], b[i, [other for _, _, other in kept]])


def test_matches_by_where_places_are():
    a, b = normal(3, 6, 4), normal(3, 5, 4, seed=1)
    where_a, where_b = 10 * normal(3, 6, 2, seed=2), 10 * normal(3, 5, 2, seed=3)
    found_a, found_b = matched(a, b, 2, (where_a, where_b))
    for i in range(3):
        near = []
        for place in range(6):
            gaps = [math.dist(where_a[i, place].tolist(), where_b[i, other].tolist()) for other in range(5)]
            near.append((min(gaps), place, int(np.argmin(gaps))))
        kept = sorted(sorted(near)[:2], key=lambda match: match[1])
        assert torch.equal(found_a[i], a[i, [place for _, place, _ in kept]])
        assert torch.equal(found_b[i], b[i, [other for _, _, other in kept]])


def test_middles_by_loops():
    cuts = torch.tensor([[3.0, 5.0, 12.0, 9.0, 0.0], [0.0, 2.0, 7.0, 21.0, 1.0]])
    found = middles(cuts, 9)
    for i, (top, left, height, width, flipped) in enumerate(cuts.tolist()):
        for row in range(3):
            for column in range(3):
                across = 2 - column if flipped else column
                wanted = [top + (row + 0.5) * height / 3, left + (across + 0.5) * width / 3]
                assert found[i, 3 * row + column].tolist() == pytest.approx(wanted)


# Every formula

FORMULAS = {
    "cross_diagonal": (cross_diagonal, 2),
    "cross_off_diagonal": (cross_off_diagonal, 2),
    "correlation": (correlation, 1),
    "nt_xent": (nt_xent, 2),
    "prediction": (lambda *z, batch=None: prediction_error(z[:2], (z[2], z[3]), batch), 4),
    "deviation": (lambda *z, batch=None: deviation(z, None, batch), 3),
    "epps_pulley": (lambda z, batch=None: epps_pulley(z, unit(z), batch=batch), 1),
    "scale": (scale, 1),
    "shape": (lambda z, batch=None: shape(z, unit(z), batch), 1),
    "centre": (centre, 1),
}
STOPPED = {"prediction", "shape"}  # their gradient is not that of the value, by their definition


def unit(z):
    return torch.nn.functional.normalize(normal(z.shape[1], 6, seed=9), dim=0).to(
        torch.promote_types(z.dtype, torch.float32)
    )


def inputs(count, d=5, n=N):
    return [normal(n, d, seed=i) * 1.3 + i for i in range(count)]


@pytest.mark.parametrize("d", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", FORMULAS)
def test_gradients(name, d):
    formula, count = FORMULAS[name]
    views = [view.requires_grad_() for view in inputs(count, d)]
    if name == "prediction":
        z = [view.detach() for view in views[2:]]
        assert torch.autograd.gradcheck(lambda *p: formula(*p, *z), views[:2])
    elif name not in STOPPED:
        assert torch.autograd.gradcheck(formula, views)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FORMULAS)
def test_statistics_are_float32_at_least_whatever_autocast_says(name, dtype):
    formula, count = FORMULAS[name]
    views = [view.to(dtype) for view in inputs(count, 12)]
    expected = formula(*(view.double() for view in views)).item()
    for context in (torch.autocast("cpu", enabled=False), torch.autocast("cpu", torch.bfloat16)):
        leaves = [view.clone().requires_grad_() for view in views]
        with context:
            value = formula(*leaves)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected, rel=2e-5)
        value.backward()
        assert leaves[0].grad.dtype == dtype


@pytest.mark.parametrize("n", [2, 6])
@pytest.mark.parametrize("d", [1, 20])
@pytest.mark.parametrize("name", FORMULAS)
def test_collapse_is_finite(name, d, n):
    """Value and gradient, where all rows are one row, and where all are zero."""
    formula, count = FORMULAS[name]
    for row in (torch.arange(float(d)), torch.zeros(d)):
        views = [row.repeat(n, 1).requires_grad_() for _ in range(count)]
        value = formula(*views)
        value.backward()
        assert value.isfinite()
        assert all(view.grad.isfinite().all() for view in views if view.grad is not None)


def test_far_from_zero():
    """A mean of 5 beside a deviation of 1e-3, in float32."""
    views = [(1e-3 * view + 5).float() for view in inputs(2, 19)]
    for name in ("cross_off_diagonal", "cross_diagonal"):
        expected = FORMULAS[name][0](*(view.double() for view in views)).item()
        assert FORMULAS[name][0](*views).item() == pytest.approx(expected, rel=1e-4)
    assert correlation(views[0]).item() == pytest.approx(correlation(views[0].double()).item(), rel=1e-4)


Z = torch.ones(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: cross_diagonal(Z, Z[:, :2]), ValueError, r"z_a and z_b must have the same shape; got \(4, 3\) and"),
        (lambda: cross_off_diagonal(Z[None], Z[None]), ValueError, r"z_a must have shape \(n, d\); got \(1, 4, 3\)"),
        (lambda: cross_diagonal(Z, Z, eps=0.0), ValueError, r"eps must be a finite number above 0"),
        (lambda: correlation(Z.long()), TypeError, r"z must be of a floating type; got torch.int64"),
        (lambda: nt_xent(Z, Z[:2]), ValueError, r"z_a and z_b must have the same shape \(n, d\); got \(4, 3\) and"),
        (lambda: nt_xent(Z, Z, 0.0), ValueError, r"temperature must be a finite number above 0; got 0"),
        (lambda: nt_xent(Z.numpy(), Z), TypeError, r"z_a must be a torch.Tensor; got ndarray"),
        (lambda: prediction_error((Z, Z), (Z, Z[:2])), ValueError, r"p and target must have one shape \(n, d\); got"),
        (lambda: prediction_error((Z,), (Z,)), ValueError, r"p must have two or more views; got 1 and 1 targets"),
        (lambda: deviation((Z, Z[:, :1])), ValueError, r"the views must have one shape \(n, d\); got \(4, 3\) and"),
        (lambda: deviation((Z, Z), 3), ValueError, r"n_large must lie between 1 and 2; got 3"),
        (lambda: directions(Z, 0), ValueError, r"slices must be at least 1; got 0"),
        (lambda: epps_pulley(Z, torch.ones(2, 5)), ValueError, r"along must have shape \(3, slices\); got \(2, 5\)"),
        (lambda: epps_pulley(Z, torch.ones(3, 1), knots=1), ValueError, r"knots must be at least 2; got 1"),
        (lambda: epps_pulley(Z, torch.ones(3, 1), limit=0.0), ValueError, r"limit must be a finite number above 0"),
        (lambda: shape(Z, torch.ones(3, 0)), ValueError, r"along must have shape \(3, slices\); got \(3, 0\)"),
        (lambda: scale(Z[0]), ValueError, r"z must have shape"),
        (lambda: centre(Z[None]), ValueError, r"z must have shape \(n, d\); got \(1, 4, 3\). Flatten or pool it"),
        (lambda: matched(Z, Z), ValueError, r"maps_a and maps_b must have shapes \(n, t, d\) and \(n, u, d\); got"),
        (lambda: matched(Z[None], Z[None], 0), ValueError, r"matches must be at least 1; got 0"),
        (
            lambda: matched(Z[None], Z[None], 1, (Z[None, :2], Z[None])),
            ValueError,
            r"points must be of \(1, 4\) and \(1, 4\) places; got \(1, 2, 3\) and \(1, 4, 3\)",
        ),
        (lambda: middles(Z, 4), ValueError, r"cuts must have shape \(n, 5\); got \(4, 3\)"),
        (
            lambda: middles(torch.ones(2, 5), 8),
            ValueError,
            "The places of a map must make up a square to be found in the picture; got 8",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()


# Two and more processes


def by_one(name, rows, d):
    formula, count = FORMULAS[name]
    weight = normal(4, d, seed=99).requires_grad_()
    value = formula(*(view @ weight for view in inputs(count, 4, sum(rows))))
    value.backward()
    return value.item(), weight.grad


def by_many(rank, name, rows, d):
    formula, count = FORMULAS[name]
    weight = normal(4, d, seed=99).requires_grad_()
    views = [torch.split(view, rows)[rank] @ weight for view in inputs(count, 4, sum(rows))]
    value = formula(*views, batch=Batch(rows, rank, None))
    value.backward()
    gradient = weight.grad
    torch.distributed.all_reduce(gradient)
    return value.item(), (gradient / len(rows)).tolist()


@pytest.mark.parametrize("rows", [(7, 4), (1, 9)])
@pytest.mark.parametrize("d", [3, 30])
@pytest.mark.parametrize("name", FORMULAS)
def test_over_processes_it_is_that_of_the_global_batch(pools, name, d, rows):
    value, gradient = by_one(name, rows, d)
    for found, own in pools(len(rows)).run(by_many, name, rows, d):
        assert found == pytest.approx(value, rel=1e-9)
        torch.testing.assert_close(torch.tensor(own, dtype=torch.float64), gradient, rtol=1e-8, atol=1e-9)


def test_directions_are_those_of_the_first_process(pools):
    first, second = pools(2).run(drawn_by)
    assert first == second
    torch.manual_seed(0)
    assert first == directions(torch.ones(2, 3), 4).tolist()


def drawn_by(rank):
    torch.manual_seed(rank)
    return directions(torch.ones(2, 3), 4, Batch((2, 2), rank, None)).tolist()

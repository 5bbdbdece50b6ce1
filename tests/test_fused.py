"""The fused loss: against the definitions under autograd, in its numerics, and in what it refuses."""

import itertools
import math

import pytest
import torch
from counting import Multiplications
from hypothesis import given
from hypothesis import strategies as st

from vicreg.functional import fused, moments, terms
from vicreg.functional.fused import Formula, evaluate


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def defined(formula, views, **options):
    """Total and terms by the definitions: sums over pairs and views of ``functional.terms``."""
    large = formula.n_large or len(views)
    pairs = [(i, j) for i, j in itertools.combinations(range(len(views)), 2) if i < large]
    near = torch.stack([terms.invariance(views[i], views[j], formula.per) for i, j in pairs]).mean()
    targets = terms.per_view("target", formula.target, len(views))
    hinges = [terms.variance(z, t, formula.eps, formula.form) for z, t in zip(views, targets, strict=True)]
    offs = [terms.covariance(z, formula.estimator) for z in views]
    total = formula.invariance * near
    total = total + sum(w * v for w, v in zip(formula.variance, hinges, strict=True))
    total = total + sum(w * c for w, c in zip(formula.covariance, offs, strict=True))
    return total, [near, *hinges, *offs]


def full(count=2, **options):
    weights = [1.0 + i for i in range(count)]
    return Formula(
        invariance=25.0,
        variance=tuple(12.5 * w for w in weights),
        covariance=tuple(0.7 * w for w in weights),
        **options,
    )


def compare(formula, views, tolerance=1e-10):
    ours = [z.detach().clone().requires_grad_() for z in views]
    theirs = [z.detach().clone().requires_grad_() for z in views]
    found = evaluate(formula, ours)
    total, values = defined(formula, theirs)
    (3 * found.total).backward()
    (3 * total).backward()
    torch.testing.assert_close(found.total, total, rtol=tolerance, atol=tolerance)
    flat = [found.invariance, *found.variance, *found.covariance]
    for value, expected in zip(flat, values, strict=True):
        assert not value.requires_grad
        torch.testing.assert_close(value, expected.detach(), rtol=tolerance, atol=tolerance)
    for z, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(z.grad, expected.grad, rtol=tolerance, atol=tolerance)


SHAPES = [(8, 3), (5, 5), (4, 9), (2, 1), (2, 6), (6, 3, 4), (4, 2, 9), (2, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, {"form": "var"}, {"per": "row", "target": (0.5, 2.0), "eps": 0.1}])
def test_values_and_gradients_are_the_definitions(shape, options):
    compare(full(**options), [normal(*shape), 2 * normal(*shape, seed=1) + 1])


@pytest.mark.parametrize("shape", [(8, 3), (4, 9), (6, 3, 4), (5, 2, 9)])
def test_the_unbiased_estimator(shape):
    compare(full(estimator="unbiased"), [normal(*shape), 2 * normal(*shape, seed=1) + 1])


@pytest.mark.parametrize(("count", "n_large"), [(2, 1), (2, 2), (3, None), (4, 2), (5, 1), (5, 4)])
def test_several_views(count, n_large):
    compare(full(count, n_large=n_large), [normal(6, 4, seed=i) + i for i in range(count)])


@given(
    n=st.integers(2, 12), d=st.integers(1, 12), t=st.integers(0, 3), count=st.integers(2, 4), seed=st.integers(0, 999)
)
def test_any_shape(n, d, t, count, seed):
    shape = (n, t, d) if t else (n, d)
    compare(full(count), [normal(*shape, seed=seed + i) for i in range(count)], tolerance=1e-9)


def test_many_locations_are_taken_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(fused, "MOST_ENTRIES", 40)
    for shape in ((6, 5, 4), (4, 5, 9), (9, 5, 7)):
        compare(full(), [normal(*shape), normal(*shape, seed=1)])


def test_dense_and_gram_are_the_same_function():
    """At n = d both forms apply; a constant column more tips the same data into the Gram form."""
    z = normal(6, 6)
    wide = torch.cat([z, torch.ones(6, 1, dtype=torch.float64)], dim=1).requires_grad_()
    z.requires_grad_()
    dense = evaluate(Formula(covariance=(6.0,)), [z]).total
    gram = evaluate(Formula(covariance=(7.0,)), [wide]).total
    torch.testing.assert_close(dense, gram)
    dense.backward()
    gram.backward()
    torch.testing.assert_close(z.grad, wide.grad[:, :6])
    assert wide.grad[:, 6].abs().max() < 1e-12


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_gradcheck(shape, estimator):
    shape = (5, *shape[1:]) if estimator == "unbiased" else shape
    views = [normal(*shape, seed=i).requires_grad_() for i in range(3)]
    formula = full(3, estimator=estimator, n_large=2)
    assert torch.autograd.gradcheck(lambda *z: evaluate(formula, z).total, views)


def test_inputs_that_need_no_gradient_and_strided_ones():
    a, b = normal(8, 3), normal(3, 8).T
    reference = [a.clone().requires_grad_(), b.clone().requires_grad_()]
    evaluate(full(), reference).total.backward()
    for z, wanted in ((a.clone(), reference[0]), (b.clone(), reference[1])):
        z.requires_grad_()
        views = (z, b) if wanted is reference[0] else (a, z)
        evaluate(full(), views).total.backward()
        torch.testing.assert_close(z.grad, wanted.grad)
    strided = normal(3, 8).T.requires_grad_()
    evaluate(full(), (a, strided)).total.backward()
    torch.testing.assert_close(strided.grad, reference[1].grad)
    assert not evaluate(full(), (a, b)).total.requires_grad
    with torch.no_grad():
        assert not evaluate(full(), reference).total.requires_grad


def test_two_backward_passes_give_two_tensors():
    z = normal(6, 4).requires_grad_()
    total = evaluate(full(), (z, normal(6, 4, seed=1))).total
    (first,) = torch.autograd.grad(total, z, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(total, z)
    assert torch.equal(second, kept)
    second.zero_()
    assert torch.equal(first, kept)


def test_inputs_are_left_as_they_are():
    views = [normal(6, 4).requires_grad_(), normal(6, 4, seed=1).requires_grad_()]
    before = [z.detach().clone() for z in views]
    total = evaluate(full(), views).total
    total.backward(retain_graph=True)
    once = views[0].grad.clone()
    total.backward()
    assert torch.equal(views[0].grad, 2 * once)
    assert all(torch.equal(z, kept) for z, kept in zip(views, before, strict=True))


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 9), (700, 600), (600, 700)])
@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_nothing_waits_for_the_device(shape, estimator):
    """Meta tensors have no values: whatever looked at one, as in a branch, would raise."""
    views = [torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True) for _ in range(3)]
    found = evaluate(full(3, estimator=estimator), views)
    assert (found.total.shape, found.total.dtype, found.total.device.type) == ((), torch.float32, "meta")
    for z in torch.autograd.grad(found.total, views):
        assert (z.shape, z.dtype, z.device.type) == (shape, torch.bfloat16, "meta")


@pytest.mark.parametrize("shape", [(11, 7), (7, 11), (7, 7), (6, 3, 5)])
@pytest.mark.parametrize("band", [1, 2, 3, 5])
def test_bands_make_no_difference(monkeypatch, shape, band):
    monkeypatch.setattr(moments, "BAND", band)
    compare(full(), [normal(*shape), 2 * normal(*shape, seed=1) + 1])


def test_bands_halve_the_first_product():
    """Of 1024 columns in two bands the upper triangle has three quarters; the product with it is whole."""
    z = torch.zeros(1024, 1024, requires_grad=True)
    with Multiplications() as counter:
        evaluate(Formula(covariance=(1.0,)), (z,))
    assert counter.count == 1.75 * 1024**3


def test_a_second_derivative_is_refused_by_name():
    views = [normal(6, 4).requires_grad_(), normal(6, 4, seed=1)]
    total = evaluate(full(), views).total
    with pytest.raises(RuntimeError, match=r"differentiated once only; got create_graph=True.*functional\.terms"):
        torch.autograd.grad(total, views[0], create_graph=True)


def test_weight_zero_is_a_reading_and_none_is_nothing():
    z_a, z_b = normal(6, 4).requires_grad_(), normal(6, 4, seed=1)
    read = evaluate(Formula(invariance=0.0, variance=(0.0, 0.0), covariance=(2.0, 0.0)), (z_a, z_b))
    alone = evaluate(Formula(covariance=(2.0,)), (z_a,))
    assert alone.invariance is None
    assert alone.variance == ()
    assert read.variance[0] > 0
    torch.testing.assert_close(read.total, alone.total)
    torch.testing.assert_close(*(torch.autograd.grad(found.total, z_a)[0] for found in (read, alone)))


# Numerics: always against float64 on the same, already rounded inputs.


def errors(views, formula):
    """Relative errors of the total and of the gradient in the views' own type."""
    ours = [z.detach().clone().requires_grad_() for z in views]
    exact = [z.detach().double().requires_grad_() for z in views]
    found = evaluate(formula, ours).total
    reference = defined(formula, exact)[0]
    found.backward()
    reference.backward()
    gradient = max(((z.grad.double() - x.grad).norm() / x.grad.norm()).item() for z, x in zip(ours, exact, strict=True))
    return abs(found.item() / reference.item() - 1), gradient


@pytest.mark.parametrize("shape", [(256, 64), (64, 64), (64, 256)])
@pytest.mark.parametrize("deviation", [1e-3, 1e-5])
def test_nearly_collapsed_far_from_the_origin(shape, deviation):
    views = [normal(*shape, seed=i, dtype=torch.float64).mul(deviation).add(5).float() for i in range(2)]
    value, gradient = errors(views, full())
    assert value < 1e-5
    assert gradient < 1e-5


@pytest.mark.parametrize("formula", [full(), Formula(invariance=0.0, variance=(0.0, 0.0), covariance=(1.0, 1.0))])
def test_badly_scaled_columns_dense(formula):
    views = [(normal(256, 64, seed=i) * torch.logspace(-3, 3, 64) + 1).float() for i in range(2)]
    value, gradient = errors(views, formula)
    assert value < 1e-5
    assert gradient < 1e-5


def test_badly_scaled_columns_gram():
    """The stated bound: 1e-6 ||C||_F^2 / d on the term, and 1e-6 of the gradient with the diagonal."""
    z = (normal(64, 256) * torch.logspace(-3, 3, 256) + 1).float().requires_grad_()
    found = evaluate(Formula(covariance=(1.0,)), (z,)).total
    found.backward()
    exact = z.detach().double().requires_grad_()
    matrix = torch.cov(exact.T)
    whole = matrix.square().sum() / 256
    off = whole - matrix.diagonal().square().sum() / 256
    (with_diagonal,) = torch.autograd.grad(whole, exact, retain_graph=True)
    (gradient,) = torch.autograd.grad(off, exact)
    assert abs(found.item() - off.item()) < 1e-6 * whole.item()
    assert (z.grad.double() - gradient).norm() < 1e-6 * with_diagonal.norm()


@pytest.mark.slow
def test_long_sums_keep_their_digits():
    z = normal(2048, 2048, dtype=torch.float32)
    value = evaluate(Formula(invariance=1.0, covariance=(1.0, 1.0)), (z, -z))
    matrix = torch.cov(z.double().T)
    off = (matrix.square().sum() - matrix.diagonal().square().sum()) / 2048
    assert value.covariance[0].item() == pytest.approx(off.item(), rel=1e-6)
    assert value.invariance.item() == pytest.approx(4 * z.double().square().mean().item(), rel=1e-6)


def test_white_noise_has_the_covariance_of_its_floor():
    z = normal(64, 512, dtype=torch.float32)
    assert evaluate(Formula(covariance=(0.0,)), (z,)).covariance[0].item() == pytest.approx(511 / 63, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(32, 8), (8, 32), (6, 3, 4)])
def test_half_precision_under_autocast_is_float32_inside(dtype, shape):
    views = [normal(*shape, seed=i).to(dtype) for i in range(2)]
    half = [z.clone().requires_grad_() for z in views]
    single = [z.float().requires_grad_() for z in views]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(full(), half)
    reference = evaluate(full(), single)
    assert found.total.dtype == torch.float32
    assert torch.equal(found.total, reference.total)
    found.total.backward()
    reference.total.backward()
    for z, x in zip(half, single, strict=True):
        assert z.grad.dtype == dtype
        assert torch.equal(z.grad, x.grad.to(dtype))


@pytest.mark.parametrize("shape", [(2048, 64), (64, 512)])
def test_large_float16_does_not_overflow(shape):
    views = [(normal(*shape, seed=i) * 100).half().requires_grad_() for i in range(2)]
    found = evaluate(full(), views)
    found.total.backward()
    exact = defined(full(), [z.detach().double() for z in views])[0]
    assert found.total.item() == pytest.approx(exact.item(), rel=1e-5)
    assert all(z.grad.isfinite().all() for z in views)


def test_loss_scaling_saves_small_float16_gradients():
    """Unscaled, the variance gradient of this batch is below float16's resolution; scaled by 65536 it is exact."""
    z = normal(2048, 256, dtype=torch.float16).mul(0.5).requires_grad_()
    exact = z.detach().double().requires_grad_()
    formula = Formula(variance=(1.0,))
    (evaluate(formula, (z,)).total * 65536).backward()
    terms.variance(exact).backward()
    expected = exact.grad * 65536
    assert (exact.grad.abs() < 2**-14).all()  # subnormal, were it cast before it is scaled
    torch.testing.assert_close(z.grad.double(), expected, rtol=2**-10, atol=2**-24)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("shape", [(64, 16), (16, 64)])
def test_reduced_precision_touches_the_products_alone(precision, shape):
    views = [normal(*shape, seed=i, dtype=torch.float32) for i in range(2)]
    exact = evaluate(full(), views)
    found = evaluate(full(precision=precision), views)
    assert torch.equal(found.invariance, exact.invariance)
    assert all(torch.equal(a, b) for a, b in zip(found.variance, exact.variance, strict=True))
    for a, b in zip(found.covariance, exact.covariance, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=0.03)
    assert torch.equal(found.covariance[0], exact.covariance[0]) == (precision == "high")  # no TF32 on a CPU
    value, gradient = errors(views, full(precision=precision))
    assert value < 0.01
    assert gradient < 0.01


def test_float64_products_are_never_reduced():
    compare(full(precision="medium"), [normal(6, 4), normal(6, 4, seed=1)])


def test_the_process_setting_of_products_is_overruled_and_put_back():
    views = [normal(64, 32, seed=i, dtype=torch.float32) for i in range(2)]
    exact = evaluate(full(), views).total
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(evaluate(full(), views).total, exact)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("setting", "written"), [("none", []), ("ieee", []), ("bf16", ["ieee", "bf16"])])
def test_the_process_s_setting_is_changed_only_where_it_differs(monkeypatch, setting, written):
    """Every change is one that another thread could see or put back wrongly."""

    class Backend:
        fp32_precision = property(lambda self: setting, lambda self, value: changes.append(value))

    changes = []
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", Backend())
    evaluate(full(), [normal(6, 4), normal(6, 4, seed=1)])
    assert changes == written


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_a_number_passes_into_the_loss_and_its_own_branch(bad):
    for shape in ((6, 4), (4, 6)):
        z_a, z_b = normal(*shape), normal(*shape, seed=1)
        z_a[1, 2] = bad
        found = evaluate(full(), (z_a.requires_grad_(), z_b.requires_grad_()))
        assert not found.total.isfinite()
        assert not found.invariance.isfinite()
        assert not found.variance[0].isfinite()
        assert not found.covariance[0].isfinite()
        assert found.variance[1].isfinite()
        assert found.covariance[1].isfinite()
        found.total.backward()
        assert not z_a.grad.isfinite().all()
        read = evaluate(Formula(invariance=0.0, variance=(0.0, 1.0)), (z_a, z_b))
        assert read.total.isfinite()
        assert torch.autograd.grad(read.total, z_b)[0].isfinite().all()


def test_no_graph_is_taped_and_little_is_kept():
    z = [normal(8, 64, seed=i).requires_grad_() for i in range(2)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        evaluate(full(), z)
    assert kept == [8 * 64, 8 * 64]


@pytest.mark.parametrize(
    ("views", "error", "match"),
    [
        (
            (torch.ones(4, 2), torch.ones(4, 2).double()),
            TypeError,
            r"z_a and z_b must have the same type; got torch.float32 and torch.float64",
        ),
        (
            (torch.ones(4, 2), torch.ones(4, 2, device="meta")),
            ValueError,
            r"z_a and z_b must be on the same device; got cpu and meta",
        ),
        (
            (torch.ones(4, 2), torch.ones(4, 3)),
            ValueError,
            r"z_a and z_b must have the same shape; got \(4, 2\) and \(4, 3\). Widths may differ",
        ),
        (
            (torch.ones(4, 2), torch.ones(5, 2)),
            ValueError,
            r"z_a and z_b must have the same shape; got \(4, 2\) and \(5, 2\)",
        ),
        (
            (torch.ones(4, 2), torch.ones(4, 2).long()),
            TypeError,
            r"z_b must be of a floating type; got torch.int64. Convert it",
        ),
        ((torch.ones(1, 2), torch.ones(1, 2)), ValueError, r"z_a must have at least 2 rows; got 1\. Statistics"),
        ((torch.ones(4, 2),), ValueError, r"An invariance term must have two or more views; got 1"),
    ],
)
def test_messages(views, error, match):
    with pytest.raises(error, match=match):
        evaluate(full(len(views)), views)


def test_messages_about_the_formula():
    z = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"z_a must have at least 4 rows; got 3"):
        evaluate(full(estimator="unbiased"), (z, z))
    with pytest.raises(ValueError, match=r"n_large must lie between 1 and 2; got 3"):
        evaluate(full(n_large=3), (z, z))
    with pytest.raises(ValueError, match=r"precision must be one of 'high', 'highest', 'medium'; got 'low'"):
        full(precision="low")
    with pytest.raises(ValueError, match=r"z_a and z_b must have the same shape; got \(3, 2\) and \(2, 2\)\.$"):
        evaluate(Formula(covariance=(1.0, 1.0)), (z, z[:2]))

"""The module and the function over the fused loss: conventions, coefficients, names, messages."""

import copy
import inspect
import itertools
import math
import pickle

import pytest
import torch

from vicreg.functional import terms
from vicreg.loss import Settings, VICRegLoss, vicreg_loss


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, B, C = (normal(12, 5, seed=i) / 2 for i in range(3))


def by_the_table(convention, sim=25.0, std=25.0, cov=1.0):
    """The convention table of the documentation, row by row."""
    near = {"paper": (A - B).square().sum(dim=1).mean()}.get(convention, (A - B).square().mean())
    hinges = terms.variance(A) + terms.variance(B)
    hinges = hinges / 2 if convention == "official" else hinges
    return sim * near + std * hinges + cov * (terms.covariance(A) + terms.covariance(B))


@pytest.mark.parametrize("convention", ["official", "algorithm1", "paper"])
def test_conventions(convention):
    loss = VICRegLoss(convention=convention)
    assert loss(A, B).item() == pytest.approx(by_the_table(convention).item(), rel=1e-12)
    assert vicreg_loss(A, B, convention=convention).item() == loss(A, B).item()
    values = loss.terms(A, B)
    assert list(values) == ["invariance", "variance_a", "variance_b", "covariance_a", "covariance_b", "total"]
    assert values["variance_b"].item() == pytest.approx(terms.variance(B).item())
    assert values["covariance_a"].item() == pytest.approx(terms.covariance(A).item())
    half = 0.5 if convention == "official" else 1.0
    total = 25 * values["invariance"] + 25 * half * (values["variance_a"] + values["variance_b"])
    assert (total + values["covariance_a"] + values["covariance_b"]).item() == pytest.approx(values["total"].item())


def test_terms_are_detached_and_the_total_is_not():
    z = A.clone().requires_grad_()
    values = VICRegLoss().terms(z, B)
    assert [name for name, value in values.items() if value.requires_grad] == ["total"]
    values["total"].backward()
    expected = torch.autograd.grad(VICRegLoss()(z, B), z)[0]
    assert torch.equal(z.grad, expected)


def test_one_coefficient_for_each_branch():
    loss = VICRegLoss(25.0, (25.0, 0.0), (0.0, 2.0), (1.0, 0.5), convention="algorithm1")
    expected = 25 * terms.invariance(A, B) + 25 * terms.variance(A) + 2 * terms.covariance(B)
    assert loss(A, B).item() == pytest.approx(expected.item())
    assert loss.terms(A, B)["variance_b"].item() == pytest.approx(terms.variance(B, target=0.5).item(), abs=1e-15)


def test_branches_of_different_width():
    wide = normal(12, 20)
    values = VICRegLoss(sim_coeff=0.0).terms(A, wide)
    expected = 12.5 * (terms.variance(A) + terms.variance(wide)) + terms.covariance(A) + terms.covariance(wide)
    assert values["total"].item() == pytest.approx(expected.item())
    assert "invariance" not in values
    assert "invariance" in VICRegLoss(sim_coeff=0.0).terms(A, B)
    with pytest.raises(
        ValueError, match=r"must have the same shape; got \(12, 5\) and \(12, 20\)\. Widths may differ where"
    ):
        VICRegLoss()(A, wide)


@pytest.mark.parametrize(("convention", "factor"), [("official", 1.0), ("algorithm1", 2.0)])
@pytest.mark.parametrize("n_large", [None, 2])
def test_more_than_two_views(convention, factor, n_large):
    views = [A, B, C, A + 0.1 * B]
    pairs = [(i, j) for i, j in itertools.combinations(range(4), 2) if n_large is None or i < n_large]
    near = sum(terms.invariance(views[i], views[j]) for i, j in pairs) / len(pairs)
    hinge = sum(terms.variance(z) for z in views) / 4
    off = sum(terms.covariance(z) for z in views) / 4
    values = VICRegLoss(convention=convention).terms(*views, n_large=n_large)
    assert values["total"].item() == pytest.approx((25 * near + factor * 25 * hinge + 2 * off).item(), rel=1e-12)
    assert values["variance_d"].item() == pytest.approx(terms.variance(views[3]).item())


def test_options_reach_the_terms():
    values = VICRegLoss(eps=0.1, variance_form="std", covariance_estimator="unbiased").terms(A, B)
    assert values["variance_a"].item() == pytest.approx(terms.variance(A, eps=0.1).item())
    assert values["covariance_a"].item() == pytest.approx(terms.covariance(A, "unbiased").item())
    values = VICRegLoss(variance_form="var").terms(A, B)
    assert values["variance_a"].item() == pytest.approx(terms.variance(A, form="var").item())


def test_a_shell_without_state():
    loss = VICRegLoss(10, (1, 2), convention="paper", eps=1e-3)
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []
    for twin in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert twin(A, B).item() == loss(A, B).item()
    assert repr(VICRegLoss()) == (
        "VICRegLoss(sim_coeff=25.0, std_coeff=25.0, cov_coeff=1.0, variance_target=1.0, convention='official')"
    )
    assert repr(loss) == (
        "VICRegLoss(sim_coeff=10.0, std_coeff=(1.0, 2.0), cov_coeff=1.0, variance_target=1.0, eps=0.001, "
        "convention='paper')"
    )


def test_the_function_takes_the_settings_of_the_module():
    assert list(Settings.__annotations__) == list(inspect.signature(VICRegLoss).parameters)
    with pytest.raises(TypeError, match="lambda_"):
        vicreg_loss(A, B, lambda_=1.0)


def test_a_descent_on_the_loss_spreads_and_decorrelates_a_collapsed_batch():
    z_a = (0.05 * normal(64, 1) + 0.01 * normal(64, 8)).requires_grad_()
    loss = VICRegLoss()
    before = loss.terms(z_a, z_a.detach())
    optimizer = torch.optim.Adam([z_a], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(z_a, z_a).backward()
        optimizer.step()
    after = loss.terms(z_a, z_a)
    assert before["variance_a"] > 0.9
    assert after["variance_a"] < 0.01
    assert after["covariance_a"] < 0.01


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        (
            {"convention": "theirs"},
            ValueError,
            r"convention must be one of 'algorithm1', 'official', 'paper'; got 'theirs'",
        ),
        ({"sim_coeff": -1}, ValueError, r"sim_coeff must be a finite number of at least 0; got -1.0"),
        ({"std_coeff": math.nan}, ValueError, r"std_coeff must be a finite number of at least 0; got nan"),
        ({"cov_coeff": (1.0, math.inf)}, ValueError, r"cov_coeff\[1\] must be a finite number of at least 0; got inf"),
        ({"cov_coeff": "1"}, TypeError, r"cov_coeff must be a number; got '1'"),
        ({"sim_coeff": (1, 2)}, TypeError, r"sim_coeff must be a number; got \(1, 2\)"),
        ({"variance_target": -1}, ValueError, r"variance_target must be a finite number of at least 0"),
        ({"eps": 0}, ValueError, r"eps must be a finite number above 0; got 0.0"),
        ({"variance_form": "x"}, ValueError, r"variance_form must be one of 'std', 'var'; got 'x'"),
        (
            {"covariance_estimator": "x"},
            ValueError,
            r"covariance_estimator must be one of 'plugin', 'unbiased'; got 'x'",
        ),
        (
            {"matmul_precision": "x"},
            ValueError,
            r"matmul_precision must be one of 'high', 'highest', 'medium'; got 'x'",
        ),
        ({"gradient_reduction": "x"}, ValueError, r"gradient_reduction must be one of 'mean', 'sum'; got 'x'"),
        (
            {"process_group": "x"},
            ValueError,
            r"process_group must be a process group that this process is in, 'default' or None; got 'x'",
        ),
        ({"equal_rows": 1}, TypeError, r"equal_rows must be True or False; got 1"),
    ],
)
def test_messages_about_settings(settings, error, match):
    with pytest.raises(error, match=match):
        VICRegLoss(**settings)


def test_messages_about_views():
    with pytest.raises(ValueError, match=r"VICRegLoss must be called on two or more views; got 1"):
        VICRegLoss()(A)
    with pytest.raises(ValueError, match=r"std_coeff must be one number, or one for each of 3 views; got \(1.0, 2.0\)"):
        VICRegLoss(std_coeff=(1, 2))(A, B, C)
    with pytest.raises(ValueError, match=r"variance_target must be one number, or one for each of 2 views"):
        VICRegLoss(variance_target=(1, 2, 3))(A, B)
    with pytest.raises(ValueError, match=r"z_a must have at least 4 rows; got 3"):
        VICRegLoss(sim_coeff=0, covariance_estimator="unbiased")(A[:3], B[:3])
    with pytest.raises(TypeError, match=r"z_b must be a torch.Tensor; got list"):
        VICRegLoss(0.0)(A, [1, 2])
    with pytest.raises(TypeError, match=r"z_a must be a torch.Tensor; got ndarray"):
        VICRegLoss()(A.numpy(), B.numpy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it traces
def test_compiles_without_a_graph_break():
    z, other = A.float().requires_grad_(), B.float()
    compiled = torch.compile(VICRegLoss(), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = compiled(z, other)
    value.backward()
    expected = VICRegLoss()(z, other)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(z.grad, torch.autograd.grad(expected, z)[0])

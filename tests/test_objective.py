"""Objectives: named, weighted terms; those of VICReg evaluated together; joined with |."""

import copy
import inspect
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch

from vicreg.functional import terms
from vicreg.functional.fused import checked
from vicreg.loss import VICRegLoss
from vicreg.objectives import OBJECTIVES, Objective, Outputs, Term, mean_squared_error, reconstruction, vicreg
from vicreg.objectives import objective as module


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(views=2, seed=0):
    def field(width, offset):
        return tuple((normal(10, width, seed=seed + offset + i) / 2).requires_grad_() for i in range(views))

    maps = tuple(normal(10, 4, 5, seed=seed + 40 + i).requires_grad_() for i in range(views))
    cuts = tuple(torch.tensor([[0.0, i, 8.0, 8.0, 0.0]]).expand(10, 5) for i in range(views))
    beside = {"p": field(6, 50), "target": field(6, 60), "maps": maps, "cuts": cuts}
    return Outputs(x=field(3, 0), h=field(4, 10), z=field(6, 20), decoded=field(3, 30), **beside)


@pytest.mark.parametrize("convention", ["official", "algorithm1", "paper"])
@pytest.mark.parametrize("views", [2, 3])
def test_vicreg_is_the_loss(convention, views):
    outputs = made(views)
    settings = {"sim_coeff": 10.0, "cov_coeff": 2.0, "eps": 0.01, "convention": convention}
    total, values = vicreg(variance_target=0.8, **settings)(outputs)
    loss = VICRegLoss(variance_target=0.8, **settings)
    expected = loss.terms(*outputs.z)
    assert total.item() == pytest.approx(expected["total"].item(), rel=1e-12)
    assert list(values) == list(expected)[:-1]
    for name, value in values.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-12)
        assert not value.requires_grad
    for ours, theirs in zip(
        torch.autograd.grad(total, outputs.z), torch.autograd.grad(loss(*outputs.z), outputs.z), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_defaults_are_those_of_the_loss():
    loss = inspect.signature(VICRegLoss).parameters
    for name, parameter in inspect.signature(vicreg).parameters.items():
        assert parameter.default == loss[name].default


def test_weights_for_each_branch():
    outputs = made()
    total, _ = vicreg(0.0, (25.0, 0.0), (0.0, 2.0))(outputs)
    expected = 12.5 * terms.variance(outputs.z[0]) + 2 * terms.covariance(outputs.z[1])
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_target_for_each_branch():
    outputs = made()
    total, values = vicreg(variance_target=(1.0, 2.0))(outputs)
    expected = VICRegLoss(variance_target=(1.0, 2.0)).terms(*outputs.z)
    assert total.item() == pytest.approx(expected["total"].item(), rel=1e-12)
    assert values["variance_b"].item() == pytest.approx(terms.variance(outputs.z[1], target=2.0).item(), rel=1e-12)


def test_branches_differ_in_width_where_the_invariance_has_no_weight():
    a, b = normal(10, 6), normal(10, 4, seed=1)
    outputs = Outputs(x=(a, b), h=(a, b), z=(a, b))
    total, values = vicreg(sim_coeff=0.0)(outputs)
    expected = sum(12.5 * terms.variance(z) + terms.covariance(z) for z in (a, b))
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert list(values) == ["variance_a", "variance_b", "covariance_a", "covariance_b"]
    assert total.item() == pytest.approx(VICRegLoss(sim_coeff=0.0)(a, b).item(), rel=1e-12)
    for refused in (vicreg(), VICRegLoss()):
        with pytest.raises(ValueError, match=r"same shape; got \(10, 6\) and \(10, 4\)\. Widths may differ where"):
            refused(outputs) if isinstance(refused, Objective) else refused(a, b)


def regularised():
    own = {
        "variance_h": Term(2.5, partial(terms.variance, target=0.5), on="h"),
        "covariance_h": Term(0.1, terms.covariance, on="h"),
        "closeness": Term(3.0, lambda a, b: (a - b).abs().mean(), on="h"),
    }
    return vicreg() | reconstruction(10.0) | own


def test_terms_on_several_fields_join():
    objective, outputs = regularised(), made()
    total, values = objective(outputs)
    h, z = outputs.h, outputs.z
    expected = VICRegLoss()(*z) + 3 * (h[0] - h[1]).abs().mean()
    expected = expected + sum(2.5 * terms.variance(x, target=0.5) + 0.1 * terms.covariance(x) for x in h)
    errors = [(d - x).square().mean() for d, x in zip(outputs.decoded, outputs.x, strict=True)]
    expected = expected + 10 * sum(errors) / 2
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    leaves = [*h, *z, *outputs.decoded]
    for ours, theirs in zip(torch.autograd.grad(total, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert list(values) == [
        "invariance", "variance_a", "variance_b", "covariance_a", "covariance_b", "reconstruction",
        "variance_h_a", "variance_h_b", "covariance_h_a", "covariance_h_b", "closeness",
    ]  # fmt: skip
    assert values["variance_h_b"].item() == pytest.approx(terms.variance(h[1], target=0.5).item(), abs=1e-15)
    assert objective.needs == {"decoder"}


def test_the_three_terms_are_evaluated_together(monkeypatch):
    calls = []
    monkeypatch.setattr(
        module, "checked", lambda formula, views, names: calls.append(names) or checked(formula, views, names)
    )
    regularised()(made())
    assert calls == [["z_a", "z_b"], ["h_a", "h_b"]]


def test_two_terms_of_one_kind_on_one_field():
    outputs = made()
    objective = vicreg() | {"wider": Term(1.0, partial(terms.variance, target=2.0))}
    total, values = objective(outputs)
    expected = VICRegLoss()(*outputs.z) + sum(terms.variance(z, target=2.0) for z in outputs.z)
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    assert values["wider_a"] > values["variance_a"]


def test_a_term_on_several_fields_gets_each_as_a_tuple():
    term = Term(2.0, lambda h, z: sum(x.sum() for x in (*h, *z)), on=("h", "z"))
    outputs = made()
    total, values = Objective({"sum": term})(outputs)
    assert total.item() == pytest.approx(2 * sum(x.sum().item() for x in (*outputs.h, *outputs.z)))
    assert values["sum"].item() == pytest.approx(total.item() / 2)


def test_weight_zero_is_a_reading():
    outputs = made()
    total, values = (vicreg(cov_coeff=0.0) | {"gap": Term(0.0, lambda a, b: (a - b).mean() / 0)})(outputs)
    assert total.isfinite()
    assert values["covariance_a"] > 0
    assert not values["gap"].isfinite()
    total, values = Objective({"norm": Term(0.0, lambda a, b: a.norm())})(outputs)
    assert total.item() == 0
    assert values["norm"] > 0


def test_one_view_without_invariance():
    outputs = made(1)
    total, values = Objective({"variance": Term(0.5, terms.variance, on="h")})(outputs)
    assert total.item() == pytest.approx(terms.variance(outputs.h[0]).item())
    assert list(values) == ["variance_a"]


def test_an_objective_is_a_mapping_and_data():
    objective = vicreg()
    assert objective == dict(objective)
    assert objective != vicreg(10.0)
    assert list(objective) == ["invariance", "variance", "covariance"]
    assert len(objective | {"variance": Term(1.0, terms.variance)}) == 3
    assert (objective | {"variance": Term(1.0, terms.variance)})["variance"].weight == 1.0
    assert list({"first": Term(1.0, terms.covariance)} | objective) == ["first", "invariance", "variance", "covariance"]
    joined = vicreg() | reconstruction(10.0)
    for twin in (pickle.loads(pickle.dumps(joined)), copy.deepcopy(joined)):
        assert twin(made())[0].item() == joined(made())[0].item()
    with pytest.raises(AttributeError):
        objective.terms = {}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_by_name(name):
    objective, outputs = OBJECTIVES[name](), made()
    total, values = objective(outputs)
    assert total.isfinite()
    assert total.requires_grad
    assert all(not value.requires_grad and value.ndim == 0 for value in values.values())


def test_reconstruction_is_in_float32_at_least():
    errors = mean_squared_error((torch.full((4, 2), 300.0, dtype=torch.float16),), (torch.zeros(4, 2),))
    assert errors.item() == 90000.0


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Objective({}), ValueError, r"An objective must have at least one term; got none"),
        (lambda: Objective({"a": 1.0}), TypeError, r"Term 'a' must be a Term; got 1.0"),
        (lambda: Term(1.0, terms.variance, on="y"), ValueError, r"on must be one of .*'h'.*; got 'y'"),
        (lambda: Term(1.0, terms.variance, on=()), ValueError, r"on must name at least one field; got \(\)"),
        (
            lambda: Term(1.0, terms.variance, needs=frozenset({"teacher"})),
            ValueError,
            r"needs must be one of .*; got 'teacher'",
        ),
        (lambda: Term(1.0, "variance"), TypeError, r"fn must be a function; got 'variance'"),
        (lambda: Term("1", terms.variance), TypeError, r"weight must be a number; got '1'"),
        (lambda: Term(float("nan"), terms.variance), ValueError, r"weight must be a finite number; got nan"),
        (
            lambda: Term((1.0, 2.0), terms.invariance),
            ValueError,
            r"weight must be one number; got \(1.0, 2.0\)\. Only terms\.variance",
        ),
        (
            lambda: Term(1.0, partial(terms.variance, per="row")),
            TypeError,
            r"Options of variance must be of 'target', 'eps', 'form'; got 'per'",
        ),
        (lambda: vicreg(convention="x"), ValueError, r"convention must be one of"),
        (lambda: vicreg(std_coeff=-1.0), ValueError, r"std_coeff must be a finite number of at least 0; got -1.0"),
        (lambda: vicreg(eps=0.0), ValueError, r"eps must be a finite number above 0"),
        (lambda: reconstruction(-1.0), ValueError, r"weight must be a finite number of at least 0; got -1.0"),
        (
            lambda: (vicreg() | {"p": Term(1.0, terms.variance, on="p")})(replace(made(), p=None)),
            ValueError,
            r"Outputs.p must be given; got None. The term 'p' acts on it",
        ),
        (
            lambda: Objective({"a": Term(1.0, lambda a, b: a)})(made()),
            ValueError,
            r"Term 'a' must return a 0-dimensional tensor; got \(10, 6\)",
        ),
        (
            lambda: Objective({"a": Term(1.0, lambda a, b: 1.0)})(made()),
            ValueError,
            r"Term 'a' must return a 0-dimensional tensor; got float",
        ),
        (
            lambda: vicreg(std_coeff=(1.0, 2.0))(made(3)),
            ValueError,
            r"Weight of 'variance' must be one number, or one for each of 3 views",
        ),
        (
            lambda: vicreg()(Outputs(x=(), h=(), z=(torch.ones(1, 2), torch.ones(1, 2)))),
            ValueError,
            r"z_a must have at least 2 rows",
        ),
        (
            lambda: mean_squared_error((torch.ones(2),), ()),
            ValueError,
            r"predicted and wanted must have the same shapes",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()

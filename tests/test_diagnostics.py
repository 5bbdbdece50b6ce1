"""The monitor on embeddings that are made up: each failure, alone; what it keeps; what it refuses."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from vicreg import CollapseMonitor, CollapseWarning, VICRegLoss, diagnostics
from vicreg.diagnostics import gradient_shares, look
from vicreg.functional import terms

WEIGHTS = {"invariance": 25.0, "variance": 12.5, "covariance": 1.0}
N, D = 64, 16


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(n=N, d=D, apart=0.3):
    z = normal(n, d)
    return z + apart * normal(n, d, seed=1), z + apart * normal(n, d, seed=2)


def named(*batches, patience=2, **options):
    """What a monitor that looks at every step names, batch after batch; each is a dict or the two views."""
    found = []
    monitor = CollapseMonitor(every=1, patience=patience, notify=found.append, **options)
    for one in batches:
        monitor.update(**one) if isinstance(one, dict) else monitor.update(*one)
    return [(one.step, one.failure, one.where) for one in found]


def test_a_healthy_embedding():
    a, b = pair()
    healthy = {"z_a": a, "z_b": b, "h_a": a[:, :5], "h_b": b[:, :5], "weights": WEIGHTS}
    healthy["terms"] = VICRegLoss().terms(a, b)
    assert named(*[healthy] * 5) == []


def test_norm_collapse_with_and_without_a_target():
    a, b = pair()
    assert named(*[(0.01 * a, 0.01 * b)] * 3) == [(2, "norm collapse", "embedding")]
    assert named(*[(0.01 * a, 0.01 * b)] * 3, variance_target=0.05) == []
    assert named(*[(0.01 * a, 0.01 * b)] * 3, variance_target=None) == []
    assert named(*[(0.01 * a + 1, 0.01 * b + 1)] * 3, variance_target=None) == [(2, "norm collapse", "embedding")]
    assert named(*[(torch.ones(N, D),) * 2] * 3) == [(2, "norm collapse", "embedding")]
    assert named(*[(torch.zeros(N, D),) * 2] * 3, variance_target=None) == [(2, "norm collapse", "embedding")]


@pytest.mark.parametrize("branch", [0, 1])
def test_one_branch(branch):
    views = list(pair())
    views[branch] = torch.full((N, D), 3.0)
    assert named(views, views) == [(2, "one branch collapsed", f"embedding {'ab'[branch]}")]


def test_dead_dimensions_of_embedding_and_representation():
    a, b = pair()
    alive = torch.ones(D)
    alive[:4] = 0
    assert named(*[(a * alive, b * alive)] * 2) == [(2, "dead dimensions", "embedding")]
    representation = {"z_a": a, "z_b": b, "h_a": a * alive, "h_b": b * alive}
    assert named(*[representation] * 2) == [(2, "dead dimensions", "representation")]
    alive[1:4] = 1  # 1 of 16 is less than a tenth
    assert named(*[(a * alive, b * alive)] * 2) == []


@pytest.mark.parametrize(("d", "correlation", "collapsed"), [(16, 0.99, True), (16, 0.3, False), (2, 0.99, True)])
def test_informational_collapse(d, correlation, collapsed):
    shared, own = normal(N, 1, seed=5), normal(N, d, seed=6)
    z = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own
    expected = [(2, "informational collapse", "embedding")] if collapsed else []
    assert named((z, z), (z, z)) == expected
    assert named((z, z), (z, z), variance_target=None) == expected


def test_one_dimension_has_one_direction():
    z = normal(N, 1)
    assert named((z, z), (z, z)) == []
    wide = z.repeat(1, D)
    assert named(*[{"z_a": wide, "z_b": wide, "h_a": z, "h_b": z}] * 2) == []
    assert named(*[{"z_a": wide, "z_b": wide}] * 2) != []


def test_invariance_ignored():
    a, b = pair(apart=1.0)
    without = {"z_a": a, "z_b": b, "weights": WEIGHTS | {"invariance": 0.0}}
    assert named(*[without] * 2) == [(2, "invariance ignored", "embedding")]
    given = {"z_a": a, "z_b": b, "shares": {"invariance": torch.tensor(0.001), "rest": 0.999}}
    assert named(*[given] * 2) == [(2, "invariance ignored", "embedding")]
    assert named(*[without | {"z_b": a}] * 2) == []  # equal views leave it nothing to do
    strangers = (normal(N, D), normal(N, D, seed=9))
    assert named(strangers, strangers) == [(2, "invariance ignored", "embedding")]
    assert named((a, b), (a, b)) == []


def test_covariance_at_its_noise_floor():
    a, b = pair(16, 400)
    assert named(*[(a, b)] * 2) == [(2, "covariance at its noise floor", "embedding")]
    assert named(*[(a, b)] * 2, processes=32) == []  # 512 rows are more than 400 dimensions
    assert named(*[{"z_a": a, "z_b": b, "weights": WEIGHTS | {"covariance": 0.0}}] * 2) == []
    assert named(*[{"z_a": a, "z_b": b, "terms": {"closeness": 1.0, "total": 1.0}}] * 2) == []
    shared = normal(16, 40, seed=3) @ normal(40, 400, seed=4) / 40**0.5 * 3
    assert named(*[(a + shared, b + shared)] * 2) == []


def test_diverging_by_the_total():
    a, b = pair()
    run = [{"z_a": a, "z_b": b, "terms": {"total": total}} for total in (30.0, 20.0, 400.0, 350.0, 10.0)]
    assert named(*run) == [(4, "diverging", "loss")]
    assert named(*run[:2], run[2], run[4]) == []  # a single spike
    nan = [{"z_a": a, "z_b": b, "terms": {"covariance_b": float("nan"), "total": torch.tensor(torch.nan)}}]
    assert named(run[0], *nan * 2) == [(3, "diverging", "loss")]


def test_spikes_between_looks_do_not_count_but_lasting_growth_does():
    a, b = pair()
    found = []
    for totals in ([30.0, 9e9, 20.0, 20.0, 20.0] * 4, [30.0] + [9e9] * 19):
        monitor = CollapseMonitor(every=5, notify=found.append)
        for total in totals:
            monitor.update(a, b, terms={"total": total})
    assert [(one.step, one.failure) for one in found] == [(10, "diverging")]


def test_what_is_not_finite_is_named_at_once_and_nothing_after_it():
    a, b = pair()
    broken = a.clone()
    broken[3, 2] = torch.nan
    flat = torch.ones(N, D)
    assert named((a, b), (broken, b), (flat, flat), (flat, flat)) == [(2, "diverging", "loss")]
    broken[3, 2] = torch.inf
    assert named((broken, b)) == [(1, "diverging", "loss")]


def test_what_mends_is_not_named():
    a, b = pair()
    assert named(*[(s * a, s * b) for s in (0.01, 0.02, 0.04, 0.08, 0.16, 0.5)]) == []
    assert named(*[(s * a, s * b) for s in (0.05, 0.02, 0.01)]) == [(2, "norm collapse", "embedding")]


def test_patience_and_interval():
    flat = torch.ones(N, D)
    assert named(*[(flat, flat)] * 4, patience=1) == [(1, "norm collapse", "embedding")]
    assert named(*[(flat, flat)] * 4, patience=4) == [(4, "norm collapse", "embedding")]
    monitor = CollapseMonitor(every=10, notify=lambda _: None)
    returned = [len(monitor.update(flat, flat)) for _ in range(35)]
    assert [step for step, count in enumerate(returned, 1) if count] == [20]
    assert [one.step for one in monitor.looks] == [10, 20, 30]


def test_steps_of_ones_own():
    monitor = CollapseMonitor(every=100)
    a, b = pair()
    for step in range(30, 400, 30):
        monitor.update(a, b, step=step)
    assert [one.step for one in monitor.looks] == [120, 210, 300]


def test_it_warns_where_it_is_fed():
    flat = torch.ones(N, D)
    monitor = CollapseMonitor(every=1)
    monitor.update(flat, flat)
    with pytest.warns(CollapseWarning, match=r"Step 2: norm collapse \(embedding\)\. .* Raise std_coeff") as caught:
        monitor.update(flat, flat)
    assert caught[0].filename == __file__
    assert issubclass(CollapseWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.update(flat, flat)  # once is enough


def test_notify_may_end_the_run():
    class StopError(Exception):
        pass

    def stop(finding):
        raise StopError(finding.remedy)

    flat = torch.ones(N, D)
    with pytest.raises(StopError, match="std_coeff"):
        CollapseMonitor(every=1, patience=1, notify=stop).update(flat, flat)


def test_the_remedy_suits_the_loss():
    flat = torch.ones(N, D)
    monitor = CollapseMonitor(every=1, patience=1, notify=lambda _: None)
    (found,) = monitor.update(flat, flat, terms={"closeness": 1.0})
    assert "variance term" in found.remedy


def test_it_goes_on_from_a_checkpoint():
    a, b = pair()
    flat = torch.ones(N, D)
    first = CollapseMonitor(every=1, notify=lambda _: None)
    first.update(a, b, terms={"total": 30.0})
    for _ in range(2):
        first.update(flat, flat, terms={"total": 30.0})
    found = []
    second = CollapseMonitor(every=1, notify=found.append)
    second.restore(json.loads(json.dumps(first.plain(), allow_nan=False)))
    assert second.findings == first.findings
    for _ in range(2):
        second.update(flat, flat, terms={"total": 30.0})
    assert found == []
    for _ in range(2):
        second.update(a, b, terms={"total": 1000.0})
    assert [(one.step, one.failure) for one in found] == [(7, "diverging")]


def test_findings_are_json_even_when_nothing_is_finite():
    nan = torch.full((N, D), torch.nan)
    monitor = CollapseMonitor(every=1, notify=lambda _: None)
    monitor.update(nan, nan, terms={"total": torch.nan})
    assert json.loads(json.dumps(monitor.plain(), allow_nan=False))["findings"][0]["value"] is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_graphs_and_local_features(dtype):
    a, b = (one.to(dtype).requires_grad_() for one in pair())
    monitor = CollapseMonitor(every=1)
    with torch.autocast("cpu", torch.bfloat16):
        monitor.update(a, b, h_a=a, h_b=b, weights=WEIGHTS, terms={"total": (a - b).square().mean()})
    monitor.update(a.reshape(N // 4, 4, D), b.reshape(N // 4, 4, D), weights=WEIGHTS)
    same, again = monitor.looks
    assert a.grad is None
    assert same.rows == again.rows == N
    assert same.embedding == again.embedding
    assert sum(same.shares.values()) == pytest.approx(1)


def test_branches_of_different_widths():
    a, b = normal(N, 6), normal(N, 9, seed=1)
    monitor = CollapseMonitor(every=1)
    monitor.update(a, b, weights=WEIGHTS | {"invariance": 0.0})
    assert [one.most_directions for one in monitor.looks[0].embedding] == [6, 9]


def test_readings_of_a_look():
    a, b = pair(200, 10, apart=0.5)
    monitor = CollapseMonitor(every=1)
    monitor.update(a, b, terms=VICRegLoss().terms(a, b))
    seen = monitor.looks[0]
    own = (a - b).square().mean()
    others = torch.cdist(a, b).square() / 10
    others = (others.sum() - others.diagonal().sum()) / (200 * 199)
    assert seen.difference == pytest.approx((own / others).item(), rel=0.01)
    assert seen.embedding[0].deviation == pytest.approx(a.std(dim=0).mean().item(), rel=1e-4)
    correlation = torch.corrcoef(a.mT)
    assert seen.embedding[0].directions == pytest.approx((100 / correlation.square().sum()).item(), rel=1e-4)
    assert seen.terms["total"] == pytest.approx(VICRegLoss()(a, b).item(), rel=1e-5)


def test_a_part_of_a_large_batch_tells_the_same(monkeypatch):
    """The share of noise is that of the whole batch, though a part is looked at."""
    mixed = normal(40, 600, seed=7) / 40**0.5
    z = normal(1500, 40) @ mixed + 0.3 * normal(1500, 600, seed=1)
    part, whole = CollapseMonitor(every=1), CollapseMonitor(every=1)
    part.update(z, z, weights=WEIGHTS)
    monkeypatch.setattr(look, "MOST_ROWS", 10**6)
    monkeypatch.setattr(look, "MOST_COLUMNS", 10**6)
    whole.update(z, z, weights=WEIGHTS)
    a, b = part.looks[0], whole.looks[0]
    assert a.noise == pytest.approx(b.noise, rel=0.15)
    assert a.embedding[0].deviation == pytest.approx(b.embedding[0].deviation, rel=0.05)
    assert part.looks[0].rows == 1500


def test_gradient_shares_are_those_of_autograd():
    a, b = (one.double().requires_grad_() for one in pair(20, 30))
    weighted = {
        "invariance": 25 * terms.invariance(a, b),
        "variance": 12.5 * (terms.variance(a, 2.0) + terms.variance(b, 2.0)),
        "covariance": 3 * (terms.covariance(a) + terms.covariance(b)),
    }
    norms = {name: torch.cat(torch.autograd.grad(value, (a, b))).norm() for name, value in weighted.items()}
    found = gradient_shares(a, b, {"invariance": 25, "variance": 12.5, "covariance": 3}, variance_target=2.0)
    assert list(found) == list(norms)
    for name, norm in norms.items():
        assert found[name].item() == pytest.approx((norm / sum(norms.values())).item(), rel=1e-6)
    assert gradient_shares(a, a, {"invariance": 1.0})["invariance"].item() == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda z, m: CollapseMonitor(every=0), ValueError, "every must be at least 1; got 0"),
        (lambda z, m: CollapseMonitor(patience=1.5), TypeError, "patience must be a whole number"),
        (lambda z, m: CollapseMonitor(variance_target=0), ValueError, "variance_target must be a finite number above"),
        (lambda z, m: CollapseMonitor(notify=3), TypeError, "notify must be a function; got 3"),
        (lambda z, m: m.update(z, z[:3]), ValueError, "z_a and z_b must have as many rows; got 64 and 3"),
        (lambda z, m: m.update(z, None), TypeError, "z_b must be a torch.Tensor; got NoneType"),
        (lambda z, m: m.update(z, z, h_a=z[0]), ValueError, r"h_a must have shape \(n, d\)"),
        (lambda z, m: m.update(z, z, terms={"total": z}), ValueError, r"total must be a 0-dimensional tensor"),
        (lambda z, m: m.update(z, z, terms={"x": "y"}), TypeError, "x must be a number or a 0-dimensional tensor"),
        (lambda z, m: m.update(z, z, weights={"cov": 1}), ValueError, "weights must be of invariance, variance, cov"),
        (lambda z, m: m.update(z, z, weights={"variance": "a"}), TypeError, "weight of variance must be a number"),
        (lambda z, m: m.update(z, z, step=0), ValueError, "step must be at least 1"),
    ],
)
def test_messages(call, error, words):
    with pytest.raises(error, match=words):
        call(normal(N, D), CollapseMonitor(every=1))


def test_nothing_is_read_between_looks(monkeypatch):
    """Between looks no number leaves the device, and no embedding is touched."""

    def fails(*_):
        raise AssertionError

    a, b = pair()
    monitor = CollapseMonitor(every=10)
    for name in ("item", "tolist", "__float__", "__bool__", "square", "mean"):
        monkeypatch.setattr(torch.Tensor, name, fails)
    for _ in range(9):
        monitor.update(a, b, terms={"total": torch.ones(())}, weights=WEIGHTS)
    assert monitor.looks == []


def test_every_limit_is_in_the_docs():
    page = (Path(__file__).parent.parent / "docs" / "diagnostics.md").read_text()
    for failure in diagnostics.failures.FAILURES:
        assert failure.__name__.replace("_", " ").replace("at its floor", "at its noise floor") in page

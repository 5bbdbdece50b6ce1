"""The comparison of objectives is fair, keeps what it found, and says what it measured."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vicreg.objectives import Outputs, objective_of, simclr

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import methods as benchmark
import methods_claims
import methods_cost
import methods_fit
import methods_page
import methods_plan
from methods_fit import METHODS, Fit

DIGITS = ["digits", "satimage", "fashion"]
HEALTHY = {"deviation": 0.9, "directions": 9.0, "width": 16.0, "rankme": 12.0, "correlation": 0.05}


def found_with(linear: float, **changes: object) -> dict:
    return {"linear": linear, "knn": linear, "seconds": 1.0, "findings": [], **HEALTHY, **changes}


@pytest.mark.parametrize("data", DIGITS)
def test_every_method_has_as_many_trials_on_validation_rows(data):
    every = {method: methods_plan.trials(data, method) for method in methods_plan.methods_of(data)}
    assert len({len(set(fits)) for fits in every.values()}) == 1
    for method, fits in every.items():
        assert {fit.judged for fit in fits} == {"valid"}
        assert (fits[0].value, fits[0].rate) == (METHODS[method].values[0], 1e-3)
        assert len({(fit.steps, fit.batch, fit.expander, fit.norm) for fit in fits}) == 1


def test_what_a_term_is_added_to_is_at_its_default_and_has_no_more_rates():
    found = {fit: found_with(i) for i, fit in enumerate(methods_plan.trials("digits", "simsiam"))}
    found |= {fit: found_with(i) for i, fit in enumerate(methods_plan.trials("digits", "byol"))}
    assert methods_plan.plain(found, "digits", "simsiam").rate == 3e-3
    fit = methods_plan.plain(found, "digits", "byol")
    assert (fit.rate, fit.value) == (3e-3, 0.99)


def test_local_features_are_of_pictures_alone():
    assert set(methods_plan.methods_of("fashion")) - set(methods_plan.methods_of("digits")) == {"vicregl"}


@pytest.mark.parametrize("name", METHODS)
def test_the_first_value_of_a_knob_is_the_default_and_the_others_move_only_what_is_named(name):
    method, default = METHODS[name], objective_of(name)
    if method.knob == "temperature":
        z = tuple(torch.randn(9, 4, generator=torch.Generator().manual_seed(i)) for i in range(2))
        totals = [one(Outputs(x=None, h=z, z=z))[0] for one in (method.objective(name, 0.5), simclr(0.5), simclr())]
        assert totals[0] == totals[1] != totals[2]
        return
    assert {key: term.weight for key, term in method.objective(name, method.values[0]).items()} == {
        key: term.weight for key, term in default.items()
    }
    if method.knob == "momentum":
        fit = methods_plan.trials("digits", name)[1]
        assert fit.momentum()(0, 10) == fit.value
    else:
        tried = method.objective(name, 3.0)
        moved = {key for key in default if tried[key].weight == 3 * default[key].weight}
        assert moved == set(method.terms)
        assert all(tried[key].weight == default[key].weight for key in set(default) - moved)


def test_coefficients_are_those_of_vicreg():
    fit = replace(methods_plan.trials("digits", "vicreg")[0], coefficients=(1.0, 10.0, 2.0))
    assert {name: term.weight for name, term in fit.objective().items()} == {
        "invariance": 1.0,
        "variance": 5.0,
        "covariance": 2.0,
    }


def test_tuning_never_sees_test_rows(monkeypatch):
    problem = methods_fit.Columns("digits", None)
    fit, valid, test = (set(problem.rows[name]) for name in ("fit", "valid", "test"))
    assert not fit & valid
    assert not (fit | valid) & test
    assert len(fit | valid | test) == len(problem.labels)
    seen = []
    run, judged = problem.run, methods_fit.judged
    monkeypatch.setattr(problem, "run", lambda one, rows: seen.append(set(rows)) or run(one, rows))
    monkeypatch.setattr(methods_fit, "judged", lambda h, y, *rows: seen.extend(map(set, rows)) or judged(h, y, *rows))
    short = replace(methods_plan.trials("digits", "vicreg")[0], steps=2)
    result = methods_fit.outcome(problem, short)
    assert seen == [fit, fit, valid]
    assert result["width"] == 16
    assert 0 < result["linear"] < 1
    assert result["seconds"] > 0
    del seen[:]
    methods_fit.outcome(problem, replace(short, judged="test"))
    assert seen == [fit | valid, fit | valid, test]


def test_without_norms_a_bias_stands_for_each_and_targets_stay_untrained():
    part = nn.Sequential(nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    model = nn.ModuleList([part, copy.deepcopy(part).requires_grad_(False)])
    weight = part[0].weight.detach().clone()
    stripped = methods_fit.without_norms(model)[0]
    assert not any(isinstance(one, nn.BatchNorm1d) for one in model.modules())
    assert stripped[0].bias.requires_grad
    assert not model[1][0].bias.requires_grad
    x = torch.randn(4, 3)
    assert torch.allclose(stripped[:2](x), x @ weight.T)


def test_squared_correlation_is_numpys():
    h = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 4)) + 3
    others = ~np.eye(4, dtype=bool)
    expected = (np.corrcoef(h.T) ** 2)[others].mean()
    assert methods_fit.squared_correlation(torch.from_numpy(h)) == pytest.approx(expected)
    h[:, 0] = 7
    expected = (np.corrcoef(h[:, 1:].T) ** 2)[others[1:, 1:]].sum() / 12
    assert methods_fit.squared_correlation(torch.from_numpy(h)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda white: white, False),
        (lambda white: 5 + 0.1 * white, True),
        (lambda white: white[:, :1].repeat(1, 16) + 0.01 * white, True),
    ],
)
def test_what_counts_as_collapsed(made, expected):
    h = made(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)).double())
    assert methods_fit.collapsed({name: read(h) for name, read in methods_fit.READINGS.items()}) is expected


def test_a_diverged_run_has_collapsed():
    assert methods_fit.collapsed({"linear": 0.0, "knn": 0.0, "diverged": True})


def test_a_finished_fit_is_kept_and_not_done_again(tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(benchmark, "outcome", lambda problem, fit: done.append(fit) or found_with(0.5))
    fits = methods_plan.trials("digits", "byol")[:2]
    benchmark.Book(tmp_path / "out" / "fits.jsonl").run(None, fits[:1])
    book = benchmark.Book(tmp_path / "out" / "fits.jsonl")
    book.run(None, fits)
    assert done == fits
    assert set(book.found) == set(fits)
    benchmark.once(tmp_path / "other.jsonl", {"defaults": "byol"}, lambda: 1)
    benchmark.once(tmp_path / "other.jsonl", {"defaults": "byol"}, lambda: 2)
    assert benchmark.lines(tmp_path / "other.jsonl") == [{"defaults": "byol", "found": 1}]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [([0.01, 0.02], "holds"), ([-0.01, -0.02], "does not hold"), ([0.03, -0.01], "cannot be told"), ([], "not run")],
)
def test_a_claim_holds_where_every_seed_says_so(differences, expected):
    assert methods_claims.verdict({"": differences}) == expected


def test_groups_that_do_not_agree_are_told_apart():
    assert methods_claims.verdict({"one": [0.1], "two": [0.001], "three": []}) == "one: holds; two: cannot be told"


def whole_study() -> dict[Fit, dict]:
    """A study in which VICReg without variance collapses, the covariance adds ten points, and batches do not matter."""
    found: dict[Fit, dict] = {}
    for method in methods_plan.methods_of("digits"):
        for i, fit in enumerate(methods_plan.trials("digits", method)):
            found[fit] = found_with(0.9 + 0.001 * i)
        for fit in methods_plan.seeded(methods_plan.best(found, methods_plan.trials("digits", method)), 3):
            found[fit] = found_with(0.9 + 0.05 * method.endswith("variance") + 0.001 * fit.seed)
    for name in methods_plan.ADDED_TO:
        for fit in methods_plan.seeded(methods_plan.plain(found, "digits", name), 3):
            found[fit] = found_with(0.9 + 0.001 * fit.seed)
    found |= {fit: found_with(0.9) for fit in methods_plan.batch_trials(found)}
    found |= {fit: found_with(0.7, correlation=0.3) for fit in methods_plan.references("digits", 16, 3)}
    for kind, fits in methods_plan.ablations(found).items():
        for name, one in fits.items():
            for fit in methods_plan.seeded(one, 3):
                poor = kind == "coefficients" and "/0/" in name
                linear = 0.3 if poor else 0.8 if name == "25/25/0" else 0.9
                found.setdefault(fit, found_with(linear, **({"deviation": 0.01} if poor else {})))
    return found


def test_the_page_says_what_was_found_and_keeps_the_words_above_it(tmp_path):
    path = tmp_path / "methods.md"
    defaults = [{"defaults": "byol", "found": {"method": "byol", "collapsed": False, **found_with(0.95)}}]
    methods_page.write(path, {}, [])
    methods_page.write(path, whole_study(), defaults)
    said = path.read_text()
    assert "**Not finished**: satimage, Fashion-MNIST, the command line's defaults, cost." in said
    rows = {row.split(" | ")[0].strip("| "): row for row in said.splitlines() if row.startswith("|")}
    prevented = rows["the variance term prevents collapse"]
    assert "25/25/1: 0 of 3 collapsed, linear .900; 25/0/1: 3 of 3 collapsed, linear .300" in prevented
    assert prevented.endswith("| holds |")
    assert "+10.0 [+10.0, +10.0] | holds |" in rows["the covariance term adds accuracy"]
    assert rows["robust to batch size"].endswith("| holds |")
    assert "digits +5.0 [+5.0, +5.0] | holds |" in rows["a variance term helps byol"]
    assert rows["wider expanders help"].endswith("| cannot be told |")
    assert "| .901 ± .001 |" in rows["simclr"] or "| .901 ± .001 |" in said
    assert "| .300 ± .000 |" in rows["digits"] or ".050 ± .000" in rows["digits"]
    path.write_text(said.replace("# The objectives on equal terms", "# Ours\n\nWords."))
    methods_page.write(path, whole_study(), defaults)
    assert path.read_text().startswith("# Ours\n\nWords.")
    assert path.read_text().count(methods_page.MARK) == 1


def test_a_step_is_measured_with_and_without_its_objective():
    problem = methods_fit.Columns("digits", None)
    fits = [methods_plan.trials("digits", method)[0] for method in ("byol", "vicreg")]
    rows = methods_cost.steps(problem, fits, seconds=0.01, least=1)
    assert [row["method"] for row in rows] == ["byol", "vicreg"]
    assert all(row["networks"]["median"] > 0 and row["bytes"] > 2**20 for row in rows)


def test_the_command_needs_no_data_to_write_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["methods.py", "--docs", str(tmp_path), "--out", str(tmp_path)])
    benchmark.main()
    said = (tmp_path / "methods.md").read_text()
    assert said.startswith("# The objectives on equal terms")
    assert (
        "**Not finished**: digits, satimage, Fashion-MNIST, the ablations, the command line's defaults, cost." in said
    )

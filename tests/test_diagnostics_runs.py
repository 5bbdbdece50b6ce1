"""The monitor on real runs: each failure made on purpose is named, and no other; healthy runs are left in peace."""

import json
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import QUICK, people, run
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from torch import nn

from vicreg import CollapseWarning, Objective, Term, VICReg
from vicreg.functional import terms
from vicreg.objectives import vicreg
from vicreg.training import progress
from vicreg.training.config import TableConfig
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.training.progress import Pace, terms_in_words
from vicreg.training.table import table_run
from vicreg.views import table_views

SMALL = {
    "n_components": 8,
    "encoder": (32,),
    "expander": (64, 64),
    "decoder": (32,),
    "batch_size": 64,
    "learning_rate": 0.01,
    "steps": 150,
}
PAPER = {"reconstruction": 0.0, "linear_path": False}


def wine():
    return load_wine().data


def noise(columns=12, rows=300):
    return np.random.default_rng(0).normal(size=(rows, columns))


def named(X, **parameters):
    """The failures that a fit warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VICReg(**{**SMALL, **parameters}, random_state=0).fit(X)
    assert all(one.category is CollapseWarning for one in caught)
    return [re.match(r"Step \d+: (.*?)\. ", str(one.message))[1] for one in caught]


class Constant(nn.Module):
    """An encoder that sees nothing."""

    def __init__(self, columns):
        super().__init__()
        self.layer = nn.Linear(columns, 8)

    def forward(self, x):
        return self.layer(x * 0)


class Narrow(nn.Module):
    """An encoder of which half the outputs are always 0."""

    def __init__(self, columns):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(columns, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, x):
        h = self.layers(x)
        return torch.cat((h, 0 * h), dim=1)


FAILING = {
    "norm collapse (embedding)": [{"std_coeff": 0.0}, {"std_coeff": 0.0, **PAPER}],
    "informational collapse (embedding)": [{"cov_coeff": 0.0}, {"cov_coeff": 0.0, **PAPER}],
    "invariance ignored (embedding)": [{"sim_coeff": 0.0}, {"sim_coeff": 0.0, **PAPER}],
    "diverging (loss)": [{"learning_rate": 30.0}],
}
EACH = [(failure, one) for failure, several in FAILING.items() for one in several]


@pytest.mark.parametrize(("failure", "parameters"), EACH)
def test_what_is_broken_on_purpose_is_named_and_nothing_else(failure, parameters):
    assert named(wine(), **parameters) == [failure]


def test_a_width_beyond_a_small_batch_is_named():
    wide = {"batch_size": 8, "expander": (256, 2048), "learning_rate": 1e-3}
    assert named(noise(), **wide) == ["covariance at its noise floor (embedding)"]


def test_a_constant_branch_and_dead_dimensions_are_named():
    bare = {"expander": (), "reconstruction": 0.0}
    constant = [nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 8)), Constant(12)]
    assert named(noise(), shared=False, encoder=constant, **bare) == ["one branch collapsed (embedding b)"]
    assert named(noise(), encoder=Narrow(12), **bare) == ["dead dimensions (embedding)"]


@pytest.mark.parametrize(
    ("X", "parameters"),
    [
        (load_digits().data[:400], {}),
        (load_iris().data, {}),
        (wine(), {}),
        (wine(), PAPER),
        (wine(), {"shared": False}),
        (wine(), {"views": "identity"}),
        (wine(), {"expander": (), **PAPER}),
        (noise(), {}),
        (noise(1), {}),
        (noise(), {"n_components": 1}),
        (noise(), {"n_components": 2}),
        (noise(60, rows=40), {}),
    ],
)
def test_healthy_runs_are_left_in_peace(X, parameters):
    assert named(X, **parameters) == []


@pytest.mark.slow
@pytest.mark.parametrize("data", [load_digits, load_wine, load_iris, load_breast_cancer])
@pytest.mark.parametrize("seed", range(2))
def test_the_defaults_are_left_in_peace(data, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        VICReg(random_state=seed).fit(data().data)


DEFAULTS = {name: getattr(TableConfig(), name) for name in SMALL}


@pytest.mark.slow
@pytest.mark.parametrize(("failure", "parameters"), EACH)
def test_they_are_named_at_the_defaults(failure, parameters):
    assert named(load_digits().data, **{**DEFAULTS, **parameters}) == [failure]


def test_the_monitor_changes_nothing():
    X = noise(6, rows=80).astype(np.float32)
    views = table_views("marginal")
    config = TableConfig(n_components=2, encoder=(8,), expander=(8,), decoder=(8,), steps=60, batch_size=32)
    weights = []
    for watched in (False, True):
        training = table_run(config, X, np.arange(6), views)
        monitor = monitor_of(training.objective, print)
        state = training.train([monitored(monitor, training.objective)] if watched else [])
        weights.append(torch.cat([one.flatten() for one in state.model.parameters()]))
        assert len(monitor.looks) == watched
    assert torch.equal(*weights)
    last = monitor.looks[-1]
    assert last.step == 50
    assert set(last.terms) == set(state.names)
    assert sum(last.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("objective", "target", "weights"),
    [
        (vicreg(10, 30, 2, 0.5), 0.5, {"invariance": 10, "variance": 15, "covariance": 2}),
        (vicreg(25, (20, 30), 1, (1.0, 3.0)), 2.0, {"invariance": 25, "variance": 12.5, "covariance": 1}),
        (vicreg(1, 1, 1, convention="paper"), 1.0, {"invariance": 16, "variance": 1, "covariance": 1}),
        (Objective({"closeness": Term(1.0, lambda a, b: (a - b).abs().mean())}), None, {}),
        (Objective({"variance": Term(1.0, terms.variance, on="h")}), None, {}),
    ],
)
def test_what_the_monitor_is_told_of_an_objective(objective, target, weights, monkeypatch):
    X = noise(4, rows=20).astype(np.float32)
    config = TableConfig(n_components=2, encoder=(8,), expander=(16,), steps=1, batch_size=16, reconstruction=0.0)
    training = table_run(config, X, np.arange(4), table_views("marginal"), chosen=objective)
    monitor = monitor_of(objective, print)
    assert monitor.variance_target == target
    told = []
    monkeypatch.setattr(monitor, "update", lambda *_, **named: told.append(named))
    training.train([monitored(monitor, objective)])
    assert told[0]["weights"] == weights
    assert told[0]["step"] == 1


COLLAPSING = ["--std-coeff", "0", "--reconstruction", "0", "--no-linear-path", "--learning-rate", "0.03"]
LONGER = [*COLLAPSING, "--steps", "200", *QUICK[2:]]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people(120).to_csv("people.csv", index=False)
    return tmp_path / "runs" / "people"


def test_a_run_says_what_failed_and_keeps_it(table, capsys):
    assert run("fit", "people.csv", "--labels", "kind", *LONGER) == 0
    said = capsys.readouterr().out
    assert said.count("norm collapse (embedding)") == 2  # at once, and in the end
    assert "Raise std_coeff" in said
    kept = json.loads((table / "warnings.json").read_text())["warnings"]
    assert [(one["failure"], one["where"]) for one in kept] == [("norm collapse", "embedding")]
    assert kept[0]["step"] in range(100, 201)
    assert f"Step {kept[0]['step']}: " in said


def test_stop_on_collapse_ends_the_run_and_leaves_the_checkpoint(table, capsys):
    assert run("fit", "people.csv", "--labels", "kind", "--stop-on-collapse", *LONGER) == 2
    said = capsys.readouterr().err
    step = int(re.search(r"Stopped and saved at step (\d+) of 200\.", said)[1])
    assert step < 200
    assert "norm collapse" in said
    assert "with --resume and without --stop-on-collapse" in said
    assert json.loads((table / "warnings.json").read_text())["warnings"][0]["step"] == step
    assert (table / "checkpoint" / "last.safetensors").exists()
    assert not (table / "encoder.safetensors").exists()
    assert run("fit", "people.csv", "--resume") == 0
    said = capsys.readouterr().out
    assert f"Going on from step {step} of 200" in said
    assert said.count("norm collapse") == 1  # it is known, and told again in the end
    assert (table / "encoder.safetensors").exists()


def test_a_healthy_run_is_not_stopped_and_leaves_no_warnings(table, capsys):
    assert run("fit", "people.csv", "--stop-on-collapse", "--labels", "kind", *QUICK) == 0
    assert not (table / "warnings.json").exists()


def test_a_run_that_diverges_leaves_nothing_of_the_monitors(table, capsys):
    assert run("fit", "people.csv", "--learning-rate", "1e30", "--steps", "300", *QUICK[2:]) == 2
    assert "training must stay finite" in capsys.readouterr().err
    assert not table.exists()


def test_progress_shows_the_covariance_above_its_noise_floor():
    """On white embeddings it is about 0, where the term itself is (d - 1) / (n - 1)."""

    class White:
        joint = type("Joint", (), {"z": tuple(torch.randn(2, 64, 512, generator=torch.Generator().manual_seed(0)))})
        names = ("invariance", "covariance_a", "covariance_b", "total")
        step = 1
        terms = torch.tensor([[0.5, *(terms.covariance(z) for z in joint.z), 1.0]])

    assert "excess covariance" in terms_in_words(White)
    said = dict(re.findall(r"(\w+) (-?\d\S*)", terms_in_words(White)))
    assert White.terms[0, 1].item() == pytest.approx(511 / 63, rel=0.05)
    assert abs(float(said["covariance"])) < 0.1
    assert (said["invariance"], said["total"]) == ("0.5", "1")
    White.joint = None
    assert float(dict(re.findall(r"(\w+) (-?\d\S*)", terms_in_words(White)))["covariance"]) > 7


def test_a_long_run_says_once_how_long_it_will_take(monkeypatch):
    """One step in 40 seconds, and the first one longer; then a second run that is short."""
    clock, said = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    pace = Pace(said.append, "--steps shortens it")

    def run(steps, seconds):
        for step in range(1, steps + 1):
            clock[0] += 100 if step == 1 else seconds
            pace(SimpleNamespace(step=step, steps=steps))

    run(183, 40)  # after the third step 180 are left
    assert said == ["About 2 hours left at this pace; --steps shortens it."]
    run(14, 40)
    assert len(said) == 1
    run(10_000, 0.01)  # 100 seconds
    assert len(said) == 1
    run(100_000, 0.1)  # told after 15 seconds
    assert said[1:] == ["About 3 hours left at this pace; --steps shortens it."]

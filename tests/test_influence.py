"""Which columns drive a representation: against closed forms, finite differences and a shuffle by hand."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import QUICK, ROWS, people, run
from torch import nn

from vicreg import VICReg
from vicreg.data import as_frame, fit_spec
from vicreg.inference import column_influence, spread_rows


def mixed(rows=200):
    """Numbers, gaps, categories and a constant, with names that are hostile."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "<script>alert(1)</script>": draw.normal(size=rows),
            "constant": 1.0,
            'a,"b"\nc': np.where(draw.random(rows) < 0.2, np.nan, draw.normal(size=rows)),
            "city": np.array(["Bonn", "Lyon", "Oslo"])[draw.integers(0, 3, rows)],
        }
    )


def encoder(spec, width=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(len(spec.sources), 16), nn.Tanh(), nn.Linear(16, width)).eval()


def test_the_jacobian_is_that_of_finite_differences():
    frame = as_frame(mixed())
    spec = fit_spec(frame)
    x, network = spec.apply(frame), encoder(spec).double()
    found = column_influence(network.float(), spec, x)
    network.double()
    rows = torch.from_numpy(x).double()
    slopes = np.zeros((3, len(spec.sources)))
    for feature in range(len(spec.sources)):
        step = torch.zeros_like(rows)
        step[:, feature] = 1e-5
        with torch.no_grad():
            slope = (network(rows + step) - network(rows - step)) / 2e-5
        slopes[:, feature] = slope.square().mean(0).sqrt().numpy() * x[:, feature].astype(float).std()
    each = np.stack([slopes[:, spec.sources == column].sum(1) for column in range(4)])
    np.testing.assert_allclose(found.components, each / each.sum(0), rtol=1e-4, atol=1e-7)
    norms = np.sqrt((slopes**2).sum(0))
    whole = np.array([norms[spec.sources == column].sum() for column in range(4)])
    np.testing.assert_allclose(found.jacobian, whole / whole.sum(), rtol=1e-4, atol=1e-7)
    assert found.columns == tuple(mixed().columns)


def test_the_permutation_is_the_mean_over_all_exchanges():
    """One round through all rows stands for all pairs of rows, within what chance allows."""
    frame = as_frame(mixed(500))
    spec = fit_spec(frame)
    x, network = spec.apply(frame), encoder(spec)
    found = column_influence(network, spec, x)
    some = torch.from_numpy(x[::5])
    with torch.no_grad():
        h = network(torch.from_numpy(x)).numpy()
        for column in range(4):
            mine = spec.sources == column
            moved = some.repeat_interleave(len(some), 0)
            moved[:, mine] = some.repeat(len(some), 1)[:, mine]
            way = (network(moved) - network(some).repeat_interleave(len(some), 0)).square().sum(1).mean()
            expected = float(way) / h.var(0).sum()
            assert found.displacement[column] == pytest.approx(expected, rel=0.25, abs=1e-6)
    np.testing.assert_allclose(found.permutation, found.displacement / found.displacement.sum())


def test_a_linear_encoder_in_closed_form():
    rows = np.random.default_rng(0).normal(size=(4000, 3))
    spec = fit_spec(as_frame(rows))
    linear = nn.Linear(3, 2, bias=False)
    linear.weight.data = torch.tensor([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]])
    found = column_influence(linear, spec, spec.apply(as_frame(rows)))
    np.testing.assert_allclose(found.displacement, 2 * np.array([9, 17, 0]) / 26, rtol=0.15)
    np.testing.assert_allclose(found.jacobian, np.array([3, 17**0.5, 0]) / (3 + 17**0.5), atol=0.02)
    np.testing.assert_allclose(found.components.T, [[3 / 7, 4 / 7, 0], [0, 1, 0]], atol=0.02)
    assert found.order().tolist() == [1, 0, 2]


def test_what_looks_at_nothing_has_no_influence():
    rows = np.random.default_rng(0).normal(size=(30, 2))
    spec = fit_spec(as_frame(rows))
    linear = nn.Linear(2, 2)
    nn.init.zeros_(linear.weight)
    found = column_influence(linear, spec, spec.apply(as_frame(rows)))
    for shares in (found.permutation, found.jacobian, *found.components.T):
        assert shares.tolist() == [0, 0]
    one = column_influence(encoder(spec), spec, spec.apply(as_frame(rows[:1])))
    assert one.permutation.tolist() == [0, 0]


def test_an_encoder_without_a_derivative_says_so():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.detach().round()

    rows = np.random.default_rng(0).normal(size=(30, 2))
    spec = fit_spec(as_frame(rows))
    with pytest.raises(RuntimeError, match="does not require grad"):
        column_influence(Rounded(), spec, spec.apply(as_frame(rows)))


def test_rows_are_few_and_a_copy():
    x = np.zeros((2000, 2), np.float32)
    some = spread_rows(x)
    assert some.shape == (500, 2)
    some[0] = 1
    assert x[0, 0] == 0


def test_many_columns_take_no_longer_than_few():
    draw = np.random.default_rng(0)
    spec = fit_spec(as_frame(draw.normal(size=(600, 400))))
    network, x = encoder(spec, 32), draw.normal(size=(600, 400)).astype(np.float32)
    seen = []
    network.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    column_influence(network, spec, x)
    assert sum(seen) * 400 < 3 * 2**24


def test_the_command_line_and_the_estimator_say_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = people(ROWS).drop(columns=["kind", "number"])
    table.to_csv("people.csv", index=False)
    assert run("fit", "people.csv", "--seed", "3", *QUICK) == 0
    with Path("runs/people/portrait/influence.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    model = VICReg(2, encoder=(8,), expander=(8, 8), decoder=(8,), steps=4, random_state=3)
    found = model.fit(pd.read_csv("people.csv")).column_influence_
    assert [line["column"] for line in lines] == list(found.columns) == list(table.columns)
    np.testing.assert_array_equal([float(line["permutation"]) for line in lines], found.permutation)
    np.testing.assert_array_equal([float(line["jacobian"]) for line in lines], found.jacobian)
    for k in range(2):
        np.testing.assert_array_equal([float(line[f"component {k}"]) for line in lines], found.components[:, k])


def test_of_a_stream_it_is_measured_on_rows_of_all_parts():
    draw = np.random.default_rng(0)
    model = VICReg(2, views="marginal", encoder=(8,), expander=(8,), decoder=(8,), batch_size=64, random_state=0)
    assert not hasattr(model, "column_influence_")
    for _ in range(3):
        model.partial_fit(draw.normal(size=(400, 3)))
    assert 200 <= len(model._some) <= 512
    assert model.column_influence_.permutation.sum() == pytest.approx(1)
    before = dict(vars(model))
    _ = model.column_influence_
    assert vars(model).keys() == before.keys()

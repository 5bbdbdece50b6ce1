"""Runs whose batches pass through the networks in micro-batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import people, run
from torch import nn

from vicreg.training.config import TableConfig
from vicreg.training.table import one_pass, table_run
from vicreg.views import table_views


def table(steps=12, batch_size=32, rows=100, encoders=(), **settings):
    small = {"n_components": 3, "encoder": (16,), "expander": (16, 16), "decoder": (16,), "device": "cpu"}
    config = TableConfig(steps=steps, batch_size=batch_size, **small | settings)
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    return config, x, table_run(config, x, np.arange(5), table_views("neighbors"), encoders)


def without_norm(**settings):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))
    return table(encoders=[encoder], expander=(16,), decoder=(), **settings)[2]


@pytest.mark.parametrize("count", [2, 5, 16])
def test_a_run_without_batch_norm_is_the_same_in_micro_batches(count):
    whole, cut_up = without_norm().train(), without_norm(accumulate=count).train()
    assert not any(isinstance(one, nn.BatchNorm1d) for one in whole.model.modules())
    assert not torch.equal(whole.terms, cut_up.terms)  # rounding
    torch.testing.assert_close(cut_up.terms, whole.terms, rtol=1e-4, atol=1e-5)
    weights = (state.model.encoder.state_dict() for state in (cut_up, whole))
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def batches_seen(run):
    seen = []
    run.state.model.branches[0].encoder.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    run.train()
    return seen


def test_the_networks_see_micro_batches_twice():
    assert batches_seen(table(steps=1)[2]) == [32] * 2  # two views
    assert batches_seen(table(steps=1, accumulate=3)[2]) == [11, 11, 11, 11, 10, 10] * 2


def test_running_statistics_are_updated_once_for_each_micro_batch():
    state = table(steps=5, accumulate=4)[2].train()
    norms = [one for one in state.model.branches.modules() if isinstance(one, nn.BatchNorm1d)]
    assert {int(one.num_batches_tracked) for one in norms} == {5 * 4 * 2}


def test_fewer_rows_are_cut_into_fewer():
    assert set(batches_seen(table(steps=1, rows=7, accumulate=16)[2])) == {2, 3}
    assert set(batches_seen(table(steps=1, rows=3, accumulate=16)[2])) == {3}
    config, x, run = table(accumulate=8)
    part = one_pass(run.state, config, x[:5], np.arange(5), table_views("marginal"))
    assert set(batches_seen(part)) == {2, 3}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_resumed_in_micro_batches_is_bit_identical(precision):
    settings = {"accumulate": 3, "precision": precision}
    whole, stopped = table(**settings)[2].train(), table(**settings)[2]
    kept = {}

    def stop(state):
        if state.step == 7:
            kept.update(tensors={name: one.clone() for name, one in state.tensors().items()}, plain=state.plain())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.train([stop])
    again = table(**settings)[2]
    again.state.restore(kept["tensors"], kept["plain"])
    again.train()
    assert torch.equal(whole.terms, again.state.terms)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.state.model.state_dict()[name]), name


def test_the_engine_leaves_the_global_generators():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (table(accumulate=4)[2].train() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.terms, two.terms)


def test_micro_batches_of_one_row_are_refused():
    said = "accumulate must be at most half of batch_size = 32; got 17. Batch norm needs two rows in a micro-batch."
    with pytest.raises(ValueError, match=said):
        TableConfig(batch_size=32, accumulate=17).check()
    with pytest.raises(ValueError, match="accumulate must be at least 1; got 0"):
        TableConfig(accumulate=0).check()


def test_the_command_line_knows_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    people(60).to_csv("people.csv", index=False)
    quick = ["--steps", "3", "--encoder", "8", "--expander", "8", "8", "--exclude", "secret", "kind"]
    assert run("fit", "people.csv", *quick, "--accumulate", "4") == 0
    assert yaml.safe_load(Path("runs/people/config.yaml").read_text())["settings"]["accumulate"] == 4
    assert run("fit", "people.csv", "--accumulate", "129", "--out", "other") == 2
    assert "accumulate must be at most half of batch_size = 256; got 129" in capsys.readouterr().err

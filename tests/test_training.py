"""Settings, schedule and the loop."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from vicreg.loss import VICRegLoss
from vicreg.objectives import Outputs, anchor
from vicreg.training.config import TableConfig
from vicreg.training.engine import device_of
from vicreg.training.feed import Order, every_row, full_batches
from vicreg.training.optim import one_cycle, parameter_groups
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.training.table import one_pass, table_run, whitened_pca
from vicreg.views import table_views


def small(steps=12, seed=0, **settings):
    config = TableConfig(n_components=3, steps=steps, batch_size=32, encoder=(16,), expander=(16, 16), decoder=(16,),
                         seed=seed, device="cpu", **settings)  # fmt: skip
    x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    return config, x, table_run(config, x, np.arange(5), table_views("neighbors"))


def test_yaml_comes_back():
    config = TableConfig(steps=7, encoder=(3, 4), n_components=None, view_rate=0.25)
    assert from_mapping(yaml.safe_load(yaml.safe_dump(to_mapping(config))), TableConfig) == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"stesp": 1}, "a setting must be one of .*; got 'stesp'"),
        ({"steps": "many"}, "steps must be of type int; got 'many'"),
        ({"steps": True}, "steps must be of type int; got True"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"encoder": 128}, "encoder must be a list of whole numbers; got 128"),
        ({"encoder": ["a"]}, "encoder must be a list of whole numbers"),
        ({"precision": "8"}, "precision must be one of"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0; got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2; got 1"),
        (["steps"], r"settings must be a mapping of names to values; got \['steps'\]"),
    ],
)
def test_wrong_settings_are_named(values, said):
    with pytest.raises(ValueError, match=said):
        from_mapping(values, TableConfig)


def test_epochs_become_steps():
    assert TableConfig(epochs=3, batch_size=10).steps_for(105) == 30
    assert TableConfig(epochs=3, batch_size=10).steps_for(4) == 3
    assert TableConfig(steps=5).steps_for(1000) == 5


def test_one_cycle_is_pytorch_s():
    steps = 200
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, steps, cycle_momentum=False)
    for step in range(steps):
        assert one_cycle(step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_one_cycle_of_few_steps_is_finite(steps):
    assert all(0 <= one_cycle(step, steps) <= 1 for step in range(steps))


def test_only_matrices_decay():
    groups = parameter_groups(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), 0.1)
    assert [len(group["params"]) for group in groups] == [1, 3]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_each_epoch_sees_each_row_at_most_once():
    order = Order(full_batches(10, 3), 10, seed=0)
    epochs = [torch.cat([order.rows(3 * epoch + index) for index in range(3)]) for epoch in range(4)]
    assert all(len(rows.unique()) == 9 for rows in epochs)
    assert len({tuple(rows.tolist()) for rows in epochs}) == 4
    assert len(Order(full_batches(2, 30), 2, seed=0).rows(0)) == 2


def test_the_same_seed_gives_the_same_run_and_leaves_the_global_generators():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  # the generator that must not change
    before, np_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one = small()[2].train()
    assert torch.equal(before, torch.get_rng_state())
    assert (np_before == np.random.get_state()[1]).all()  # noqa: NPY002
    torch.rand(3)
    two = small()[2].train()
    assert torch.equal(one.terms, two.terms)
    assert not torch.equal(one.terms, small(seed=1)[2].train().terms)


def test_resumed_is_bit_identical_to_uninterrupted():
    whole = small()[2].train()
    stopped = small()[2]
    kept = {}

    def stop(state):
        if state.step == 7:
            kept.update(tensors={k: v.clone() for k, v in state.tensors().items()}, plain=state.plain())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.train([stop])
    again = small()[2]
    again.state.restore(kept["tensors"], kept["plain"])
    assert again.state.step == 7
    again.train()
    assert torch.equal(whole.terms, again.state.terms)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.state.model.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused():
    state = small()[2].train()
    with pytest.raises(ValueError, match="checkpoint must be of a run of 13 steps; got 12"):
        small(steps=13)[2].state.restore(state.tensors(), state.plain())
    tensors = {name: value for name, value in state.tensors().items() if "encoder" not in name}
    with pytest.raises(ValueError, match="checkpoint must fit the run's networks"):
        small()[2].state.restore(tensors, state.plain())


def test_learning_lowers_the_objective():
    state = small(steps=300)[2].train()
    total = state.history()["total"]
    assert np.mean(total[-20:]) < np.mean(total[:20])


def test_a_stream_goes_on_where_it_was():
    config, x, run = small()
    views = table_views("marginal")
    one_pass(run.state, config, x, np.arange(5), views).train()
    assert run.state.step == 4
    one_pass(run.state, config, x[:7], np.arange(5), views).train()
    assert run.state.step == 5
    assert len(run.state.history()["total"]) == 5


def test_one_row_cannot_be_learnt_from():
    config, x, _ = small()
    with pytest.raises(ValueError, match="X must hold at least 2 rows to learn from; got n_samples = 1"):
        table_run(config, x[:1], np.arange(5), table_views("identity"))


def test_an_unknown_device_is_named():
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:N or mps; got 'abacus'"):
        device_of("abacus")
    with pytest.raises(ValueError, match="device must be auto or a device of this machine; got 'cuda:99'"):
        device_of("cuda:99")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:N or mps; got 'meta'"):
        device_of("meta")
    assert device_of("cpu").type == "cpu"


def test_every_row_of_a_part_is_learnt_from():
    config, x, run = small()
    for rows in (2, 33, 63, 64, 65, 100):
        part = one_pass(run.state, config, x[:rows], np.arange(5), table_views("marginal"))
        seen = []
        begun, order = part.state.step, part.feed.order
        rows_of, order.rows = order.rows, lambda step: seen.append(rows_of(step)) or seen[-1]  # noqa: B023
        part.train()
        assert sorted(torch.cat(seen).tolist()) == list(range(rows))
        assert all(2 <= len(batch) <= 33 for batch in seen)
        assert part.state.step - begun == len(seen) == max(1, -(-rows // 32))


@given(st.integers(2, 300), st.integers(2, 40))
def test_the_cuts_of_a_pass(n_rows, batch_size):
    sizes = np.diff(every_row(n_rows, batch_size))
    assert sizes.sum() == n_rows
    assert sizes.min() >= 2
    assert sizes.max() <= max(batch_size, 3)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": (8, 0)}, "each width in encoder must be at least 1; got 0"),
        ({"expander": (0,)}, "each width in expander must be at least 1; got 0"),
        ({"decoder": (-1,)}, "each width in decoder must be at least 1; got -1"),
        ({"seed": -1}, "seed must lie between 0 and 9223372036854775806; got -1"),
        ({"seed": 2**63 - 1}, "seed must lie between 0 and 9223372036854775806"),
        ({"views": "nonsense"}, "views must be one of"),
        ({"view_rate": 2.0}, "view_rate must be a finite number of at least 0 and at most 1; got 2.0"),
        ({"views": "walk", "view_rate": 2.7}, "view_rate must be a whole number of steps"),
        ({"objective": "nonsense"}, "objective must be one of .*'vicreg'.*; got 'nonsense'"),
        ({"reconstruction": -1.0}, "reconstruction must be a finite number of at least 0; got -1"),
        ({"sim_coeff": -1.0}, "sim_coeff must be a finite number of at least 0; got -1"),
        ({"std_coeff": -1.0}, "std_coeff must be a finite number of at least 0; got -1"),
        ({"cov_coeff": float("nan")}, "cov_coeff must be a finite number of at least 0; got nan"),
        ({"variance_target": -1.0}, "variance_target must be a finite number of at least 0; got -1"),
        ({"weight_decay": -1.0}, "weight_decay must be a finite number of at least 0; got -1"),
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"device": "meta"}, "device must be auto, cpu, cuda, cuda:N or mps; got 'meta'. Try device='cpu'"),
        ({"device": "cuda:x"}, "device must be auto, cpu, cuda, cuda:N or mps; got 'cuda:x'"),
        ({"shared": "no"}, "shared must be of type bool; got 'no'"),
    ],
)
def test_check_knows_every_range(settings, said):
    with pytest.raises(ValueError, match=said):
        TableConfig(**settings).check()


def test_devices_of_every_form_pass_the_check():
    for device in ("auto", "cpu", "cuda", "cuda:1", "mps"):
        assert TableConfig(device=device).check().device == device


def test_half_precision_needs_a_gpu():
    with pytest.raises(ValueError, match="precision must be '32-true' or 'bf16-mixed' on the CPU; got '16-mixed'"):
        small(precision="16-mixed")


def test_the_settings_weights_are_those_of_the_loss():
    loss, config = inspect.signature(VICRegLoss).parameters, TableConfig()
    for name in ("sim_coeff", "std_coeff", "cov_coeff", "variance_target"):
        assert loss[name].default == getattr(config, name)


@pytest.mark.parametrize("steps", [12, 250])
def test_a_diverged_run_is_refused(steps):
    with pytest.raises(ValueError, match=r"training must stay finite; got (NaN|infinity) at step \d+\. Lower learning"):
        small(steps=steps, learning_rate=1e30)[2].train()


def test_divergence_is_found_within_a_hundred_steps_and_dated():
    run = small(steps=1000)[2]

    def break_it(state):
        if state.step == 130:
            next(state.model.parameters()).data.fill_(float("nan"))

    with pytest.raises(ValueError, match=r"training must stay finite; got NaN at step 131\. Lower learning_rate\."):
        run.train([break_it])
    assert run.state.step == 200


def test_a_last_step_that_breaks_the_weights_is_found():
    """The total of a step is that before its update."""
    run = small()[2]
    broken = replace(run, how=replace(run.how, schedule=lambda step, steps: 1e45 if step == steps - 1 else 1e-3))
    with pytest.raises(ValueError, match="training must stay finite; got NaN at step 12. Lower learning_rate."):
        broken.train()


def test_a_copied_run_goes_on_apart():
    config, x, run = small()
    state = run.train()
    views = table_views("marginal")
    one = one_pass(state.copied(), config, x, np.arange(5), views).train()
    assert state.step == 12
    assert not torch.equal(state.model.encoder.linear.weight, one.model.encoder.linear.weight)
    again = one_pass(state, config, x, np.arange(5), views).train()
    assert torch.equal(again.terms[:16], one.terms[:16])


def test_the_anchor_asks_a_linear_read_out_for_whitened_pca():
    """Against scikit-learn's whitened scores: an exact read-out costs nothing, a shifted one its shift squared."""
    x = (np.random.default_rng(0).normal(size=(60, 4)) * [1, 2, 3, 4]).astype(np.float32)
    projection, offset = map(torch.from_numpy, whitened_pca(x, 2))
    scores = torch.from_numpy(PCA(2, whiten=True).fit_transform(x))
    signs = torch.sign((scores * (torch.from_numpy(x) @ projection.T + offset)).sum(0))
    rows = torch.from_numpy(x)
    objective = anchor(3.0, projection, offset)
    for shift in (0.0, 2.0):
        decoded = torch.cat((torch.full_like(rows, 7.0), (scores * signs + shift).float()), dim=1)
        total, _ = objective(Outputs(x=(rows,) * 2, h=(rows,) * 2, z=(rows,) * 2, decoded=(decoded,) * 2))
        assert float(total) == pytest.approx(3 * shift**2, abs=1e-5)


def test_the_anchor_is_part_of_the_default_and_goes_with_the_reconstruction():
    assert "anchor" in small()[2].train().names
    assert "anchor" not in small(anchor=0.0)[2].train().names
    assert {"anchor", "reconstruction"}.isdisjoint(small(reconstruction=0.0)[2].train().names)

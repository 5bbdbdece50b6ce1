"""Exact gradients of a large batch from micro-batches, against one backward pass through all of it."""

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import spectral_norm

from vicreg import VICRegLoss
from vicreg.training.accumulate import accumulate

CRITERION = VICRegLoss(process_group=None)
SIZES = [(64,), (16, 16, 16, 16), (1, 40, 3, 20)]


def network(*middle, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 12), nn.Tanh(), *middle, nn.Linear(12, 7)).double()


def two_views(rows=64, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, 5, generator=draw, dtype=torch.double)


def cut(views, sizes):
    return list(zip(*(view.split(sizes) for view in views), strict=True))


def both(model):
    return lambda pair: (model(pair[0]), model(pair[1]))


def criterion(z):
    return CRITERION(*z)


def gradients(model):
    return {name: None if one.grad is None else one.grad.clone() for name, one in model.named_parameters()}


def one_backward(model, parts, forward, loss=criterion):
    """The ordinary way: every micro-batch's graph at once."""
    model.zero_grad()
    outputs = [forward(part) for part in parts]
    value = loss(tuple(torch.cat(same) for same in zip(*outputs, strict=True)))
    value.backward()
    return value.detach(), gradients(model)


def in_parts(model, parts, forward, loss=criterion, **more):
    model.zero_grad()
    value = accumulate(model, parts, loss, forward=forward, **more)
    assert not value.requires_grad
    return value, gradients(model)


def assert_same(one, other, rtol=1e-11):
    torch.testing.assert_close(one[0], other[0], rtol=rtol, atol=0)
    torch.testing.assert_close(one[1], other[1], rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("convention", ["official", "paper"])
def test_value_and_gradient_are_those_of_the_whole_batch(sizes, convention):
    model, views = network(), two_views()
    loss = VICRegLoss(convention=convention)
    whole = loss(model(views[0]), model(views[1]))
    whole.backward()
    expected = whole.detach(), gradients(model)
    assert_same(in_parts(model, cut(views, sizes), both(model), lambda z: loss(*z)), expected)


def test_the_gradients_of_small_batches_add_up_to_another_one():
    """What there would be no need for this for."""
    model, parts = network(), cut(two_views(), (16,) * 4)
    _, exact = in_parts(model, parts, both(model))
    model.zero_grad()
    for part in parts:
        (criterion(both(model)(part)) / len(parts)).backward()
    assert not torch.allclose(model[0].weight.grad, exact["0.weight"], rtol=0.01)


class Named(NamedTuple):
    z: torch.Tensor
    rest: dict


@dataclass(frozen=True)
class Made:
    z: torch.Tensor
    rest: list
    none: None = None


FORMS = {
    "tensor": (lambda z: z, lambda out: out),
    "tuple": (lambda z: (z, z * 2), lambda out: out[0] * out[1]),
    "list": (lambda z: [z, z * 2], lambda out: out[0] * out[1]),
    "dict": (lambda z: {"a": z, "b": (z * 2,)}, lambda out: out["a"] * out["b"][0]),
    "named": (lambda z: Named(z, {"b": z * 2}), lambda out: out.z * out.rest["b"]),
    "dataclass": (lambda z: Made(z, [None, (z * 2,)]), lambda out: out.z * out.rest[1][0]),
    "whole numbers": (lambda z: (z, (z > 0).long()), lambda out: out[0] * out[1]),
    "fewer rows": (lambda z: (z, z[::2]), lambda out: out[0].std(0) * out[1].amax(0)),
    "complex": (lambda z: torch.fft.fft(z), lambda out: out.abs() * out.real),
}


@pytest.mark.parametrize("name", FORMS)
def test_outputs_of_any_form(name):
    form, use = FORMS[name]
    model, x = network(), two_views()[0]

    def loss(out):
        return use(out).std()

    loss(form(model(x))).backward()
    expected = gradients(model)
    model.zero_grad()
    accumulate(model, x.split(16), loss, forward=lambda rows: form(model(rows)))
    torch.testing.assert_close(gradients(model), expected, rtol=1e-11, atol=1e-15)


def test_the_model_itself_is_the_forward_pass_and_terms_come_back():
    model, x = network(), two_views()[0]
    value, terms, more = accumulate(model, iter(x.split(10)), lambda z: (z.std(), {"rows": len(z)}, "more"))
    assert not value.requires_grad
    assert value == model(x).std()
    assert (terms, more) == ({"rows": 64}, "more")


@pytest.mark.parametrize("where", [(), ("loss",)])
def test_random_numbers_agree_and_afterwards_stand_as_after_one_pass(where):
    model, parts, own = network(nn.Dropout(0.4)), cut(two_views(), (20, 40, 4)), torch.Generator()

    def forward(pair):
        noise = torch.randn(pair[0].shape, generator=own, dtype=torch.double)
        return model(pair[0] + noise), model(pair[1])

    def loss(z):
        chance = torch.rand(()) if "loss" in where else 1.0
        return criterion(z) * chance

    found = []
    for way in (one_backward, in_parts):
        torch.manual_seed(3)
        own.manual_seed(4)
        more = {"generators": [own]} if way is in_parts else {}
        found.append((way(model, parts, forward, loss, **more), torch.rand(5), torch.rand(5, generator=own)))
    (expected, *after), (got, *after_too) = found
    assert_same(got, expected)
    torch.testing.assert_close(after_too, after, rtol=0, atol=0)


def test_a_backward_pass_that_draws_changes_no_later_micro_batch():
    class Drawing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            torch.rand(17)
            return gradient

    model, parts = network(nn.Dropout(0.4)), cut(two_views(), (20, 40, 4))
    torch.manual_seed(3)
    expected = one_backward(model, parts, both(model))
    torch.manual_seed(3)
    got = in_parts(model, parts, lambda pair: tuple(map(Drawing.apply, both(model)(pair))))
    assert_same(got, expected)


class Centring(nn.Module):
    """A user's own layer, with buffers of every kind, on which its output depends."""

    def __init__(self):
        super().__init__()
        self.register_buffer("moving", torch.zeros(12, dtype=torch.double))
        self.register_buffer("replaced", torch.ones(12, dtype=torch.double))
        self.register_buffer("late", None)
        self.register_buffer("spread", torch.ones(1, dtype=torch.double).expand(12))

    def forward(self, x):
        self.moving.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        self.replaced = self.replaced * 0.9 + 0.1 * x.detach().std(0)
        self.late = x.detach().amax(0) if self.late is None else torch.maximum(self.late, x.detach().amax(0))
        return (x - self.moving) / self.replaced * self.spread + self.late


LAYERS = {
    "batch norm": lambda: nn.BatchNorm1d(12),
    "cumulative": lambda: nn.BatchNorm1d(12, momentum=None),
    "own": Centring,
    "spectral norm": lambda: spectral_norm(nn.Linear(12, 12)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_buffers_are_updated_once_for_each_micro_batch(name):
    """And the gradient is that of the micro-batches' own statistics, as in one backward pass through all of them."""
    found = []
    for way in (one_backward, in_parts):
        torch.manual_seed(0)
        model = network(LAYERS[name]())
        before = {key: one for key, one in model.named_buffers() if "replaced" not in key and "late" not in key}
        found.append((way(model, cut(two_views(), (20, 30, 14)), both(model)), dict(model.named_buffers())))
        for key, buffer in before.items():
            assert dict(model.named_buffers())[key] is buffer
    (expected, buffers), (got, buffers_too) = found
    assert_same(got, expected)
    torch.testing.assert_close(buffers_too, buffers, rtol=1e-12, atol=1e-14)
    if name == "cumulative":
        assert model[2].num_batches_tracked == 6  # two views of three micro-batches


def test_buffers_stay_as_they_were_where_the_first_pass_fails():
    model = network(nn.BatchNorm1d(12))
    before = {name: one.clone() for name, one in model.named_buffers()}
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        accumulate(model, [torch.ones(3, 5).double(), torch.ones(3, 4).double()], lambda z: z.sum())
    torch.testing.assert_close(dict(model.named_buffers()), before, rtol=0, atol=0)


def test_a_graph_from_before_can_still_be_gone_through():
    model, parts = network(nn.BatchNorm1d(12)), cut(two_views(), (32, 32))
    earlier = model(two_views(seed=5)[0]).square().mean()
    accumulate(model, parts, criterion, forward=both(model))
    earlier.backward()


def test_gradients_add_to_those_there_and_frozen_parts_get_none():
    model, parts = network(), cut(two_views(), (32, 32))
    model.append(nn.Linear(7, 7).double())
    model.unused = nn.Parameter(torch.ones(3))
    model[0].requires_grad_(False)

    def forward(pair):
        z_a, z_b = model[:3](pair[0]), model[:3](pair[1])
        return z_a, z_b, model[3](z_a)  # the last is not asked for by the loss

    _, expected = one_backward(model, parts, forward, lambda z: criterion(z[:2]))
    model.zero_grad()
    model[2].bias.grad = torch.full((7,), 3.0, dtype=torch.double)
    accumulate(model, parts, lambda z: criterion(z[:2]), forward=forward)
    expected["2.bias"] += 3
    assert [name for name, one in expected.items() if one is not None] == ["2.weight", "2.bias"]
    torch.testing.assert_close(gradients(model), expected, rtol=1e-11, atol=1e-14)


def test_inputs_that_need_a_gradient_get_it():
    model, x = network(), two_views()[0].requires_grad_()
    model(x).std(0).sum().backward()
    expected, x.grad = x.grad, None
    accumulate(model, x.split(30), lambda z: z.std(0).sum())
    torch.testing.assert_close(x.grad, expected, rtol=1e-11, atol=1e-15)


def test_parameters_of_the_loss_get_their_gradient_once():
    model, parts = network(), cut(two_views(), (32, 32))
    temperature = nn.Parameter(torch.tensor(2.0, dtype=torch.double))

    def loss(z):
        return criterion(z) * temperature

    one_backward(model, parts, both(model), loss)
    expected, temperature.grad = temperature.grad, None
    accumulate(model, parts, loss, forward=both(model))
    torch.testing.assert_close(temperature.grad, expected, rtol=1e-11, atol=0)


def most_kept(step):
    """The most numbers that graphs hold on to at any moment of a step."""
    alive, most = weakref.WeakSet(), 0

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # or a saved output would hold its own graph

    def pack(tensor):
        nonlocal most
        kept = Kept(tensor)
        alive.add(kept)
        most = max(most, sum(one.tensor.numel() for one in alive))
        return kept

    with saved_tensors_hooks(pack, lambda kept: kept.tensor):
        step()
    assert not alive
    return most


@pytest.mark.parametrize("unused", [False, True])
def test_no_more_than_one_micro_batch_s_graph_is_alive(unused):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 200), *(nn.Sequential(nn.Tanh(), nn.Linear(200, 200)) for _ in range(5)))
    other = nn.Sequential(nn.Tanh(), nn.Linear(200, 9))
    x = torch.randn(512, 50)

    def forward(rows):
        z = model(rows)
        return (z, other(z)) if unused else (z, z)

    def loss(z):
        return z[0].std(0).sum()

    part = most_kept(lambda: loss(forward(x[:64])).backward())
    whole = most_kept(lambda: loss(forward(x)).backward())
    modules = nn.ModuleList([model, other])
    cut_up = most_kept(lambda: accumulate(modules, x.split(64), loss, forward=forward))
    weights = sum(one.numel() for one in model.parameters())
    assert whole > 3 * part
    assert cut_up <= part + weights // 100


class KeepsOut(nn.Module):
    """A layer that autocast must not touch, in either direction."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 12))

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return x.float() @ self.weight


@pytest.mark.parametrize("inside", [False, True])
def test_autocast_reaches_both_passes_and_no_backward_pass(inside):
    model, views = network(KeepsOut()).float(), two_views().float()
    parts = cut(views, (20, 44))
    half = torch.autocast("cpu", torch.bfloat16)

    def forward(pair):
        with half if inside else nullcontext():
            return both(model)(pair)

    with half:
        outputs = [both(model)(part) for part in parts]
        assert outputs[0][0].dtype == torch.bfloat16
        value = criterion(tuple(torch.cat(same) for same in zip(*outputs, strict=True)))
    value.backward()
    expected = value.detach(), gradients(model)
    with nullcontext() if inside else half:
        got = in_parts(model, parts, forward)
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=0)
    size = expected[1]["2.weight"].abs().max()
    torch.testing.assert_close(got[1]["2.weight"], expected[1]["2.weight"], rtol=0, atol=float(size) * 1e-5)
    torch.testing.assert_close(got[1], expected[1], rtol=0.02, atol=float(size) * 1e-3)  # bfloat16 sums, cut otherwise


def test_a_loss_scale_lifts_the_gradient_before_it_is_float16():
    """Gradients of 2e-9 are nothing in float16; scaled they are there, and scaled once."""
    model, x = network().float(), two_views()[0].float()
    temperature = nn.Parameter(torch.tensor(1e-6))

    def loss(z):
        return z.float().mean() * temperature

    def forward(rows):
        return model(rows).half()

    (model(x).mean() * temperature).backward()
    expected = [*(one.grad.clone() for one in model.parameters()), temperature.grad.clone()]
    assert expected[0].abs().max() > 0
    parameters = [*model.parameters(), temperature]
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    optimizer.zero_grad()
    accumulate(model, x.split(16), loss, forward=forward)
    assert model[2].weight.grad.abs().max() == 0
    optimizer.zero_grad()
    scaler = torch.amp.GradScaler("cpu")
    accumulate(model, x.split(16), loss, forward=forward, backward=lambda value: scaler.scale(value).backward())
    scaler.unscale_(optimizer)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=2e-3, atol=1e-12)


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_fabric_s_mixed_precision(precision):
    """Against Fabric's own backward pass through the whole batch, with its loss scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if precision == "16-mixed" else None
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision(precision, "cpu", scaler))
    module = fabric.setup(network().float())
    x_a, x_b = two_views(16).float()
    fabric.backward(CRITERION(module(x_a), module(x_b)))
    expected = gradients(module)
    module.zero_grad()
    parts = cut((x_a, x_b), (4, 12))
    accumulate(module, parts, criterion, forward=both(module), backward=fabric.backward)
    got = gradients(module)
    expected = {name: one for name, one in expected.items() if not name.endswith("2.bias")}  # no shift changes the loss
    for name, gradient in expected.items():
        size = float(gradient.abs().max())
        assert size > (100 if scaler else 0.1)
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=size * 0.01)


WRONG = {
    "a function": (
        lambda model, x: {"model": lambda rows: rows},
        (TypeError, "model must be an nn.Module; got <function .*Pass the network, and the function as forward"),
    ),
    "a tensor": (
        lambda model, x: {"micro_batches": x},
        (TypeError, r"micro_batches must be the parts of a batch; got a tensor\. Cut it, as with x\.split\(64\)\."),
    ),
    "a generator": (
        lambda model, x: {"generators": torch.Generator()},
        (TypeError, "generators must be a tuple of torch.Generator; got <torch._C.Generator"),
    ),
    "nothing": (lambda model, x: {"micro_batches": []}, (ValueError, "micro_batches must hold at least one; got 0")),
    "text": (
        lambda model, x: {"forward": lambda rows: (model(rows), "text")},
        (TypeError, "each output must be a tensor, or a tuple, list, dict or dataclass of tensors; got str"),
    ),
    "no outputs": (
        lambda model, x: {"forward": lambda rows: (None, [])},
        (ValueError, "forward must give at least one tensor; got none"),
    ),
    "a scalar output": (
        lambda model, x: {"forward": lambda rows: model(rows).mean()},
        (ValueError, r"each output must have its rows first, \(n, \.\.\.\); got a 0-dimensional tensor"),
    ),
    "other widths": (
        lambda model, x: {"forward": lambda rows: model(rows)[:, : len(rows)]},
        (ValueError, r"outputs must be alike .* but for their rows; got \[\(\(4,\), .*\] and \[\(\(3,\),"),
    ),
    "other outputs": (
        lambda model, x: {"forward": lambda rows: [model(rows)] * len(rows)},
        (ValueError, "outputs must be alike for all micro-batches but for their rows"),
    ),
    "other rows": (
        lambda model, x: {"forward": lambda rows: model(rows)[: None if torch.is_grad_enabled() else -1]},
        (ValueError, r"forward must give the same outputs both times; got shapes \(3, 7\) and \(4, 7\)"),
    ),
    "more outputs": (
        lambda model, x: {
            "forward": lambda rows: [model(rows)] * (1 + torch.is_grad_enabled()),
            "loss": lambda z: z[0].sum(),
        },
        (ValueError, "forward must give the same outputs both times; got 2 tensors"),
    ),
    "a row's loss": (
        lambda model, x: {"loss": lambda z: z.mean(1)},
        (ValueError, r"loss must return a 0-dimensional tensor; got \(7,\)\. Reduce it, as with \.mean\(\)"),
    ),
    "a number": (
        lambda model, x: {"loss": lambda z: (z.sum().item(), {})},
        (ValueError, "loss must return a 0-dimensional tensor; got float"),
    ),
    "no graph": (
        lambda model, x: {"loss": lambda z: z.detach().sum()},
        (ValueError, "loss must depend on the outputs; got a value without a graph"),
    ),
    "frozen": (
        lambda model, x: {"model": model.requires_grad_(False)},
        (ValueError, "model must give the loss an output that needs a gradient; got none. Unfreeze a part of it"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_worked_with_is_named(name):
    change, (error, said) = WRONG[name]
    model, x = network(), two_views()[0][:7]
    settings = {"model": model, "micro_batches": x.split(4), "loss": torch.sum} | change(model, x)
    with pytest.raises(error, match=said):
        accumulate(**settings)


# Two processes


class Shifted(nn.Module):
    """Its output depends on a buffer, which DDP takes from the first process."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("shift", torch.zeros((), dtype=torch.double))

    def forward(self, pair):
        self.shift += 0.5
        return tuple(self.inner(one + self.shift) for one in pair)


ROWS_OF_EACH = (20, 44)


def parts_of(rank):
    views = two_views().split(ROWS_OF_EACH, dim=1)[rank]
    return cut(views, (4, 9, 7) if rank == 0 else (14, 10, 20))


def row_losses(z):
    return sum((one.cos() * one.sum(1, keepdim=True)).mean() for one in z)


def as_one_of_two(rank, folder):
    found = {}
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    for name, loss in (("rows", row_losses), ("vicreg", criterion)):
        for wrapper in ("torch", "fabric"):
            model = Shifted(network())
            torch_s = wrapper == "torch"
            module = DistributedDataParallel(model) if torch_s else fabric.setup(model)
            wrapped = next(one for one in module.modules() if isinstance(one, DistributedDataParallel))
            exchanges = []

            def hook(state, bucket, exchanges=exchanges):
                exchanges.append(bucket.index())
                summed = dist.all_reduce(bucket.buffer().div_(2), async_op=True).get_future()
                return summed.then(lambda done: done.value()[0])

            wrapped.register_comm_hook(None, hook)
            backward = torch.Tensor.backward if torch_s else fabric.backward
            values, shifts = [], []
            for _ in range(2):  # the second step is as good as the first
                module.zero_grad()
                model.shift += rank
                values.append(accumulate(module, parts_of(rank), loss, backward=backward).item())
                shifts.append(model.shift.item())
            found[name, wrapper] = {
                "gradients": gradients(model.inner),
                "values": values,
                "shifts": shifts,
                "exchanges": len(exchanges),
            }
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory, pools):
    folder = tmp_path_factory.mktemp("two")
    pools(2).run(as_one_of_two, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("wrapper", ["torch", "fabric"])
@pytest.mark.parametrize("name", ["rows", "vicreg"])
def test_two_processes_exchange_once_and_agree_with_one(of_two, name, wrapper):
    """DDP's gradient is the mean of the processes' own; each of three micro-batches moves the buffer once."""
    loss = {"rows": row_losses, "vicreg": criterion}[name]
    model = network()
    for step, shift in enumerate((0.0, 1.5)):  # the first process's buffer
        model.zero_grad()
        for rank in range(2):
            shifts = [shift + 0.5 * (1 + index) for index in range(3)]
            outputs = [both(model)([one + by for one in part]) for part, by in zip(parts_of(rank), shifts, strict=True)]
            value = loss(tuple(torch.cat(same) for same in zip(*outputs, strict=True)))
            (value / 2).backward()
            got = of_two[rank][name, wrapper]
            assert got["values"][step] == pytest.approx(value.item(), rel=1e-12)
            assert got["shifts"][step] == shift + 1.5
    for rank in range(2):
        got = of_two[rank][name, wrapper]
        assert got["exchanges"] == 2  # one bucket, two steps
        torch.testing.assert_close(got["gradients"], gradients(model), rtol=1e-11, atol=1e-14)

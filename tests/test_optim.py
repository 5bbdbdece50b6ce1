"""LARS, the schedule of the paper, and what decays."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from vicreg.training.lars import LARS
from vicreg.training.optim import parameter_groups, scaled_learning_rate, warmup_cosine


def slow_lars(weights, gradients, steps, settings, learning_rates):
    """You et al. 2017, algorithm 1, in the order of VICReg's code, one number at a time in float64."""
    weights = [[float(one) for one in each.flatten()] for each in weights]
    momenta = [[0.0] * len(each) for each in weights]
    for step in range(steps):
        for index, each in enumerate(weights):
            gradient = gradients[step][index]
            if gradient is None:
                continue
            decay, eta, keep = (settings[index][name] for name in ("weight_decay", "eta", "momentum"))
            update = [float(g) + decay * w for g, w in zip(gradient.flatten(), each, strict=True)]
            length, size = math.sqrt(sum(w * w for w in each)), math.sqrt(sum(u * u for u in update))
            rate, factor = learning_rates[step], 1.0
            if settings[index]["adapt"] and length > 0 and size > 0:
                factor = eta * length / size
                if settings[index]["clip"]:
                    factor = 1.0 if factor >= rate else factor / rate
            for place, one in enumerate(update):
                momenta[index][place] = keep * momenta[index][place] + factor * one
                each[place] -= rate * momenta[index][place]
    return [np.array(each) for each in weights]


SHAPES = [(3, 4), (2, 3, 3, 3), (5,), (4, 4), (6, 2), (3,), (2, 2)]
ZERO, STILL, NEVER, SOMETIMES = 3, 4, 5, 6
DEFAULT = {"weight_decay": 0.1, "eta": 0.02, "momentum": 0.9, "adapt": True, "clip": False}
GROUPS = {
    (0, 1, ZERO, STILL, SOMETIMES): {},
    (2, NEVER): {"weight_decay": 0.0, "adapt": False},
}


def problem(dtypes=(torch.float64,), steps=6, seed=0):
    """Weights, among them one that is zero, and gradients by step, among them zeros and none."""
    generator = torch.Generator().manual_seed(seed)
    every = [dtypes[index % len(dtypes)] for index in range(len(SHAPES))]
    weights = [torch.randn(shape, generator=generator).to(dtype) for shape, dtype in zip(SHAPES, every, strict=True)]
    weights[ZERO].zero_()
    gradients = []
    for step in range(steps):
        now = [torch.randn(shape, generator=generator).to(dtype) for shape, dtype in zip(SHAPES, every, strict=True)]
        now[ZERO] *= step != 0  # both it and its gradient are zero in the first step
        now[STILL].zero_()
        now[NEVER] = None
        now[SOMETIMES] = None if step % 2 else now[SOMETIMES]
        gradients.append(now)
    return weights, gradients


def run(weights, gradients, learning_rates, groups=GROUPS, **settings):
    parameters = [nn.Parameter(one.clone()) for one in weights]
    optimizer = LARS(
        [{"params": [parameters[index] for index in indices], **own} for indices, own in groups.items()],
        lr=1.0,
        **{**DEFAULT, **settings},
    )
    for rate, now in zip(learning_rates, gradients, strict=True):
        advance(optimizer, parameters, now, rate)
    return parameters, optimizer


def advance(optimizer, parameters, gradients, rate):
    for one, gradient in zip(parameters, gradients, strict=True):
        one.grad = None if gradient is None else gradient.clone()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def settings_of(groups, **changed):
    return {index: DEFAULT | changed | own for indices, own in groups.items() for index in indices}


RATES = [0.0, 0.5, 1.5, 1.0, 0.7, 0.01]


@pytest.mark.parametrize("changed", [{}, {"weight_decay": 0.0}, {"momentum": 0.0}, {"clip": True}, {"eta": 1.0}])
def test_lars_is_the_formulas_one_number_at_a_time(changed):
    weights, gradients = problem()
    ours, _ = run(weights, gradients, RATES, **changed)
    theirs = slow_lars(weights, gradients, len(RATES), settings_of(GROUPS, **changed), RATES)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.detach().flatten().numpy(), other, rtol=1e-12, atol=1e-14)


def test_clipping_binds_in_some_layers_and_not_in_others():
    weights, gradients = problem()
    plain, clipped = (run(weights, gradients, RATES, clip=clip)[0] for clip in (False, True))
    bound, _ = run(weights, gradients, RATES, clip=True, eta=1e9)
    descent, _ = run(weights, gradients, RATES, groups={tuple(range(len(SHAPES))): {"adapt": False}})
    assert not torch.allclose(plain[0], clipped[0])
    assert not torch.allclose(bound[0], clipped[0])
    torch.testing.assert_close(bound[0], descent[0])  # where the learning rate always binds, it is gradient descent


def test_without_adaptation_it_is_the_gradient_descent_of_torch():
    weights, gradients = problem()
    ours, _ = run(weights, gradients, RATES, groups={tuple(range(len(SHAPES))): {"adapt": False}})
    theirs = [nn.Parameter(one.clone()) for one in weights]
    optimizer = torch.optim.SGD(theirs, lr=1.0, momentum=0.9, weight_decay=0.1)
    for rate, now in zip(RATES, gradients, strict=True):
        advance(optimizer, theirs, now, rate)
    torch.testing.assert_close(ours, theirs)


def test_types_may_be_mixed():
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    weights, gradients = problem(dtypes)
    ours, optimizer = run(weights, gradients, RATES)
    exact = slow_lars(weights, gradients, len(RATES), settings_of(GROUPS), RATES)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.03}
    for index, (mine, other) in enumerate(zip(ours, exact, strict=True)):
        assert mine.dtype == dtypes[index % 3]
        np.testing.assert_allclose(
            mine.detach().double().flatten().numpy(), other, rtol=tolerance[mine.dtype], atol=tolerance[mine.dtype]
        )
    assert all(state["momentum_buffer"].dtype == one.dtype for one, state in optimizer.state.items())


def test_norms_of_half_precision_do_not_overflow():
    weight = nn.Parameter(torch.full((300, 300), 300.0, dtype=torch.float16))  # its length is 90,000
    weight.grad = torch.ones_like(weight)
    LARS([weight], lr=1.0, weight_decay=0.0, eta=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 270.0))


def test_a_parameter_without_gradient_keeps_its_weights_and_momentum():
    weights, gradients = problem()
    (*_, never, sometimes), optimizer = run(weights, gradients, RATES)
    assert torch.equal(never, weights[NEVER])
    assert never not in optimizer.state
    before, momentum = sometimes.detach().clone(), optimizer.state[sometimes]["momentum_buffer"].clone()
    sometimes.grad = None
    optimizer.step()
    assert torch.equal(sometimes, before)
    assert torch.equal(optimizer.state[sometimes]["momentum_buffer"], momentum)


def test_gradients_stay_as_they_were():
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = torch.arange(9.0).reshape(3, 3)
    LARS([weight], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(weight.grad, torch.arange(9.0).reshape(3, 3))


def test_a_step_asks_the_device_for_nothing():
    weights = [nn.Parameter(torch.empty(shape, device="meta")) for shape in SHAPES]
    optimizer = LARS([{"params": weights[:3]}, {"params": weights[3:], "adapt": False}], lr=1.0, clip=True)
    for one in weights:
        one.grad = torch.empty_like(one)
    optimizer.step()  # meta tensors hold no values: whoever asks for one raises
    assert all(optimizer.state[one]["momentum_buffer"].is_meta for one in weights)


def test_a_closure_gives_the_loss_and_the_gradients():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert weight.detach().mean() < 1


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def learn(model, optimizer, steps, scaler=None):
    for step in steps:
        x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        x = x.to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


def start(clip=False):
    model = network()
    return model, LARS(parameter_groups(model, 1e-4), lr=1.0, clip=clip)


@pytest.mark.parametrize("clip", [False, True])
def test_resumed_is_uninterrupted(clip):
    whole, optimizer = start(clip)
    learn(whole, optimizer, range(8))

    first, optimizer = start(clip)
    learn(first, optimizer, range(4))
    saved = {f"model.{name}": value for name, value in first.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        saved |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    file = save({name: value.contiguous() for name, value in saved.items()})

    second, optimizer = start(clip)
    tensors = load(file)
    second.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    moments = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    assert {key for each in moments.values() for key in each} == {"momentum_buffer"}
    convolution = second[0].weight
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert optimizer.state[convolution]["momentum_buffer"].stride() == convolution.stride()
    learn(second, optimizer, range(4, 8))
    for mine, other in zip(second.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_loaded_state_is_a_copy():
    model, optimizer = start()
    learn(model, optimizer, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(state)
    optimizer.load_state_dict(state)
    learn(model, optimizer, range(2, 4))
    for index, moments in state["state"].items():
        assert torch.equal(moments["momentum_buffer"], kept["state"][index]["momentum_buffer"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_goes_on_apart(again):
    model, optimizer = start()
    learn(model, optimizer, range(2))
    twin, twins = again((model, optimizer))
    learn(model, optimizer, range(2, 5))
    learn(twin, twins, range(2, 5))
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine is not other
        assert torch.equal(mine, other)


def test_a_loss_scale_changes_nothing_and_an_overflow_is_left_out():
    model, optimizer = start()
    learn(model, optimizer, range(3))
    scaled, scaled_optimizer = start()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    learn(scaled, scaled_optimizer, range(3), scaler)
    for mine, other in zip(model.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(mine, other)
    before = copy.deepcopy((list(scaled.parameters()), scaled_optimizer.state_dict()["state"]))
    scaler.scale(sum(one.sum() for one in scaled.parameters()) * torch.inf).backward()
    scaler.step(scaled_optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**9
    after = list(scaled.parameters()), scaled_optimizer.state_dict()["state"]
    assert all(map(torch.equal, after[0], before[0]))
    for index, moments in before[1].items():
        assert torch.equal(after[1][index]["momentum_buffer"], moments["momentum_buffer"])


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"lr": -1.0}, ValueError, "lr must be a finite number of at least 0; got -1.0"),
        ({"lr": "fast"}, TypeError, "lr must be a number; got 'fast'"),
        ({"momentum": 1.5}, ValueError, "momentum must be a finite number of at least 0 and at most 1; got 1.5"),
        ({"weight_decay": -1e-6}, ValueError, "weight_decay must be a finite number of at least 0; got -1e-06"),
        ({"eta": 0}, ValueError, "eta must be a finite number above 0; got 0"),
        ({"eta": math.nan}, ValueError, "eta must be a finite number above 0; got nan"),
        ({"adapt": 1}, TypeError, "adapt must be True or False; got 1"),
        ({"clip": None}, TypeError, "clip must be True or False; got None"),
    ],
)
def test_wrong_settings_are_named(settings, error, said):
    weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(error, match=said):
        LARS([weight], **{"lr": 1.0, **settings})
    with pytest.raises(error, match=said):
        LARS([{"params": [weight], **settings}], lr=1.0)
    optimizer = LARS([weight], lr=1.0)
    with pytest.raises(error, match=said):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], **settings})
    assert len(optimizer.param_groups) == 1


def test_settings_may_be_numbers_of_any_kind():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], lr=torch.tensor(0.5), eta=np.float32(0.25), momentum=0)
    assert {type(optimizer.param_groups[0][name]) for name in ("lr", "momentum", "weight_decay", "eta")} == {float}
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.875))


@pytest.mark.parametrize("params", [nn.Linear(2, 2), torch.ones(2, requires_grad=True)])
def test_params_are_no_module_and_no_tensor(params):
    with pytest.raises(TypeError, match="params must be parameters or groups of them; got (Linear|Tensor). Pass param"):
        LARS(params, lr=1.0)


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = LARS(embedding.parameters(), lr=1.0)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="each gradient must be dense; got a sparse tensor. Make the embedding with"):
        optimizer.step()


def test_state_of_others_is_refused():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], lr=1.0)
    for moments, got in (({"momentum_buffer": torch.ones(2)}, r"\(2,\)"), ({"exp_avg": weight}, "no momentum_buffer")):
        with pytest.raises(ValueError, match=f"state_dict must hold the momentum of each parameter; got {got}"):
            optimizer.load_state_dict(optimizer.state_dict() | {"state": {0: moments}})


def official_rate(step, epochs, steps_per_epoch):
    """By hand, at points where the cosine is known: the share of the highest rate in VICReg's code."""
    warmup, run = 10 * steps_per_epoch, epochs * steps_per_epoch
    cosines = {0: 1.0, 1 / 4: math.sqrt(0.5), 1 / 3: 0.5, 1 / 2: 0.0, 2 / 3: -0.5, 3 / 4: -math.sqrt(0.5), 1: -1.0}
    if step <= warmup:
        return step / warmup
    share = (step - warmup) / (run - warmup)
    nearest = min(cosines, key=lambda one: abs(one - share))
    assert nearest == pytest.approx(share, abs=1e-12)
    q = (1 + cosines[nearest]) / 2
    return q + 0.001 * (1 - q)


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(100, 8), (1000, 624), (310, 4)])
def test_the_schedule_is_that_of_the_code(epochs, steps_per_epoch):
    schedule = partial(warmup_cosine, warmup=10 * steps_per_epoch)
    steps = epochs * steps_per_epoch
    warmup = 10 * steps_per_epoch
    after = steps - warmup
    within = [warmup + after * k // 12 for k in (3, 4, 6, 8, 9) if after * k % 12 == 0]
    assert len(within) >= 3
    for step in (0, 1, warmup // 2, warmup, *within, steps):
        by_hand = official_rate(step, epochs, steps_per_epoch)
        assert schedule(step, steps) == pytest.approx(by_hand, rel=1e-12, abs=1e-15)


def test_the_schedule_ends_at_its_floor():
    assert warmup_cosine(1000, 1000, warmup=10, floor=0.25) == 0.25
    assert warmup_cosine(2000, 1000, warmup=10, floor=0.25) == 0.25  # a run that goes on past its end
    assert warmup_cosine(999, 1000, warmup=10, floor=0.0) < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 99, 100, 101])
@pytest.mark.parametrize("warmup", [0, 1, 10, 10_000])
def test_any_run_warms_up_for_a_tenth_at_most_and_then_only_slows_down(steps, warmup):
    rates = [warmup_cosine(step, steps, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert top == min(warmup, steps // 10)
    assert rates[top] == 1
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[:top] == sorted(rates[:top])
    assert all(0 <= rate <= 1 for rate in rates)


def test_the_learning_rate_is_in_proportion_to_the_batch():
    assert [scaled_learning_rate(0.3, batch) for batch in (256, 512, 64)] == pytest.approx([0.3, 0.6, 0.075])


class Tokens(nn.Module):
    """What a vision transformer learns beside its matrices."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        self.scale = nn.Parameter(torch.ones(1, 1, 1, 8))
        self.temperature = nn.Parameter(torch.ones(()))
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.signal = nn.Conv1d(3, 8, 4)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 1)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)


def test_matrices_and_convolutions_decay_and_are_adapted_and_nothing_else():
    model = Tokens()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, vectors = parameter_groups(model, 0.1)
    assert [names[id(one)] for one in matrices["params"]] == [
        "patches.weight", "signal.weight", "depthwise.weight", "head.weight",
    ]  # fmt: skip
    assert [names[id(one)] for one in vectors["params"]] == [
        "cls_token", "pos_embed", "scale", "temperature", "patches.bias", "signal.bias", "depthwise.bias",
        "norm.weight", "norm.bias", "head.bias",
    ]  # fmt: skip
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert (matrices["adapt"], vectors["adapt"]) == (True, False)


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_takes_no_notice_of_adapt(fused):
    twins = [network(), network()]
    groups = [parameter_groups(model, 0.1) for model in twins]
    for group in groups[0]:
        del group["adapt"]
    for model, each in zip(twins, groups, strict=True):
        optimizer = torch.optim.AdamW(each, lr=0.1, fused=fused)
        learn(model, optimizer, range(3))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        learn(model, optimizer, range(3, 5))
    for mine, other in zip(*(model.parameters() for model in twins), strict=True):
        assert torch.equal(mine, other)
    assert [group["adapt"] for group in optimizer.param_groups] == [True, False]


def test_a_network_without_matrices_or_vectors_trains():
    for model in (nn.Linear(3, 2, bias=False), nn.LayerNorm(3)):
        optimizer = LARS(parameter_groups(model, 1e-6), lr=0.5)
        before = model.weight.detach().clone()
        model(torch.eye(3)).square().sum().backward()
        optimizer.step()
        assert not torch.equal(model.weight, before)

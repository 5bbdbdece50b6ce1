"""VCReg: its terms against the definition, its hold on a model, its messages, its effect."""

import gc
import weakref

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

import vicreg
from vicreg import VCReg
from vicreg.functional import mean_correlation, rankme


def normal(*size, seed=0, dtype=torch.float64):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def perceptron(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)


def definition(rows, target=1.0, eps=1e-4):
    """The two terms of rows of features, column by column and pair by pair."""
    d = rows.shape[1]
    c = torch.cov(rows.T).reshape(d, d)
    hinges = [torch.clamp(target - (c[j, j] + eps).sqrt(), min=0) for j in range(d)]
    squares = [c[i, j] ** 2 for i in range(d) for j in range(d) if i != j]
    return sum(hinges) / d, sum(squares) / (d * (d - 1)) if d > 1 else torch.zeros(())


def hooks_of(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


# What it is


@pytest.mark.parametrize("n", [3, 20])
def test_terms_and_gradient_are_the_definition_s(n):
    model, x = perceptron(), normal(n, 5)
    vcreg = VCReg(0.3, 0.2, variance_target=0.7, eps=1e-3)
    with vcreg.attach(model, ["0", "3"]) as features:
        model(x)
        terms = features.terms()
    hidden = [model[:1](x), model[:4](x)]
    wanted = [definition(rows, 0.7, 1e-3) for rows in hidden]
    for layer, (variance, covariance) in zip(("0", "3"), wanted, strict=True):
        assert terms[f"{layer}.variance"].item() == pytest.approx(variance.item(), rel=1e-9)
        assert terms[f"{layer}.covariance"].item() == pytest.approx(covariance.item(), rel=1e-9)
        assert not terms[f"{layer}.variance"].requires_grad
    total = sum(0.3 * variance + 0.2 * covariance for variance, covariance in wanted)
    assert terms["total"].item() == pytest.approx(total.item(), rel=1e-9)
    weights = list(model[:4].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(terms["total"], weights), torch.autograd.grad(total, weights), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


class Sequence(nn.Module):
    """Gives what it is given, to stand for layers of any shape."""

    def forward(self, x):
        return 1.0 * x


@pytest.mark.parametrize(
    ("shape", "channels", "order"),
    [
        ((6, 3), None, (0, 1)),
        ((6, 5, 3), None, (0, 1, 2)),
        ((6, 3, 5), 1, (0, 2, 1)),
        ((6, 3, 4, 2), None, (0, 2, 3, 1)),
        ((6, 4, 2, 3), -1, (0, 1, 2, 3)),
        ((6, 3, 2, 2, 2), None, (0, 2, 3, 4, 1)),
    ],
)
def test_every_place_of_a_map_is_a_sample(shape, channels, order):
    x = normal(*shape).requires_grad_()
    model = nn.Sequential(Sequence())
    with VCReg(channels=channels).attach(model, "0") as features:
        model(x)
    variance, covariance = definition(x.permute(*order).reshape(-1, 3))
    assert features.terms()["0.variance"].item() == pytest.approx(variance.item(), rel=1e-9)
    assert features.terms()["0.covariance"].item() == pytest.approx(covariance.item(), rel=1e-9)


def test_one_feature_has_no_covariance():
    model = nn.Sequential(nn.Linear(5, 1))
    with VCReg().attach(model, "0") as features:
        model(normal(9, 5, dtype=torch.float32))
    assert features.terms()["0.covariance"].item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_are_float32_under_autocast(dtype):
    model, x = perceptron(dtype=torch.float32), normal(64, 5, dtype=torch.float32)
    with VCReg().attach(model, "0") as features, torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        hidden = model[0](x)
        model(x)
    variance, _ = definition(hidden.detach().double())
    assert features.terms()["0.variance"].dtype == torch.float32
    assert features.terms()["0.variance"].item() == pytest.approx(variance.item(), rel=1e-5)
    features.total().backward()
    assert model[0].weight.grad.isfinite().all()


def test_what_is_done_in_place_afterwards_does_not_matter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(inplace=True), nn.Linear(7, 3))
    x = normal(20, 5, dtype=torch.float32)
    with VCReg(1.0, 1.0).attach(model, "1") as features:
        out = model(x)
    variance, covariance = definition(model[:2](x))
    assert features.total().item() == pytest.approx((variance + covariance).item(), rel=1e-4)
    (out.sum() + features.total()).backward()


# Its hold on a model


def test_layers_by_name_and_as_modules_and_one_alone():
    model = perceptron()
    for layers in (["0", "2"], [model[0], "2"], [model[0], model[2]]):
        with VCReg().attach(model, layers) as features:
            model(normal(9, 5))
        assert list(features.terms()) == ["0.variance", "0.covariance", "2.variance", "2.covariance", "total"]
    for layer in ("2", model[2]):
        with VCReg().attach(model, layer) as features:
            model(normal(9, 5))
        assert list(features.terms()) == ["2.variance", "2.covariance", "total"]


def test_the_model_itself_can_be_the_layer():
    model = nn.Linear(5, 7).double()
    with VCReg().attach(model, model) as features:
        model(normal(9, 5))
    assert features.terms()[".variance"].item() >= 0


def test_contexts_nest():
    model, x = perceptron(), normal(9, 5)
    with VCReg(1.0, 0.0).attach(model, "0") as first, VCReg(0.0, 1.0).attach(model, ["0", "2"]) as second:
        model(x)
        assert first.total().item() == pytest.approx(definition(model[0](x))[0].item())
        every = [definition(rows)[1].item() for rows in (model[0](x), model[:3](x))]
        assert second.total().item() == pytest.approx(sum(every))
    assert hooks_of(model) == 0


def test_hooks_are_gone_afterwards_come_what_may():
    model = perceptron()
    context = VCReg().attach(model, ["0", "2"])
    assert hooks_of(model) == 0  # not before it is entered
    for _ in range(2):
        with context:
            assert hooks_of(model) == 4
            model(normal(9, 5))
        assert hooks_of(model) == 0
    with pytest.raises(KeyError, match="mine"), context:
        raise KeyError("mine")
    assert hooks_of(model) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), context:
        model(normal(9, 4))
    assert hooks_of(model) == 0
    alive = weakref.ref(model)
    del model, context
    gc.collect()
    assert alive() is None


def test_a_forward_pass_that_failed_is_forgotten():
    model = nn.Sequential(nn.Linear(5, 7), nn.Linear(6, 3)).double()
    with VCReg().attach(model, "0") as features:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                model(normal(9, 5))
        model[1] = nn.Linear(7, 3).double()
        model(normal(9, 5))
        assert features.total().requires_grad


def test_passes_without_gradients_leave_all_as_it_was():
    model, x = perceptron(), normal(9, 5)
    with VCReg().attach(model, "0") as features:
        model(x)
        before = features.total()
        with torch.no_grad():
            model(3 * x)
        with torch.inference_mode():
            model(3 * x)
        assert features.total() is before
        model[0](x)  # a part called by itself
        assert features.total() is before


def test_micro_batches_and_many_steps():
    """The gradient of both steps adds up, as without a context."""
    model, x = perceptron(), normal(18, 5)
    with VCReg().attach(model, "0") as features:
        for part in x.split(9):
            (model(part).square().mean() + features.total()).backward()
    found = model[0].weight.grad.clone()
    model.zero_grad()
    for part in x.split(9):
        variance, covariance = definition(model[0](part))
        (model(part).square().mean() + 0.16 * variance + 0.01 * covariance).backward()
    torch.testing.assert_close(found, model[0].weight.grad)


class Recomputed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 7).double()

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


def test_what_is_recomputed_for_the_backward_pass_counts_once():
    model, x = Recomputed(), normal(9, 5)
    with VCReg(1.0, 1.0).attach(model, "inner") as features:
        for _ in range(2):
            model.zero_grad()
            (model(x).sum() + features.total()).backward()
    found = model.inner.weight.grad.clone()
    model.zero_grad()
    (model.inner(x).sum() + sum(definition(model.inner(x)))).backward()
    torch.testing.assert_close(found, model.inner.weight.grad)


def test_no_other_output_is_changed():
    model, x = perceptron(), normal(9, 5)
    plain = model(x)
    with VCReg().attach(model, ["0", "1", "2"]):
        assert torch.equal(model(x), plain)


# Over processes


def shared_gradient(rank, rows, reduction):
    """Each process's rows through one model, its gradient reduced."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 9)).double()
    x = normal(sum(rows), 2, 4, 4) * torch.arange(1, sum(rows) + 1)[:, None, None, None]
    own = x.split(rows)[rank]
    with VCReg(1.0, 2.0, gradient_reduction=reduction).attach(model, ["0", "3"]) as features:
        model(own)
        terms = features.terms()
    terms["total"].backward()
    gradients = [weight.grad for weight in model.parameters()]
    if len(rows) > 1:
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)
            gradient.div_(len(rows) if reduction == "mean" else 1)
    return {name: value.item() for name, value in terms.items()}, [gradient.tolist() for gradient in gradients]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("rows", [(7, 4), (1, 5)])
def test_over_processes_it_is_that_of_all_their_rows(pools, rows, reduction):
    terms, gradients = shared_gradient(0, (sum(rows),), "mean")
    for found, own in pools(2).run(shared_gradient, rows, reduction):
        assert found == pytest.approx(terms, rel=1e-9)
        for one, other in zip(own, gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


def under_ddp(rank, rows):
    torch.manual_seed(0)
    model = perceptron()
    wrapped = nn.parallel.DistributedDataParallel(model)
    x = normal(sum(rows), 5).split(rows)[rank]
    with VCReg(1.0, 1.0).attach(wrapped, "module.0") as features:
        for _ in range(2):
            wrapped.zero_grad()
            (0 * wrapped(x).sum() + features.total()).backward()
    return features.total().item(), model[0].weight.grad.tolist()


def test_under_ddp(pools):
    model, x = perceptron(), normal(11, 5)
    wanted = sum(definition(model[0](x)))
    wanted.backward()
    for total, gradient in pools(2).run(under_ddp, (7, 4)):
        assert total == pytest.approx(wanted.item(), rel=1e-9)
        np.testing.assert_allclose(gradient, model[0].weight.grad, rtol=1e-8, atol=1e-12)


def faulty(rank):
    model = nn.Sequential(Sequence())
    x = normal(4, 3 + rank)
    with VCReg().attach(model, "0"):
        try:
            model(x.requires_grad_())
        except ValueError as error:
            return str(error)
    return "none"


def test_a_fault_of_one_process_is_the_same_error_on_all(pools):
    first, second = pools(2).run(faulty)
    assert first == second
    assert first.startswith("What the loss is called on must be alike on every process; got The output of layer '0'")


# Messages


def attached(layers, model=None):
    return VCReg().attach(perceptron() if model is None else model, layers)


def forward(model, x, layers="0", **settings):
    with VCReg(**settings).attach(model, layers):
        model(x)


X = torch.ones(4, 5)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: VCReg(-1.0), ValueError, "std_coeff must be a finite number of at least 0; got -1"),
        (lambda: VCReg(cov_coeff="a"), TypeError, "cov_coeff must be a number; got 'a'"),
        (lambda: VCReg(eps=0.0), ValueError, "eps must be a finite number above 0; got 0"),
        (lambda: VCReg(channels=0), ValueError, "channels must not be 0; got 0. Samples lie along that dimension"),
        (lambda: VCReg(channels="c"), TypeError, "channels must be a whole number; got 'c'"),
        (lambda: VCReg(gradient_reduction="max"), ValueError, "gradient_reduction must be one of 'mean', 'sum'"),
        (lambda: VCReg().attach("model", "0"), TypeError, "model must be a Module; got str"),
        (lambda: attached([]), ValueError, "layers must name at least one layer; got none"),
        (
            lambda: attached("layer9"),
            ValueError,
            r"layers must name modules of the model; got 'layer9'. Did you mean '",
        ),
        (
            lambda: attached("layr1", nn.ModuleDict({"layer1": nn.Linear(1, 1), "head": nn.Linear(1, 1)})),
            ValueError,
            r"got 'layr1'. Did you mean 'layer1' or 'head'\?",
        ),
        (lambda: attached(3), TypeError, "'int' object is not iterable"),
        (lambda: attached([3]), TypeError, "layers must be names or modules; got int"),
        (lambda: attached(nn.Linear(1, 1)), ValueError, "layers must be modules of the model; got a Linear of another"),
        (lambda: attached(["0", "0"]), ValueError, "layers must differ; got '0' twice"),
        (
            lambda: forward(nn.Sequential(nn.LSTM(5, 3)), X),
            TypeError,
            "The output of layer '0' must be a tensor; got tuple. Choose a layer inside it",
        ),
        (
            lambda: forward(nn.Sequential(nn.Flatten(0)), X.requires_grad_()),
            ValueError,
            r"The output of layer '0' must have shape \(n, d\), \(n, t, d\) or \(n, c, ...\); got \(20,\)",
        ),
        (
            lambda: forward(nn.Sequential(nn.Identity()), torch.ones(4, 3, dtype=torch.long)),
            TypeError,
            "The output of layer '0' must be of a floating type; got torch.int64",
        ),
        (
            lambda: forward(nn.Sequential(nn.Linear(5, 3)), X, channels=2),
            ValueError,
            r"must have a dimension 2, not that of the samples, for channels=2; got \(4, 3\)",
        ),
        (
            lambda: forward(nn.Sequential(nn.Linear(5, 3)), X[:1]),
            ValueError,
            "The output of layer '0' must have at least 2 rows; got 1",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_terms_before_any_forward_pass():
    said = (
        "Every layer must be called in a forward pass of the model, with gradients, before .*; got no call of '0', '2'"
    )
    with VCReg().attach(perceptron(), ["0", "2"]) as features, pytest.raises(ValueError, match=said):
        features.total()


def test_terms_of_a_layer_that_the_forward_pass_left_out():
    model = perceptron()
    model.spare = nn.Linear(2, 2)
    model.forward = lambda x: model[0](x)
    with VCReg().attach(model, ["0", "spare"]) as features:
        model(normal(9, 5))
        with pytest.raises(ValueError, match="got no call of 'spare'"):
            features.terms()


def test_a_layer_called_twice():
    layer = nn.Linear(5, 5).double()
    model = nn.Sequential(layer, nn.Tanh(), layer)
    with (
        VCReg().attach(model, "0"),
        pytest.raises(ValueError, match="Layer '0' must be called once in a forward pass; got a second call. Attach"),
    ):
        model(normal(9, 5))


def test_entered_twice():
    context = VCReg().attach(perceptron(), "0")
    with context, pytest.raises(ValueError, match="A context of VCReg must be entered once at a time; got a second"):
        context.__enter__()


def test_it_is_public():
    assert vicreg.VCReg is VCReg


# Its effect


def trained(seed, std_coeff, cov_coeff, steps=300):
    """A small network on digits: accuracy on rows held out; rank and mean squared correlation of its hidden features
    there."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held, kept = order[:600], order[600:]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with VCReg(std_coeff, cov_coeff).attach(model, ["0", "2"]) as features:
        for _ in range(steps):
            rows = kept[torch.randint(len(kept), (128,))]
            optimizer.zero_grad()
            (cross_entropy(model(x[rows]), y[rows]) + features.total()).backward()
            optimizer.step()
    with torch.no_grad():
        hidden = model[:3](x[held])
        right = (model(x[held]).argmax(dim=1) == y[held]).float().mean().item()
    return right, rankme(hidden).item(), mean_correlation(hidden).item()


@pytest.mark.slow
def test_features_are_spread_and_labels_are_learnt_as_well():
    plain = np.array([trained(seed, 0.0, 0.0) for seed in range(5)])
    ours = np.array([trained(seed, 1.0, 1.0) for seed in range(5)])
    assert (ours[:, 1] > plain[:, 1] + 2).all()  # rank
    assert (ours[:, 2] < 0.85 * plain[:, 2]).all()  # correlation
    assert ours[:, 0].mean() > plain[:, 0].mean() - 0.01

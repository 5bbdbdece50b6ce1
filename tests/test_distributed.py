"""The loss over several processes is that of the one global batch; a bad input is the same error on each of them."""

import math
import os
import pathlib
import subprocess
import sys
import time
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from counting import Multiplications
from lightning_fabric import Fabric

from vicreg import Outputs, VICRegLoss
from vicreg.functional import moments, terms
from vicreg.objectives import vicreg

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "distributed.py"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROWS = {2: [(7, 4), (1, 9), (5, 5)], 4: [(3, 1, 6, 2), (4, 4, 4, 4), (1, 1, 1, 1), (5, 0, 2, 3)]}
WIDTHS = {"dense": (6, 5), "gram": (6, 23)}


def samples(rows, p, count, t):
    """All processes' samples for each view, none like another; and where each process's begin."""
    shape = (sum(rows), t, p) if t else (sum(rows), p)
    views = [normal(*shape, seed=i) * (1 + i) + i for i in range(count)]
    return [torch.split(x, rows) for x in views]


def settings_of(count, **settings):
    return {
        "std_coeff": tuple(25.0 + i for i in range(count)),
        "cov_coeff": tuple(1.0 + i for i in range(count)),
    } | settings


def own_part(rank, rows, widths, count, t, settings, n_large, band):
    """What one process has: terms, and the gradient that all processes' together give a linear encoder."""
    p, d = widths
    weight = normal(p, d, seed=99).requires_grad_()
    views = [parts[rank] @ weight for parts in samples(rows, p, count, t)]
    loss = VICRegLoss(**settings)
    with mock.patch.object(moments, "BAND", band):
        found = loss.terms(*views, n_large=n_large)
    found["total"].backward()
    gradient = weight.grad
    dist.all_reduce(gradient)
    if loss.gradient_reduction == "mean":
        gradient /= dist.get_world_size()
    return {name: value.item() for name, value in found.items()}, gradient.tolist()


def whole(rows, widths, count, t, settings, n_large):
    """The same by one process, from the definitions under autograd."""
    p, d = widths
    weight = normal(p, d, seed=99).requires_grad_()
    views = [torch.cat(parts) @ weight for parts in samples(rows, p, count, t)]
    large = n_large or count
    pairs = [(i, j) for i in range(large) for j in range(i + 1, count)]
    values = {"invariance": torch.stack([terms.invariance(views[i], views[j]) for i, j in pairs]).mean()}
    estimator, form = settings.get("covariance_estimator", "plugin"), settings.get("variance_form", "std")
    values |= {f"variance_{terms.suffix(i)}": terms.variance(z, form=form) for i, z in enumerate(views)}
    values |= {f"covariance_{terms.suffix(i)}": terms.covariance(z, estimator) for i, z in enumerate(views)}
    total = 25.0 * values["invariance"]
    for i, (std, cov) in enumerate(zip(settings["std_coeff"], settings["cov_coeff"], strict=True)):
        name = terms.suffix(i)
        total = total + (std * values[f"variance_{name}"] + 2 * cov * values[f"covariance_{name}"]) / count
    total.backward()
    return {name: value.item() for name, value in values.items()} | {"total": total.item()}, weight.grad


def compare(workers, rows, widths, count=2, t=0, n_large=None, band=512, **settings):
    settings = settings_of(count, **settings)
    expected, gradient = whole(rows, widths, count, t, settings, n_large)
    for found, own in workers.run(own_part, rows, widths, count, t, settings, n_large, band):
        assert found == pytest.approx(expected, rel=1e-10)
        torch.testing.assert_close(torch.tensor(own, dtype=torch.float64), gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("form", WIDTHS)
@pytest.mark.parametrize("rows", [rows for every in ROWS.values() for rows in every])
def test_the_loss_is_that_of_the_global_batch(pools, rows, form, reduction):
    compare(pools(len(rows)), rows, WIDTHS[form], gradient_reduction=reduction)


@pytest.mark.parametrize("form", WIDTHS)
@pytest.mark.parametrize(
    "options",
    [
        {"covariance_estimator": "unbiased"},
        {"variance_form": "var"},
        {"count": 4, "n_large": 2},
        {"t": 3},
        {"t": 2, "covariance_estimator": "unbiased"},
        {"band": 2},
        {"band": 3, "t": 2},
    ],
)
@pytest.mark.parametrize("rows", [(7, 4), (3, 1, 6, 2)])
def test_options(pools, rows, form, options):
    compare(pools(len(rows)), rows, WIDTHS[form], **options)


@pytest.mark.parametrize("form", WIDTHS)
def test_equal_rows_need_no_word_from_the_others(pools, form):
    compare(pools(2), (5, 5), WIDTHS[form], equal_rows=True)
    assert pools(2).run(collectives, WIDTHS[form][1], True, True) == [[], []]
    assert pools(2).run(collectives, WIDTHS[form][1], False, True) == [["all_gather"]] * 2


@pytest.mark.parametrize("form", WIDTHS)
def test_backward_communicates_nothing(pools, form):
    assert pools(2).run(collectives, WIDTHS[form][1], False, False) == [[], []]


COLLECTIVES = ("all_reduce", "all_gather", "all_gather_into_tensor", "broadcast", "reduce_scatter_tensor", "all_to_all")


def collectives(rank, d, equal_rows, forward):
    """Names of the collectives on integers (forward) or of all (backward)."""
    seen = []
    originals = {name: getattr(dist, name) for name in COLLECTIVES}

    def spy(name):
        def call(*tensors, **options):
            if not forward or not tensors[-1].is_floating_point():
                seen.append(name)
            return originals[name](*tensors, **options)

        return call

    views = [normal(5, d, seed=rank + 2 * i).requires_grad_() for i in range(2)]
    value = None if forward else VICRegLoss(equal_rows=equal_rows)(*views)
    for name in COLLECTIVES:
        setattr(dist, name, spy(name))
    try:
        if forward:
            VICRegLoss(equal_rows=equal_rows)(*views)
        else:
            value.backward()
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)
    return seen


def multiplications(rank, n, d):
    views = [normal(n, d, seed=i).requires_grad_() for i in range(2)]
    with Multiplications() as counter:
        VICRegLoss()(*views)
    return counter.count


@pytest.mark.parametrize(("n", "d"), [(64, 20), (64, 400)])
@pytest.mark.parametrize("count", [2, 4])
def test_each_process_does_its_share_of_the_products(pools, n, d, count):
    """Two products for value and gradient of each of two views; of the first one, symmetry saves nearly half."""
    product = n * d * min(n, d)
    found = pools(count).run(multiplications, n // count, d)
    triangle = (1 + 1 / (2 * count)) / 2 if d > n else 1
    assert found == [2 * (triangle + 1) * product / count] * count


def test_a_process_alone(pools):
    """process_group=None keeps to this process's rows, and asks nobody."""
    found = pools(2).run(alone)
    expected = [VICRegLoss()(normal(5, 3, seed=rank), normal(5, 3, seed=9)).item() for rank in range(2)]
    assert found == pytest.approx(expected)


def alone(rank):
    if rank == 0:
        time.sleep(0.2)
    return VICRegLoss(process_group=None)(normal(5, 3, seed=rank), normal(5, 3, seed=9)).item()


def test_a_group_of_some_processes(pools):
    first, second, third, fourth = pools(4).run(in_groups)
    expected = [VICRegLoss()(normal(8, 3, seed=seed), normal(8, 3, seed=9)).item() for seed in (0, 1)]
    assert [first, third] == pytest.approx([expected[0]] * 2)
    assert second == fourth == "process_group must be a process group that this process is in, 'default' or None"


def in_groups(rank):
    group = dist.new_group([0, 2])
    own = slice(4 * (rank // 2), 4 * (rank // 2) + 4)
    try:
        return VICRegLoss(process_group=group)(normal(8, 3)[own], normal(8, 3, seed=9)[own]).item()
    except ValueError as error:
        return str(error).split(";")[0]


def test_half_precision_is_that_of_one_process(pools):
    for dtype in (torch.float16, torch.bfloat16):
        for d in (4, 40):
            views = [normal(12, d, seed=i).to(dtype).requires_grad_() for i in range(2)]
            loss = VICRegLoss()(*views)
            loss.backward()
            for (value, gradients), rows in zip(pools(2).run(half, dtype, d), (slice(0, 7), slice(7, 12)), strict=True):
                assert value == pytest.approx(loss.item(), rel=1e-6)
                for own, z in zip(gradients, views, strict=True):
                    wanted = 2 * z.grad[rows].float()  # DDP will halve it
                    torch.testing.assert_close(torch.tensor(own), wanted, rtol=2**-7, atol=1e-6)


def half(rank, dtype, d):
    own = slice(0, 7) if rank == 0 else slice(7, 12)
    views = [normal(12, d, seed=i).to(dtype)[own].requires_grad_() for i in range(2)]
    value = VICRegLoss()(*views)
    value.backward()
    return value.item(), [z.grad.float().tolist() for z in views]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("form", WIDTHS)
def test_not_a_number_reaches_every_process(pools, form, bad):
    for found in pools(2).run(with_bad_number, WIDTHS[form][1], bad):
        finite = {name: math.isfinite(value) for name, value in found.items()}
        assert finite == {
            "invariance": False,
            "variance_a": False,
            "variance_b": True,
            "covariance_a": False,
            "covariance_b": True,
            "total": False,
        }


def with_bad_number(rank, d, bad):
    z_a, z_b = normal(5, d, seed=rank), normal(5, d, seed=rank + 2)
    if rank == 1:
        z_a[2, 1] = bad
    return {name: value.item() for name, value in VICRegLoss().terms(z_a, z_b).items()}


def inputs(name, rank):
    """What each process calls the loss with; process 1's is at fault."""
    a, b = torch.ones(4, 3), torch.zeros(4, 3)
    bad = {
        "shapes": ((a, b[:, :2]), {}),
        "integers": ((a, b.long()), {}),
        "arrays": ((a, b.numpy()), {}),
        "width": ((a[:, :2], b[:, :2]), {}),
        "type": ((a.double(), b.double()), {}),
        "narrow": ((a, b, b[:, :2]), {}),
        "views": ((a, b, b), {}),
        "one": ((a,), {}),
        "settings": ((a, b), {"std_coeff": 10}),
        "coefficients": ((a, b, b), {"std_coeff": (1, 2)}),
        "locations": ((a[:, None], b[:, None]), {}),
        "none": ((a[:0], b[:0]), {}),
        "list": ((a, [1.0]), {"sim_coeff": 0.0}),
        "many": ((a,) * 200, {"eps": 1e-3}),
    }
    if name == "none":
        a, b = a[:1], b[:1]
    good = {"narrow": (a, b, b), "coefficients": (a, b), "many": (a,) * 200}
    return bad[name] if rank == 1 else (good.get(name, (a, b)), {})


ALIKE = "What the loss is called on must be alike on every process; got "
FAULTS = {
    "shapes": (ValueError, "On process 1: z_a and z_b must have the same shape; got (4, 3) and (4, 2)."),
    "integers": (TypeError, "On process 1: z_b must be of a floating type; got torch.int64."),
    "arrays": (TypeError, "On process 1: z_b must be a torch.Tensor; got ndarray."),
    "width": (
        ValueError,
        ALIKE + "z_a (n, 3) of torch.float32 on process 0 and z_a (n, 2) of torch.float32 on process",
    ),
    "type": (ValueError, ALIKE + "z_a (n, 3) of torch.float32 on process 0 and z_a (n, 3) of torch.float64 on process"),
    "narrow": (ValueError, "On process 1: z_a and z_c must have the same shape; got (4, 3) and (4, 2)."),
    "list": (TypeError, "On process 1: z_b must be a torch.Tensor; got list."),
    "many": (ValueError, ALIKE + "eps=0.0001 on process 0 and eps=0.001 on process 1."),
    "views": (ValueError, ALIKE + "2 views on process 0 and 3 views on process 1."),
    "one": (ValueError, "On process 1: VICRegLoss must be called on two or more views; got 1."),
    "settings": (ValueError, ALIKE + "variance=(12.5, 12.5) on process 0 and variance=(5.0, 5.0) on process 1."),
    "coefficients": (ValueError, "On process 1: std_coeff must be one number, or one for each of 3 views; got (1"),
    "locations": (ValueError, ALIKE + "z_a (n, 3) of torch.float32 on process 0 and z_a (n, 1, 3) of torch.float32 on"),
    "none": (
        ValueError,
        "z_a must have at least 2 rows on all processes together; got 1. There are none on process 1.",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_process_is_the_same_error_on_all(pools, name):
    error, text = FAULTS[name]
    begun = time.perf_counter()
    found = pools(2).run(fault, name)
    assert time.perf_counter() - begun < 10
    assert found[0] == found[1]
    assert found[0][0] == error.__name__
    assert found[0][1].startswith(text)


def fault(rank, name):
    views, settings = inputs(name, rank)
    try:
        VICRegLoss(**settings)(*views)
    except Exception as error:
        return type(error).__name__, str(error)
    return "none", ""


def test_an_objective_is_that_of_the_global_batch(pools):
    z = [normal(9, 4, seed=i) for i in range(2)]
    expected = VICRegLoss().terms(*z)
    for found in pools(2).run(objective):
        assert found == pytest.approx({name: value.item() for name, value in expected.items()})


def objective(rank):
    own = slice(0, 3) if rank == 0 else slice(3, 9)
    z = tuple(normal(9, 4, seed=i)[own] for i in range(2))
    total, values = vicreg()(Outputs(x=z, h=z, z=z))
    return {name: value.item() for name, value in values.items()} | {"total": total.item()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while it traces
def test_compiled(pools):
    for eager, traced in zip(pools(2).run(compiled, False), pools(2).run(compiled, True), strict=True):
        assert traced[0] == pytest.approx(eager[0])
        assert traced[1] == pytest.approx(eager[1])


def compiled(rank, compiling):
    z = [normal(3 + rank, 4, seed=i).requires_grad_() for i in range(2)]
    loss = VICRegLoss()
    call = torch.compile(loss, backend="aot_eager") if compiling else loss
    value = call(*z)
    value.backward()
    return value.item(), z[0].grad.flatten().tolist()


def test_in_fabric(pools):
    """Fabric's DDP over two processes steps as one process does with both batches."""
    x = [normal(10, 6, seed=i) for i in range(2)]
    network = linear()
    VICRegLoss()(*(network(view) for view in x)).backward()
    for found in pools(2).run(in_fabric):
        found = torch.tensor(found, dtype=torch.float64)  # Fabric hands outputs on in float32
        torch.testing.assert_close(found, network.weight.grad, rtol=1e-5, atol=1e-5)


def linear():
    network = torch.nn.Linear(6, 12, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(normal(12, 6, seed=9))
    return network


def in_fabric(rank):
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="64-true")
    fabric.launch()
    network = fabric.setup_module(linear())
    own = slice(0, 3) if rank == 0 else slice(3, 10)
    z_a, z_b = network(torch.cat([normal(10, 6, seed=i)[own] for i in range(2)])).chunk(2)
    fabric.backward(VICRegLoss()(z_a, z_b))
    return network.module.weight.grad.tolist()


@pytest.mark.slow
def test_the_example_by_torchrun():
    """In the user's own script, without set-up."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", EXAMPLE]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert [line[1] for line in lines] == ["0", "20", "40", "60", "80", "100"]
    first, last = (dict(zip(line[2::2], map(float, line[3::2]), strict=True)) for line in (lines[0], lines[-1]))
    assert last["variance_a"] < first["variance_a"] / 2
    assert last["total"] < first["total"]

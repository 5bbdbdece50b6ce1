"""What an objective costs: alone against its bare matrix products, and in a training step."""

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import torch
from measure import Work, first_run, in_turn, ratios, summary
from methods_fit import METHODS, Fit, Problem
from torch import Tensor

from vicreg.objectives import Objective, Outputs, objective_of
from vicreg.training.image import ImageRun
from vicreg.training.table import TableRun

CPU = torch.device("cpu")
SIZES = ((256, 256), (1024, 2048))
PLACES, LOCAL_WIDTH = 16, 256
BARE = "networks alone"


def alone(n: int, d: int, seconds: float, least: int = 5) -> list[dict]:
    """Forward and backward of each objective on random embeddings, and of the products that it cannot do without."""
    works: dict[str, Work] = {}
    for name in METHODS:
        works[name] = backward(objective_of(name), outputs(name, n, d))
        if name in PRODUCTS:
            works[f"{name}, products"] = multiply(PRODUCTS[name](n, d))
    took, most = in_turn(works, seconds, least, CPU)
    return [
        {
            "method": name,
            "seconds": summary(took[name]),
            "products": ratios(took[name], took[f"{name}, products"]) if name in PRODUCTS else None,
            "bytes": most[name],
        }
        for name in METHODS
    ]


def outputs(name: str, n: int, d: int) -> Outputs:
    """Random embeddings of two views and what else the method asks for."""
    needs = objective_of(name).needs

    def pair(*shape: int) -> tuple[Tensor, Tensor]:
        first = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
        noise = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
        return first.requires_grad_(), (first.detach() + noise).requires_grad_()

    parts = {"h": pair(n, 4), "z": pair(n, d)}
    if "predictor" in needs:
        parts["p"] = pair(n, d)
    if "target" in needs:
        parts["target"] = tuple(one.detach() for one in pair(n, d))
    if "maps" in needs:
        parts["maps"] = pair(n, PLACES, LOCAL_WIDTH)
    if "cuts" in needs:
        parts["cuts"] = (torch.tensor([[0.0, 0.0, 20.0, 20.0, 0.0]]).repeat(n, 1),) * 2
    return Outputs(x=None, **parts)


def backward(objective: Objective, given: Outputs) -> Work:
    """One evaluation and its gradient."""
    leaves = [one for part in (given.z, given.p, given.maps) for one in part or () if one.requires_grad]

    def work() -> object:
        total, _ = objective(given)
        return torch.autograd.grad(total, leaves, allow_unused=True)

    return work


Shape = tuple[int, ...]


def multiply(shapes: Sequence[tuple[Shape, Shape]]) -> Work:
    """These matrix products, one after the other."""
    pairs = [(torch.randn(*left), torch.randn(*right)) for left, right in shapes]
    return lambda: [left @ right for left, right in pairs]


def squares(n: int, d: int) -> list[tuple[Shape, Shape]]:
    """Of a term of squared products of columns or of rows, for two views: the smaller matrix, and the gradient."""
    one = [((n, d), (d, n)), ((n, n), (n, d))] if d > n else [((d, n), (n, d)), ((n, d), (d, d))]
    return one * 2


def crossed(n: int, d: int) -> list[tuple[Shape, Shape]]:
    """Of Barlow Twins: the cross-correlation, and its gradient for either view; or the same by rows."""
    if d <= 2 * n:
        return [((d, n), (n, d)), ((n, d), (d, d)), ((n, d), (d, d))]
    return [((n, d), (d, n)), ((n, d), (d, n)), ((n, n), (n, d)), ((n, n), (n, d))]


def sliced(n: int, d: int) -> list[tuple[Shape, Shape]]:
    """Of projections on 256 directions, for two views, and their gradient."""
    return [((n, d), (d, 256)), ((n, 256), (256, d))] * 2


def contrasted(n: int, d: int) -> list[tuple[Shape, Shape]]:
    """Of SimCLR: all similarities, and one product for the gradient, as they are symmetric."""
    return [((2 * n, d), (d, 2 * n)), ((2 * n, 2 * n), (2 * n, d))]


def local(n: int, d: int) -> list[tuple[Shape, Shape]]:
    """Of VICRegL: VICReg's; the distances of features in both directions; VICReg's for each matched place in both."""
    t, w = PLACES, LOCAL_WIDTH
    places = t + round(0.4 * t)
    distances = [((n, t, w), (n, w, t))] * 2
    return squares(n, d) + distances + [((places, *a), (places, *b)) for a, b in squares(n, w)] * 2


PRODUCTS: dict[str, Callable[[int, int], list[tuple[Shape, Shape]]]] = {
    "vicreg": squares,
    "barlow_twins": crossed,
    "simclr": contrasted,
    "vibcreg": squares,
    "vicregl": local,
    "sigreg": sliced,
    "visreg": sliced,
    "simsiam+variance+covariance": squares,
    "vicreg+sigreg": lambda n, d: squares(n, d) + sliced(n, d),
}
"""Those that BYOL, SimSiam and the variance term need are none."""


def steps(problem: Problem, fits: Sequence[Fit], seconds: float, least: int = 5) -> list[dict]:
    """A training step of each method, against the same networks' with next to nothing for an objective; and memory."""
    rows = np.concatenate([problem.rows["fit"], problem.rows["valid"]])
    works, most = {}, {}
    for fit in fits:
        for name, plain in ((fit.method, False), (f"{fit.method}, {BARE}", True)):
            works[name] = step(problem.run(fit, rows), plain)
            works[name]()  # the optimiser has its moments from here on
            most[name] = first_run(works[name], CPU)[1]
    took, _ = in_turn(works, seconds, least, CPU)
    return [
        {
            "method": fit.method,
            "seconds": summary(took[fit.method]),
            "networks": ratios(took[fit.method], took[f"{fit.method}, {BARE}"]),
            "bytes": most[fit.method],
        }
        for fit in fits
    ]


def step(run: TableRun | ImageRun, plain: bool) -> Work:
    """A step of training; a plain one has the mean square of the last outputs for its objective."""
    state, numbers = run.state, count()
    state.model.train()

    def work() -> None:
        drawn = run.feed.draw(next(numbers))
        state.optimizer.zero_grad(set_to_none=True)
        joint = state.model(drawn.views)
        if plain:
            last = [*(joint.p or joint.z), *(joint.maps or ())]
            total = torch.stack([one.square().mean() for one in last]).sum()
        else:
            cuts = None if drawn.cuts is None else tuple(drawn.cuts)
            total, _ = run.objective(Outputs(x=None, **joint._asdict(), cuts=cuts))
        total.backward()
        state.optimizer.step()
        state.model.follow(0.99)

    return work

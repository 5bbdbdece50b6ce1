"""What an objective costs in a training step. What it costs alone is in objectives.py."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from measure import Work, first_run, in_turn, ratios, summary
from methods_fit import Fit, Problem

from vicreg.objectives import Outputs
from vicreg.training.image import ImageRun
from vicreg.training.table import TableRun

CPU = torch.device("cpu")
BARE = "networks alone"


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

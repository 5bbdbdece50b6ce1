"""Learning rates over a run, and what the optimiser may decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

WARM_UP = 0.3
START, END = 1 / 25, 1e-4 / 25


def one_cycle(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step: a cosine up over the first 30 %, a cosine down over the rest.

    The shape of Smith and Topin's one-cycle policy (arXiv:1708.07120) as PyTorch's ``OneCycleLR`` draws it, but a
    pure function of the step, so that a resumed run needs no state for it.

    Args:
        step: From 0 to ``steps`` - 1.
        steps: Length of the run.

    Example:
        >>> [round(one_cycle(step, 101), 3) for step in (0, 29, 100)]
        [0.04, 1.0, 0.0]
    """
    up = max(WARM_UP * steps - 1, 1e-9)
    down = max(steps - 1 - up, 1e-9)
    if step < up:
        return _cosine(START, 1.0, step / up)
    return _cosine(1.0, END, min((step - up) / down, 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def constant(step: int, steps: int) -> float:
    """The highest learning rate at every step, for streams that have no end."""
    return 1.0


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of parameters: matrices, which decay, and vectors (biases, batch norm), which do not."""
    every = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in every if one.ndim > 1], "weight_decay": weight_decay},
        {"params": [one for one in every if one.ndim <= 1], "weight_decay": 0.0},
    ]

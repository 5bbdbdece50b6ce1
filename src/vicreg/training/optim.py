"""Learning rates over a run, and what the optimiser may decay and adapt."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW

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


def warmup_cosine(step: int, steps: int, warmup: int, floor: float = 1e-3) -> float:
    """Share of the highest learning rate at a step: linear from 0 over the warm-up, then a cosine down to ``floor``.

    The schedule of the VICReg paper (section 4.2: ten epochs of warm-up, then a cosine to a last value of .002), as its
    code has it (``adjust_learning_rate`` in ``main_vicreg.py`` of facebookresearch/vicreg: down to a thousandth). The
    first step has a learning rate of 0, and the last one is that much above ``floor`` that the next would reach it.

    Args:
        step: From 0 to ``steps`` - 1.
        steps: Length of the run.
        warmup: Steps of warm-up, such as those of ten epochs. A run so short that they are more than a tenth of it has
            a tenth of it for its warm-up, since ten epochs of ten would leave nothing to learn in. The paper's runs, of
            100 epochs and more, are never so short.
        floor: Share of the highest learning rate where the cosine ends.

    Example:
        >>> from functools import partial
        >>> schedule = partial(warmup_cosine, warmup=10)  # what a loop calls with the step and the length of the run
        >>> [round(schedule(step, 110), 4) for step in (0, 5, 10, 60, 109)]
        [0.0, 0.5, 1.0, 0.5005, 0.0012]
    """
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return step / warmup
    return _cosine(1.0, floor, min((step - warmup) / max(steps - warmup, 1), 1.0))


def scaled_learning_rate(base: float, batch: int) -> float:
    """The learning rate for a batch, in proportion to its size: ``base`` is the one for 256 rows.

    Source: Goyal et al., arXiv:1706.02677; in the VICReg paper the base is .2 and the batch 2048.

    Args:
        base: Learning rate for a batch of 256.
        batch: Rows of a step, over all devices.

    Example:
        >>> scaled_learning_rate(0.2, 2048)
        1.6
    """
    return base * batch / 256


def constant(step: int, steps: int) -> float:
    """The highest learning rate at every step, for streams that have no end."""
    return 1.0


def adamw(groups: Iterable[dict[str, Any]], lr: float) -> AdamW:
    """AdamW at PyTorch's settings, in one kernel where the device has it.

    Args:
        groups: Of parameters (:func:`parameter_groups`), already on their device.
        lr: Learning rate.
    """
    groups = list(groups)
    fused = not any(one.device.type == "mps" for group in groups for one in group["params"])
    return AdamW(groups, lr=lr, fused=fused)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of parameters: matrices, which decay and are adapted, and vectors, for which neither holds.

    Vectors are biases, batch and layer norm, and whatever else is one vector or stands once for all samples, with a
    first dimension of 1 and more than two: class tokens and position embeddings (1, n, d), learnt scales (1, 1, 1, d).
    A matrix with one row is one. A convolution to a single channel counts as a vector, which it is; in this it differs
    from VICReg's code, where a vector is what has one dimension.

    Args:
        model: Those of its parameters that need a gradient.
        weight_decay: Of the matrices.

    Returns:
        The groups, either of which may be empty, with the keys ``params``, ``weight_decay`` and ``adapt``. The last is
        for :class:`vicreg.training.lars.LARS`; PyTorch's own optimisers keep it and take no notice.

    Example:
        >>> matrices, vectors = parameter_groups(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), 0.1)
        >>> [tuple(one.shape) for one in matrices["params"]], [tuple(one.shape) for one in vectors["params"]]
        ([(4, 3)], [(4,), (4,), (4,)])
    """
    every = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [one for one in every if _is_matrix(one)], "weight_decay": weight_decay, "adapt": True},
        {"params": [one for one in every if not _is_matrix(one)], "weight_decay": 0.0, "adapt": False},
    ]


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 or (parameter.ndim > 2 and len(parameter) > 1)

"""What runs on pictures and on signals are prepared with alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from vicreg._checks import require
from vicreg.training.collection import Partners
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Machine, Optimisation
from vicreg.training.lars import LARS
from vicreg.training.optim import adamw, scaled_learning_rate, warmup_cosine
from vicreg.training.settings import SAME_FOLDER
from vicreg.training.signal_config import SignalConfig

MOST_BYTES = 2**31
"""Samples that take no more are decoded once and kept in memory; on a GPU, at most a quarter of it."""

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "lars": LARS,
    "larc": partial(LARS, eta=0.02, clip=True),
    "adamw": adamw,
}


class Grouped(Protocol):
    """A source of samples that may lie in folders."""

    what: str
    groups: NDArray[np.int64] | None


def check_enough(what: str, count: int, place: Machine) -> None:
    """Check that there are two samples for each process.

    Args:
        what: Their noun.
        count: How many there are.
        place: The machine.

    Raises:
        ValueError: There are not.
    """
    processes = f" on {place.count} devices" if place.count > 1 else ""
    require(count >= 2 * place.count, f"the {what}", f"be at least {2 * place.count} to learn from{processes}", count)


def partners_of(source: Grouped, views: str | None) -> Partners | None:
    """The others of each sample's folder, if views are of two samples of one folder.

    Raises:
        ValueError: There are no folders.
    """
    if views != SAME_FOLDER:
        return None
    require(source.groups is not None, "views", f"be others for {source.what} without folders", views)
    return Partners(np.asarray(source.groups))


def room(device: torch.device) -> int:
    """Bytes that samples may take on the device."""
    return min(MOST_BYTES, torch.cuda.mem_get_info(device)[1] // 4) if device.type == "cuda" else MOST_BYTES


def channels_last_is_safe(model: nn.Module) -> bool:
    """Whether pictures may lie in memory channel by channel, which makes convolutions much faster.

    In PyTorch 2.13 on some CPUs, the backward pass of such a convolution aborts the process where it is of one pixel,
    has a stride and few channels.
    """
    return not any(
        isinstance(layer, nn.Conv2d)
        and set(layer.kernel_size) == {1}
        and max(layer.stride) > 1
        and min(layer.in_channels, layer.out_channels) < 16
        for layer in model.modules()
    )


def optimisation(
    config: ImageConfig | SignalConfig, steps: int, epoch: int, batch: int, model: nn.Module
) -> Optimisation:
    """The part of the settings that the loop knows."""
    last = config.channels_last
    return Optimisation(
        steps=steps,
        learning_rate=scaled_learning_rate(config.learning_rate, batch),
        weight_decay=config.weight_decay,
        seed=config.seed,
        schedule=partial(warmup_cosine, warmup=round(config.warmup_epochs * epoch)),
        accumulate=config.accumulate,
        optimizer=OPTIMIZERS[config.optimizer],
        channels_last=channels_last_is_safe(model) if last is None else last,
        compiled=config.compile,
    )

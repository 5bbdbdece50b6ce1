"""Semi-supervised evaluation: the whole encoder, tuned with the labels of a few rows.

The protocol is that of VICReg (Bardes, Ponce, LeCun 2022, arXiv:2105.04906, appendix on semi-supervised evaluation, and
the README of facebookresearch/vicreg, 4e12602): 20 epochs of batches of 256 of random crops and flips, SGD with
momentum .9 and without weight decay, one learning rate for the encoder and a higher one for the new linear layer, both
falling by a cosine from epoch to epoch. The encoder is in training mode, batch norm included.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from vicreg._checks import check_integer, check_number, require
from vicreg.evaluation.inputs import IntArray, check_labels, class_codes
from vicreg.evaluation.linear import INITIAL_DEVIATION, MOMENTUM, Batches, cosine, enough_epochs


@dataclass(frozen=True)
class FineTuning:
    """Settings of a fine-tuning.

    Attributes:
        epochs: How many times the labelled rows are gone through.
        encoder_rate: Learning rate of the encoder at the start.
        head_rate: Of the new linear layer.
    """

    epochs: int
    encoder_rate: float
    head_rate: float


PUBLISHED = {0.01: FineTuning(20, 0.03, 0.08), 0.1: FineTuning(20, 0.01, 0.1)}
"""By share of the labels: ``--lr-backbone`` and ``--lr-classifier`` of the official commands."""


def published_settings(share: float, rows: int) -> FineTuning:
    """What the paper takes for the share of labels nearest to this one, with epochs enough for 1000 steps.

    Args:
        share: Of all labels, above 0 and at most 1; nearest on a logarithmic scale.
        rows: Labelled rows that there are to tune with.

    Example:
        >>> published_settings(0.01, rows=12_811)  # of ImageNet
        FineTuning(epochs=20, encoder_rate=0.03, head_rate=0.08)
        >>> published_settings(0.1, rows=6_000)
        FineTuning(epochs=42, encoder_rate=0.01, head_rate=0.1)
    """
    check_number("share", share, 0, 1, open_low=True)
    nearest = PUBLISHED[min(PUBLISHED, key=lambda known: abs(math.log(known / share)))]
    epochs = enough_epochs(check_integer("rows", rows, 1), nearest.epochs)
    return FineTuning(epochs, nearest.encoder_rate, nearest.head_rate)


def labelled_share(labels: Any, share: float, seed: int = 0) -> IntArray:
    """The rows whose labels may be used: a share of each class, and at least one of each.

    Args:
        labels: (n,) classes.
        share: Above 0 and at most 1.
        seed: Of the draw. A larger share of the same seed holds the smaller one.

    Returns:
        Row numbers, ascending.

    Example:
        >>> labels = np.array(["common"] * 97 + ["rare"] * 3)
        >>> labels[labelled_share(labels, 0.1)].tolist().count("rare"), len(labelled_share(labels, 0.1))
        (1, 11)
    """
    check_number("share", share, 0, 1, open_low=True)
    array = np.asarray(labels)
    codes = class_codes(check_labels(array, len(array) if array.ndim else 0))
    order = np.lexsort((np.random.default_rng(seed).permutation(len(codes)), codes))
    size = np.bincount(codes)
    place = np.arange(len(codes)) - (np.cumsum(size) - size)[codes[order]]
    kept = np.maximum(1, np.round(size * share))[codes[order]]
    taken: IntArray = np.sort(order[place < kept])
    return taken


def fine_tuned(
    encoder: nn.Module, width: int, batches: Batches, classes: int, settings: FineTuning, *, seed: int = 0
) -> nn.Module:
    """A classifier from a copy of an encoder and a new linear layer, tuned together. The encoder stays as it is.

    For mixed precision call it under ``torch.autocast``. An encoder with dropout draws from torch's global generator.

    Args:
        encoder: From inputs (b, ...) to representations (b, width).
        width: Of the representation.
        batches: From an epoch's number, 0 to ``settings.epochs - 1``, to its batches in random order: inputs, on the
            encoder's device and augmented as in the papers, and classes (b,), whole numbers below ``classes``. 256 rows
            are usual, two the fewest, since batch norm learns of them.
        classes: How many, at least 2.
        settings: From `published_settings`, or others.
        seed: Of the linear layer's first weights.

    Returns:
        The encoder's copy and the linear layer, one after the other, in evaluation mode: from inputs to logits
        (b, classes).

    Raises:
        ValueError: No batch, a batch of one row, or an output of the encoder that is no (b, width).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> tuned = fine_tuned(nn.Linear(1, 2), 2, lambda epoch: [(x, y)], 2, FineTuning(200, 0.1, 0.1))
        >>> tuned(x).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    check_integer("classes", classes, 2)
    tuned = copy.deepcopy(encoder).requires_grad_(True).train()
    parameters = list(tuned.parameters())
    require(len(parameters) > 0, "the encoder", "have parameters to tune", "none")
    head = nn.Linear(check_integer("width", width, 1), classes)
    with torch.no_grad():
        head.weight.normal_(std=INITIAL_DEVIATION, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    head.to(parameters[0].device)
    rates = (settings.encoder_rate, settings.head_rate)
    groups = [{"params": list(part.parameters()), "lr": rate} for part, rate in zip((tuned, head), rates, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM)
    for epoch in range(settings.epochs):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * cosine(epoch, settings.epochs)
        steps = 0
        for x, labels in batches(epoch):
            require(len(x) > 1, "a batch", "have at least 2 rows", len(x), "Leave a last batch of one row out.")
            h = tuned(x)
            require(
                h.shape == (len(x), width), "the encoder's output", f"have shape ({len(x)}, {width})", tuple(h.shape)
            )
            loss = cross_entropy(head(h), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            steps += 1
        require(steps > 0, "the batches", "hold rows to tune with", f"none in epoch {epoch}")
    return nn.Sequential(tuned, head).eval()

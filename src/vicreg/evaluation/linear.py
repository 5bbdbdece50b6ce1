"""The linear probe of the field's papers: one linear layer on frozen features, by stochastic gradient descent.

The protocol is that of VICReg (Bardes, Ponce, LeCun 2022, arXiv:2105.04906, appendix on linear evaluation, and
``evaluate.py --lr-head 0.02`` of facebookresearch/vicreg, 4e12602): 100 epochs of batches of 256, SGD with momentum .9,
weight decay 1e-6, a learning rate of .02 that falls by a cosine from epoch to epoch, weights from N(0, .01^2), no bias
at the start. Two things are added, lest the score says more about the scale of a representation than about what is in
it. Columns are standardised by the training rows, which takes nothing from and gives nothing to what a linear layer can
express; so one learning rate means the same for raw pixels and for any encoder. And the learning rate is chosen among
four around .02 on training rows alone; all four are trained at once, side by side in one matrix product.

Unlike the probe for tables (`vicreg.evaluation.scores.linear_probe`) it never holds a second copy of the features, and
its cost grows with their number as that of a few matrix products: made for 60,000 rows and more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from vicreg._checks import check_integer, check_number, require
from vicreg.evaluation.inputs import IntArray, as_features, check_codes

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
"""From an epoch's number to its batches: features (b, k) or inputs (b, ...), and classes (b,) numbered from 0."""

RATES = (0.02, 0.006, 0.06, 0.002)  # of equals, the first is taken
EPOCHS = 100
BATCH = 256
LEAST_STEPS = 1000
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-6
CHOOSING_ONE_OF = 10
INITIAL_DEVIATION = 0.01
BLOCK = 4096  # rows that are scored at once


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Columns brought to mean 0 and deviation 1.

    Attributes:
        mean: (k,), float32.
        factor: (k,), one over the deviation; 1 for a column that does not vary.
    """

    mean: Tensor
    factor: Tensor

    def __call__(self, h: Tensor) -> Tensor:
        """Features (b, k) of any real type, standardised in float32."""
        return (h.to(torch.float32) - self.mean).mul_(self.factor)


def standardiser(batches: Iterable[Tensor]) -> Standardiser:
    """Mean and deviation of each column, from one pass over the features.

    Args:
        batches: Features (b, k), b at least 1.

    Raises:
        ValueError: There is no batch, or a value is NaN or infinite.

    Example:
        >>> scale = standardiser([torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]])])
        >>> scale(torch.tensor([[4.0, 5.0]])).tolist()
        [[2.0, 0.0]]
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    device = torch.device("cpu")
    for h in batches:
        h = as_features("the features", h)
        device, rows = h.device, len(h)
        # Sums of a batch are exact enough in float32; those of the whole are kept in float64, on the CPU, as not every
        # device has it. Merged as by Chan, Golub and LeVeque (1979): no difference of large squares.
        own = h.to(torch.float32).mean(0)
        own_squares = (h.to(torch.float32) - own).square_().sum(0).cpu().double()
        shift = own.cpu().double() - mean
        mean = mean + shift * (rows / (count + rows))
        squares = squares + own_squares + shift.square() * (count * rows / (count + rows))
        count += rows
    require(count > 0, "the batches", "hold rows to train the probe on", "none")
    finite = bool(torch.isfinite(mean).all() and torch.isfinite(squares).all())
    require(finite, "the features", "be finite", "NaN or infinite values", "Leave these rows out, or mend the encoder.")
    deviation = (squares / count).sqrt()
    # A column that is constant up to its rounding must not be blown up to deviation 1.
    constant = deviation <= 10 * torch.finfo(torch.float32).eps * mean.abs()
    factor = torch.where(constant, 1.0, 1 / torch.where(constant, 1.0, deviation))
    return Standardiser(mean.float().to(device), factor.float().to(device))


class Heads:
    """Softmax classifiers side by side, each with a learning rate of its own, under SGD with momentum.

    What ``torch.optim.SGD`` and autograd do to as many linear layers, with two matrix products for all of them.

    Args:
        width: Numbers per row.
        classes: How many.
        heads: How many classifiers.
        device: Where they live.
        seed: Of the first weights, which all heads share.

    Attributes:
        weight: (heads * classes, width).
        bias: (heads * classes, 1).
        weight_momentum: As ``weight``.
        bias_momentum: As ``bias``.
    """

    def __init__(self, width: int, classes: int, heads: int, device: torch.device, seed: int) -> None:
        self.heads = heads
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(classes, width, generator=generator).mul_(INITIAL_DEVIATION)
        self.weight = first.repeat(heads, 1).to(device)
        self.bias = torch.zeros(heads * classes, 1, device=device)
        self.weight_momentum = torch.zeros_like(self.weight)
        self.bias_momentum = torch.zeros_like(self.bias)

    def logits(self, x: Tensor) -> Tensor:
        """Of standardised features (b, width): (heads, classes, b).

        Rows come last, since a softmax over a few classes that lie beside one another is many times slower on a CPU
        than one over classes that lie apart.
        """
        return torch.addmm(self.bias, self.weight, x.mT).view(self.heads, -1, len(x))

    def descend(self, x: Tensor, labels: Tensor, logits: Tensor, rates: Tensor, weight_decay: float) -> None:
        """One step of all heads on one batch.

        Args:
            x: Standardised features (b, width).
            labels: (b,) classes.
            logits: Of ``x``.
            rates: (heads,) learning rates.
            weight_decay: Of weights and biases alike.
        """
        # d(mean cross entropy) / d(logits) = (softmax - one hot) / b
        slope = logits.softmax(1)
        right = labels.expand(self.heads, 1, -1)
        slope = slope.scatter_add_(1, right, slope.new_full((1,), -1).expand_as(right)).div_(len(x)).flatten(0, 1)
        self.weight_momentum.addmm_(slope, x, beta=MOMENTUM).add_(self.weight, alpha=weight_decay)
        own = slope.sum(1, keepdim=True)
        self.bias_momentum.mul_(MOMENTUM).add_(own).add_(self.bias, alpha=weight_decay)
        steps = rates.repeat_interleave(len(self.bias) // self.heads)[:, None]
        self.weight.addcmul_(self.weight_momentum, steps, value=-1)
        self.bias.addcmul_(self.bias_momentum, steps, value=-1)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A trained probe.

    Attributes:
        scale: Standardises features as those it was trained on.
        weight: (classes, k), for standardised features.
        bias: (classes,).
        rate: The learning rate it was trained with.
    """

    scale: Standardiser
    weight: Tensor
    bias: Tensor
    rate: float

    def logits(self, h: Any) -> Tensor:
        """What the probe says of features (m, k): one number per class, (m, classes), on the probe's device.

        Raises:
            ValueError: Another width than it was trained on, or features that are not finite.
        """
        h = as_features("h", h)
        width = self.weight.shape[1]
        require(h.shape[1] == width, "h", f"have {width} columns", h.shape[1])
        blocks = [
            linear(self.scale(block.to(self.weight.device)), self.weight, self.bias) for block in torch.split(h, BLOCK)
        ]
        found = torch.cat(blocks)
        require(bool(torch.isfinite(found).all()), "h", "be finite", "NaN or infinite values")
        return found


def among_first(logits: Tensor, labels: Any, top: int = 1) -> Tensor:
    """Row by row, whether the right class is among the ``top`` likeliest: top-1 or top-5 accuracy, before the mean.

    Args:
        logits: (m, classes).
        labels: (m,) classes numbered from 0.
        top: How many answers are allowed, at most ``classes``.

    Returns:
        (m,), 1.0 where right and 0.0 where wrong.

    Example:
        >>> logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
        >>> among_first(logits, [0, 1]).tolist(), among_first(logits, [0, 1], top=2).tolist()
        ([1.0, 0.0], [1.0, 1.0])
    """
    check_integer("top", top, 1, logits.shape[1])
    codes = torch.as_tensor(labels, device=logits.device)
    require(len(codes) == len(logits), "labels", f"be one for each of the {len(logits)} rows", len(codes))
    return (logits.topk(top).indices == codes[:, None]).any(1).float()


def enough_epochs(rows: int, epochs: int, least_steps: int = LEAST_STEPS) -> int:
    """As many epochs as a protocol says, or more where rows are so few that they would end in a handful of steps.

    Protocols count epochs of a large set: 20 epochs of 1 % of ImageNet are 1000 steps, of 1 % of 60,000 pictures 60.

    Args:
        rows: Of an epoch; in batches of 256.
        epochs: What the protocol says.
        least_steps: Steps that should be taken in all.

    Example:
        >>> enough_epochs(60_000, 100), enough_epochs(600, 20), enough_epochs(30, 100)
        (100, 334, 1000)
    """
    return max(epochs, math.ceil(least_steps / math.ceil(rows / BATCH)))


def cosine(epoch: int, epochs: int) -> float:
    """Share of the learning rate in an epoch: from 1 towards 0 by half a cosine, one value for a whole epoch.

    Example:
        >>> cosine(0, 100), round(cosine(50, 100), 6)
        (1.0, 0.5)
    """
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def choosing_rows(codes: IntArray, seed: int) -> IntArray:
    """A tenth of the training rows, to choose a learning rate by: of each class that has two rows or more.

    Args:
        codes: (n,) classes.
        seed: Of the draw.

    Returns:
        Row numbers, ascending; none if every row is alone in its class.

    Example:
        >>> choosing_rows(np.array([0] * 30 + [1] * 2 + [2]), seed=0).size
        4
    """
    size = np.bincount(codes)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(codes)), codes))
    place = np.arange(len(codes)) - (np.cumsum(size) - size)[codes[order]]
    kept: IntArray = order[(place % CHOOSING_ONE_OF == 0) & (size[codes[order]] > 1)]
    return np.sort(kept)


@torch.no_grad()
def probe_batches(
    batches: Batches,
    classes: int,
    choose_by: tuple[Any, Any] | None = None,
    *,
    rates: Sequence[float] = RATES,
    epochs: int = EPOCHS,
    weight_decay: float = WEIGHT_DECAY,
    seed: int = 0,
) -> LinearProbe:
    """A linear probe on features that differ from epoch to epoch: those of randomly cropped and flipped pictures.

    This is the papers' protocol to the letter of its augmentation: ``batches(epoch)`` crops and flips the training
    pictures anew and yields what the frozen encoder, in evaluation mode, makes of them. Epoch 0 is gone through twice,
    first to measure the scale of the columns.

    Args:
        batches: From an epoch's number, 0 to ``epochs - 1``, to its batches in random order: features (b, k) and
            classes (b,), whole numbers below ``classes``. For batches of other than 256, scale ``rates`` with them.
        classes: How many, at least 2.
        choose_by: Features and classes of *training* rows that are in no batch, by whose accuracy the learning rate is
            chosen. Needed if there are several rates.
        rates: Learning rates to choose from.
        epochs: How many.
        weight_decay: Of weights and bias.
        seed: Of the first weights.

    Returns:
        The probe with the best of the rates.

    Raises:
        ValueError: No batches, features that are no (b, k) or not finite, several rates and nothing to choose by.

    Example:
        >>> h = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> found = probe_batches(lambda epoch: [(h, torch.tensor([0, 0, 1, 1]))], 2, rates=[0.2])
        >>> found.logits(h).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    check_integer("classes", classes, 2)
    check_integer("epochs", epochs, 1)
    several = "be one where no rows are given to choose by"
    require(len(rates) == 1 or choose_by is not None, "rates", several, f"{len(rates)} of them")
    scale = standardiser(h for h, _ in batches(0))
    device = scale.mean.device
    each = torch.tensor([check_number("rates", rate, 0, open_low=True) for rate in rates], device=device)
    heads = Heads(len(scale.mean), classes, len(rates), device, seed)
    for epoch in range(epochs):
        now = each * cosine(epoch, epochs)
        for h, labels in batches(epoch):
            x = scale(h)
            heads.descend(x, labels, heads.logits(x), now, weight_decay)
    probes = [
        LinearProbe(scale, weight, bias[:, 0], rate)
        for weight, bias, rate in zip(
            torch.split(heads.weight, classes), torch.split(heads.bias, classes), rates, strict=True
        )
    ]
    if choose_by is None or len(rates) == 1:
        return probes[0]
    h, labels = choose_by
    right = [float(among_first(probe.logits(h), labels).mean()) for probe in probes]
    return probes[right.index(max(right))]


def probe_features(
    h: Any,
    codes: Any,
    classes: int,
    *,
    rates: Sequence[float] = RATES,
    epochs: int = EPOCHS,
    weight_decay: float = WEIGHT_DECAY,
    seed: int = 0,
) -> LinearProbe:
    """A linear probe on features that are there once and for all.

    The learning rate is chosen on a tenth of the rows, stratified by class, and the probe trained anew on all. With few
    rows there are more epochs, for at least 1000 steps. Features stay as they are given (float16 and uint8 as well);
    only batches are widened.

    Args:
        h: (n, k) features, a tensor on any device or an array.
        codes: (n,) classes, whole numbers below ``classes``.
        classes: How many, at least 2.
        rates: Learning rates to choose from; the first is taken where every row is alone in its class.
        epochs: How many of 256-row batches.
        weight_decay: Of weights and bias.
        seed: Of the first weights, the order of rows and that tenth.

    Returns:
        The probe.

    Raises:
        TypeError: Classes that are no whole numbers.
        ValueError: Shapes that do not fit, classes out of range, or features that are not finite.

    Example:
        >>> found = probe_features([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], classes=2)
        >>> found.logits([[-1.0], [5.0]]).argmax(1).tolist()
        [0, 1]
    """
    features = as_features("h", h)
    check_integer("classes", classes, 2)
    labels = check_codes(codes, len(features), classes)
    if len(rates) > 1:
        chosen = choosing_rows(labels, seed)
        rates = (_best_rate(features, labels, chosen, classes, rates, epochs, weight_decay, seed),)
    every = np.arange(len(labels))
    epochs = enough_epochs(len(every), epochs)
    batches = _shuffled(features, labels, every, seed)
    return probe_batches(batches, classes, rates=rates, epochs=epochs, weight_decay=weight_decay, seed=seed)


def _best_rate(
    features: Tensor,
    labels: IntArray,
    chosen: IntArray,
    classes: int,
    rates: Sequence[float],
    epochs: int,
    weight_decay: float,
    seed: int,
) -> float:
    if not len(chosen):
        return rates[0]
    others = np.setdiff1d(np.arange(len(labels)), chosen)
    choose_by = (features[_rows(chosen, features)], torch.from_numpy(labels[chosen]))
    probe = probe_batches(
        _shuffled(features, labels, others, seed),
        classes,
        choose_by,
        rates=rates,
        epochs=enough_epochs(len(others), epochs),
        weight_decay=weight_decay,
        seed=seed,
    )
    return probe.rate


def _shuffled(features: Tensor, labels: IntArray, rows: IntArray, seed: int) -> Batches:
    """Batches of 256 of some rows, in an order that seed and epoch determine."""
    codes = torch.from_numpy(labels).to(features.device)

    def batches(epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        order = np.random.default_rng((seed, epoch)).permutation(rows)
        for batch in torch.split(_rows(order, features), BATCH):
            yield features.index_select(0, batch), codes.index_select(0, batch)

    return batches


def _rows(rows: IntArray, features: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(features.device)

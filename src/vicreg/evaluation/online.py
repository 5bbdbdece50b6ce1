"""What can be said of a representation while it is being learned: an online probe, and readings without labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vicreg._checks import check_integer, check_number, listed, require
from vicreg.evaluation.linear import WEIGHT_DECAY, Heads
from vicreg.functional.spectrum import alpha_req, dead_dimensions, participation_ratio, rankme, standard_deviation

STATISTICS_MOMENTUM = 0.1
EPS = 1e-5


class OnlineLinear:
    """A linear classifier trained beside pretraining, on representations whose gradient is stopped.

    It sees each batch once: first it answers, then it learns. So its accuracy is of rows that it has not learned from
    in this epoch (Dawid 1984 calls that prequential), for the price of two small matrix products and no second pass. It
    runs behind a probe trained to the end on the finished encoder, and sees augmented inputs: look at its trend.

    Columns are standardised by their own batch, as by batch norm without weights, since a representation that is being
    learned changes its scale. Under several processes each has a probe of its own rows.

    Nothing waits for the device but who reads the accuracy.

    Args:
        width: Of the representation.
        classes: How many, at least 2.
        rate: Learning rate, constant, as for batches of 256.
        seed: Of the first weights.
        device: Where the representations are.

    Example:
        >>> probe = OnlineLinear(width=1, classes=2)
        >>> h, labels = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1, 1])
        >>> for _ in range(20):
        ...     accuracy = probe.step(h, labels)
        >>> accuracy.item() > 0.8
        True
    """

    def __init__(
        self, width: int, classes: int, rate: float = 0.02, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        check_integer("width", width, 1)
        check_integer("classes", classes, 2)
        device = torch.device(device)
        self._heads = Heads(width, classes, 1, device, check_integer("seed", seed, 0))
        self._rate = torch.full((1,), check_number("rate", rate, 0, open_low=True), device=device)
        self._mean, self._variance = torch.zeros(width, device=device), torch.ones(width, device=device)
        self._right, self._seen = (torch.zeros((), dtype=torch.long, device=device) for _ in range(2))

    @torch.no_grad()
    def step(self, h: Tensor, labels: Tensor) -> Tensor:
        """Answer for a batch, then learn from it.

        Args:
            h: Representations (b, width), with or without a graph, of any floating type; b at least 2.
            labels: (b,) classes, whole numbers below ``classes``, on the same device.

        Returns:
            Accuracy since the last `restart`, a scalar on the device.

        Raises:
            ValueError: Shapes that do not fit.
        """
        width = len(self._mean)
        require(
            h.ndim == 2 and h.shape[1] == width and len(h) > 1, "h", f"have shape (b, {width}), b >= 2", tuple(h.shape)
        )
        require(labels.shape == h.shape[:1], "labels", f"have shape ({len(h)},)", tuple(labels.shape))
        with torch.autocast(h.device.type, enabled=False):
            x = h.detach().float()
            variance, mean = torch.var_mean(x, 0, correction=0)
            self._mean.lerp_(mean, STATISTICS_MOMENTUM)
            self._variance.lerp_(variance * (len(h) / (len(h) - 1)), STATISTICS_MOMENTUM)
            x = (x - mean) * (variance + EPS).rsqrt()
            logits = self._heads.logits(x)
            self._right += (logits[0].argmax(0) == labels).sum()
            self._seen += len(h)
            self._heads.descend(x, labels, logits, self._rate, WEIGHT_DECAY)
        return self.accuracy()

    def accuracy(self) -> Tensor:
        """Share of right answers since the last `restart`, a scalar on the device; 0 before the first."""
        return self._right / self._seen.clamp(min=1)

    def restart(self) -> None:
        """Count anew, at the start of an epoch; what has been learned stays."""
        self._right.zero_()
        self._seen.zero_()

    @torch.no_grad()
    def logits(self, h: Tensor) -> Tensor:
        """What it says of held-out representations (m, width), scaled by running statistics: (m, classes)."""
        with torch.autocast(h.device.type, enabled=False):
            x = (h.detach().float() - self._mean) * (self._variance + EPS).rsqrt()
            return self._heads.logits(x)[0].mT

    def tensors(self) -> dict[str, Tensor]:
        """Its whole state, copied: what a checkpoint keeps so that a resumed run goes on bit by bit."""
        return {name: tensor.clone() for name, tensor in self._state().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over a state from `tensors`.

        Raises:
            ValueError: Tensors of another probe: other names, or other shapes.
        """
        own = self._state()
        fix = "It was saved by a probe of another width or of other classes."
        require(set(tensors) == set(own), "the online probe's state", f"be {listed(own, 20)}", listed(tensors, 20))
        for name, tensor in own.items():
            shape = tuple(tensors[name].shape)
            require(shape == tuple(tensor.shape), name, f"have shape {tuple(tensor.shape)}", shape, fix)
            tensor.copy_(tensors[name])

    def _state(self) -> dict[str, Tensor]:
        return {
            "weight": self._heads.weight,
            "bias": self._heads.bias,
            "weight_momentum": self._heads.weight_momentum,
            "bias_momentum": self._heads.bias_momentum,
            "mean": self._mean,
            "variance": self._variance,
            "right": self._right,
            "seen": self._seen,
        }


def epoch_readings(h: Tensor) -> dict[str, float]:
    """Readings of a representation that need no labels, to be written down at every epoch.

    They take two singular value decompositions: some thousand rows, more than the representation is wide, are enough,
    and always the same number, since ranks grow with it.

    Args:
        h: Representations (n, k), n at least 2, of plain (not augmented) inputs.

    Returns:
        ``rankme`` (effective rank, at most k), ``alpha_req`` (decay of the spectrum; NaN where the embedding spans too
        few directions to tell), ``participation_ratio`` (as ``rankme``, with more weight on large directions),
        ``dead_dimensions`` (columns that hardly vary) and ``deviation`` (mean standard deviation of the columns).

    Raises:
        TypeError: ``h`` is no floating tensor.
        ValueError: The shape of ``h`` is wrong.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> {name: round(value, 2) for name, value in epoch_readings(corners).items()}
        {'rankme': 2.0, 'alpha_req': 0.0, 'participation_ratio': 2.0, 'dead_dimensions': 0.0, 'deviation': 1.15}
    """
    return {
        "rankme": float(rankme(h)),
        "alpha_req": float(alpha_req(h)),
        "participation_ratio": float(participation_ratio(h)),
        "dead_dimensions": float(dead_dimensions(h)),
        "deviation": float(standard_deviation(h).mean()),
    }

"""The monitor: fed with every step, it looks now and then, and warns of what lasts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vicreg._checks import check_integer, check_number, require, shown
from vicreg.diagnostics.failures import Symptom, symptom
from vicreg.diagnostics.look import MOST_ROWS, Look, checked, gradient_shares, look


class CollapseWarning(UserWarning):
    """A run is failing, or has failed: which way, and what helps."""


@dataclass(frozen=True)
class Finding:
    """A failure that lasted.

    Attributes:
        step: When it was named.
        failure: Its name: diverging, one branch collapsed, norm collapse, dead dimensions, informational collapse,
            invariance ignored, or covariance at its noise floor.
        where: Of what: embedding, embedding a or b, representation, loss.
        value: What was measured; None where it is no finite number.
        limit: What it went beyond.
        said: The finding in words.
        remedy: What helps, in words.
    """

    step: int
    failure: str
    where: str
    value: float | None
    limit: float
    said: str
    remedy: str

    def __str__(self) -> str:
        return f"Step {self.step}: {self.failure} ({self.where}). {self.said} {self.remedy}"

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def warn(finding: Finding) -> None:
    """Warn of a finding with a `CollapseWarning` where the monitor was fed."""
    warnings.warn(str(finding), CollapseWarning, stacklevel=4)


class CollapseMonitor:
    """Watches a run, and names the failure and the remedy.

    It looks once in ``every`` steps at an evenly spaced part of the batch, on the device, and waits for it once; in
    between it costs next to nothing. A failure is named when two looks in a row show it and it is not on the mend. What
    follows from a failure is not named beside it, and after a divergence nothing is.

    Args:
        every: Steps between looks, at least 1.
        variance_target: The standard deviation that the loss holds each dimension at (gamma). None for losses without
            such a term, as those of embeddings of length 1.
        patience: Looks in a row, at least 1.
        processes: How many processes have a batch like the one that is fed; the loss's batch is all of them.
        notify: Called with each finding. By default it warns with a `CollapseWarning`; a function that raises ends
            the run there.

    Attributes:
        findings: What was named, in order.
        looks: What was seen, in order.

    Example:
        >>> found = []
        >>> monitor = CollapseMonitor(every=1, notify=found.append)
        >>> collapsed = torch.ones(64, 8) + 1e-4 * torch.randn(64, 8)
        >>> for _ in range(2):
        ...     _ = monitor.update(z_a=collapsed, z_b=collapsed)
        >>> found[0].failure, found[0].step, found[0].remedy.split(";")[0]
        ('norm collapse', 2, 'Raise std_coeff')
    """

    def __init__(
        self,
        every: int = 50,
        *,
        variance_target: float | None = 1.0,
        patience: int = 2,
        processes: int = 1,
        notify: Callable[[Finding], None] = warn,
    ) -> None:
        self.every = check_integer("every", every, 1)
        self.patience = check_integer("patience", patience, 1)
        self.processes = check_integer("processes", processes, 1)
        target = variance_target
        self.variance_target = None if target is None else check_number("variance_target", target, 0, open_low=True)
        require(callable(notify), "notify", "be a function", shown(notify), error=TypeError)
        self.notify = notify
        self.findings: list[Finding] = []
        self.looks: list[Look] = []
        self._step = 0
        self._first: Tensor | float | None = None
        self._totals: list[Tensor] = []
        self._seen: list[Symptom] = []

    def update(
        self,
        z_a: Tensor,
        z_b: Tensor,
        *,
        h_a: Tensor | None = None,
        h_b: Tensor | None = None,
        terms: Mapping[str, Tensor | float] | None = None,
        weights: Mapping[str, float] | None = None,
        shares: Mapping[str, Tensor | float] | None = None,
        step: int | None = None,
    ) -> list[Finding]:
        """Tell of a step.

        Args:
            z_a: Embeddings of one view, (n, d) or (n, t, d), n at least 2; with or without a graph.
            z_b: Embeddings of the other view of the same samples.
            h_a: Representations of that view, of any width.
            h_b: Representations of the other view.
            terms: The terms by name, unweighted, and under ``total`` the loss: what ``VICRegLoss().terms`` returns.
                Without a total, a divergence is seen only when something is no longer finite.
            weights: VICReg's, as for `gradient_shares`: the share of each term in the gradient is then computed.
                Without them, nor ``shares``, an ignored invariance is seen only where views are strangers.
            shares: Share of each term in the gradient, by name, if you have it.
            step: Steps done, from 1; counted by itself where left out.

        Returns:
            What is named at this step.

        Raises:
            TypeError: A view is no floating tensor.
            ValueError: A shape is wrong, or a weight is of another term. What is passed is looked at when the monitor
                looks.
        """
        now = self._step + 1 if step is None else check_integer("step", step, 1)
        before, self._step = self._step or now - 1, now
        if terms and "total" in terms:
            self._totals.append(_scalar("total", terms["total"], z_a))
            self._first = self._totals[0] if self._first is None else self._first
        if now // self.every <= before // self.every:
            return []
        with torch.no_grad(), torch.autocast(z_a.device.type, enabled=False):
            self.looks.append(self._look((z_a, z_b), (h_a, h_b), terms or {}, weights or {}, shares or {}))
        self._totals = []
        return self._judged(self.looks[-1])

    def _look(
        self,
        views: tuple[Tensor, Tensor],
        encoded: tuple[Tensor | None, Tensor | None],
        terms: Mapping[str, Tensor | float],
        weights: Mapping[str, float],
        shares: Mapping[str, Tensor | float],
    ) -> Look:
        z = [checked(f"z_{'ab'[i]}", one) for i, one in enumerate(views)]
        h = [checked(f"h_{'ab'[i]}", one) for i, one in enumerate(encoded) if one is not None]
        require(len(z[0]) == len(z[1]), "z_a and z_b", "have as many rows", f"{len(z[0])} and {len(z[1])}")
        known = {name: _scalar(name, value, z[0]) for name, value in terms.items()}
        pulling = {name: _scalar(name, value, z[0]) for name, value in shares.items()}
        if weights and not shares:
            rows = -(-len(z[0]) // MOST_ROWS)
            pulling = gradient_shares(z[0][::rows], z[1][::rows], weights, self.variance_target or 1.0)
        return look(self._step, z, h, known, pulling, self._totals, self.variance_target, self.processes)

    def _judged(self, latest: Look) -> list[Finding]:
        """What this look makes certain."""
        self._first = None if self._first is None else float(self._first)
        shows = symptom(latest, self._first)
        if shows is None or any(one.failure == "diverging" for one in self.findings):
            self._seen = []
            return []
        same = [one for one in self._seen if (one.failure, one.where) == (shows.failure, shows.where)]
        lasting = same and not shows.mending(same[-1])
        self._seen = [*same, shows] if lasting else [shows]
        enough = len(self._seen) >= self.patience or shows.at_once
        known = any((one.failure, one.where) == (shows.failure, shows.where) for one in self.findings)
        if known or not enough:
            return []
        value = shows.value if math.isfinite(shows.value) else None
        finding = Finding(latest.step, shows.failure, shows.where, value, shows.limit, shows.said, shows.remedy)
        self.findings.append(finding)
        self.notify(finding)
        return [finding]

    def plain(self) -> dict[str, Any]:
        """What it has to know to go on from here, as JSON can hold it: for a checkpoint. It waits for the device."""
        first = None if self._first is None else float(self._first)
        finite = first is not None and math.isfinite(first)
        return {
            "step": self._step,
            "first": first if finite else None,
            "findings": [one.plain() for one in self.findings],
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from what `plain` gave; looks are not kept."""
        self._step, self._first = plain["step"], plain["first"]
        self.findings = [Finding(**one) for one in plain["findings"]]
        self._totals, self._seen, self.looks = [], [], []


def _scalar(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        require(value.ndim == 0, name, "be a 0-dimensional tensor", f"shape {tuple(value.shape)}")
        return value.detach()
    number = isinstance(value, int | float)
    require(number, name, "be a number or a 0-dimensional tensor", shown(value), error=TypeError)
    return torch.tensor(float(value), device=like.device)

"""Watching a run for collapse: what is said, what is written down, and whether the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from vicreg import runs
from vicreg.diagnostics import Finding, Look
from vicreg.objectives import Objective
from vicreg.runs import Run
from vicreg.training.engine import State
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.workflows.checkpoints import Stop


class Guard:
    """A callback that says at once what fails and what helps; its findings go into the checkpoint and the run.

    Args:
        objective: The run's.
        run: Its folder.
        say: Told of each finding.
        stop: Asked to stop the run at the first finding; None lets the run go on.
        processes: How many share a batch.
    """

    def __init__(
        self, objective: Objective, run: Run, say: Callable[[str], None], stop: Stop | None = None, processes: int = 1
    ) -> None:
        self._run, self._say, self._stop = run, say, stop
        self._monitor = monitor_of(objective, self._heard, processes)
        self._feed = monitored(self._monitor, objective)

    def __call__(self, state: State) -> None:
        """After every step."""
        self._feed(state)

    def _heard(self, finding: Finding) -> None:
        self._say(str(finding))
        if self._stop is not None:
            self._stop.collapse = str(finding)

    @property
    def looks(self) -> list[Look]:
        """What the monitor saw, since the run began or was gone on with."""
        return self._monitor.looks

    @property
    def notes(self) -> tuple[str, ...]:
        """The findings in words."""
        return tuple(map(str, self._monitor.findings))

    def write(self) -> None:
        """The findings, if there are any, into the run's folder."""
        if self._monitor.findings:
            runs.write_json(self._run.warnings, {"warnings": [one.plain() for one in self._monitor.findings]})

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def plain(self) -> dict[str, Any]:
        """What the monitor has to know to go on."""
        return {"collapse": self._monitor.plain()}

    def restore(self, _: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on from there."""
        self._monitor.restore(plain["collapse"])

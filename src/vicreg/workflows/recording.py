"""What a run leaves for its report while it goes on: the batch at its start and its end, and what the monitor saw."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from vicreg import runs
from vicreg.objectives import Objective
from vicreg.portrait import Portrait, quick_readings, snapshot, write_looks, write_snapshots
from vicreg.runs import Run
from vicreg.training.engine import Callback, Machine, Optimisation, State
from vicreg.training.loggers import Logs
from vicreg.workflows.checkpoints import Kept, Stop
from vicreg.workflows.collapse import Guard

T = TypeVar("T")

READINGS = ("deviation", "rankme", "covariance", "floor")


class Attempts:
    """Writes what a run can do without: where that fails, the run goes on, and a note says so.

    Attributes:
        notes: What failed, and why.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, what: str, work: Callable[[], T]) -> T | None:
        """The result of some work; None if it fails.

        Args:
            what: That is to be written, for the note.
            work: Whatever it raises is caught, but for what ends the program.
        """
        try:
            return work()
        except Exception as failure:  # nothing that is only to be looked at is worth a run
            note = f"Could not write {what}: {str(failure) or type(failure).__name__}"
            self.notes += [note] if note not in self.notes else []
            return None


class Recorder:
    """A callback that leaves snapshots of the first and the last batch, and a line for each of the monitor's looks.

    It takes no part in learning: what it sees has no gradient, and it draws nothing at random. Its lines go into the
    checkpoint, so that those of a run that was gone on with are those of one that was not, but for the time.

    Args:
        run: Where it writes.
        guard: Whose monitor decides when to look; it is called before.
        attempts: Takes what fails.
        processes: How many share a batch.
        first: Whether this process writes.

    Attributes:
        lines: What was seen, by name, in order.
        began: When the run began, as an ISO date.
        resumed_at: Steps at which it was gone on with.
    """

    def __init__(self, run: Run, guard: Guard, attempts: Attempts, processes: int = 1, *, first: bool = True) -> None:
        self.lines: list[dict[str, float]] = []
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.resumed_at: list[int] = []
        self._run, self._guard, self._attempts = run, guard, attempts
        self._portrait = Portrait(run.portrait)
        self._processes, self._first = processes, first
        self._before = 0.0
        self._since = time.monotonic()
        self._last = (0, self._since)

    @property
    def seconds(self) -> float:
        """Since the run began, without the time between an interruption and going on."""
        return self._before + time.monotonic() - self._since

    def __call__(self, state: State) -> None:
        """After every step."""
        if not self._first or state.joint is None:
            return
        seen = self._guard.looks[-1] if self._guard.looks else None
        shares = seen.shares if seen is not None and seen.step == state.step else None
        edges = ((1, self._portrait.start), (state.steps, self._portrait.end))
        if shares is None and state.step not in dict(edges):
            return
        parts = parts_of(state)
        line = self._attempts("some of what was seen on the way", lambda: self._line(state, parts, shares or {}))
        self.lines += [line] if line else []
        for step, path in edges:
            if step == state.step:
                self._attempts("the batch at its start or end", partial(_write_snapshots, path, state, parts))

    def _line(self, state: State, parts: dict[str, Tensor], shares: Mapping[str, float]) -> dict[str, float]:
        found = torch.stack([quick_readings(one) for one in parts.values()]).tolist()
        (step, before), now = self._last, time.monotonic()
        self._last = (state.step, now)
        rows = _rows(parts) * self._processes * (state.step - step)
        line = {
            "step": state.step,
            "seconds": self.seconds,
            "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
            "rows_per_second": rows / max(now - before, 1e-9),
        }
        for part, each in zip(parts, found, strict=True):
            line |= {f"{name} {part}": value for name, value in zip(READINGS, each, strict=True)}
        line |= {f"share {name}": value for name, value in shares.items()}
        return {name: value for name, value in line.items() if math.isfinite(value)}

    def write(self) -> None:
        """The lines so far, into the run's folder."""
        if self.lines:
            self._attempts("what was seen on the way", lambda: write_looks(self._portrait.looks, self.lines))

    def tensors(self) -> dict[str, Tensor]:
        """The lines, in float64."""
        names = self._names()
        rows = [[line.get(name, torch.nan) for name in names] for line in self.lines]
        return {"looks": torch.tensor(rows, dtype=torch.float64)} if rows else {}

    def plain(self) -> dict[str, Any]:
        """Names of the lines' numbers, and times."""
        times = {"seconds": self.seconds, "began": self.began, "resumed_at": self.resumed_at}
        return {"looks": self._names(), "times": times}

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on from there."""
        rows = tensors["looks"].tolist() if "looks" in tensors else []
        pairs = [zip(plain["looks"], row, strict=True) for row in rows]
        self.lines = [{name: value for name, value in each if math.isfinite(value)} for each in pairs]
        for line in self.lines:
            line["step"] = int(line["step"])
        times = plain["times"]
        self._before, self.began = float(times["seconds"]), str(times["began"])
        self.resumed_at = [*times["resumed_at"], plain["step"]]
        self._since = time.monotonic()
        self._last = (plain["step"], self._since)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for line in self.lines for name in line))


def parts_of(state: State) -> dict[str, Tensor]:
    """The last step's embeddings and representations by their names: of a shared branch one representation."""
    if state.joint is None:
        return {}
    found = {f"embedding {name}": one for name, one in zip("ab", state.joint.z, strict=False)}
    if len(state.model.branches) == 1:
        return {"representation": state.joint.h[0], **found}
    return {f"representation {name}": one for name, one in zip("ab", state.joint.h, strict=False)} | found


class Prepared(Protocol):
    """A run ready to train."""

    @property
    def objective(self) -> Objective:
        """Total and terms."""

    @property
    def how(self) -> Optimisation:
        """How to step."""

    @property
    def place(self) -> Machine:
        """The machine."""


class Recording:
    """All that is written down of a run while it goes on, beside its checkpoint.

    Args:
        run: Where.
        prepared: The run.
        say: Told of each collapse.
        stop: Asked to stop the run at the first collapse; None lets it go on.
        logger: Name of a further logger.

    Attributes:
        guard: Names collapses.
        recorder: Leaves what the report shows of the way.
        attempts: Takes what fails.
        callbacks: To be called after every step, in this order.
        kept: What goes into the checkpoint.
    """

    def __init__(
        self, run: Run, prepared: Prepared, say: Callable[[str], None], stop: Stop | None, logger: str | None
    ) -> None:
        place = prepared.place
        self.attempts = Attempts()
        self.guard = Guard(prepared.objective, run, say, stop, place.count)
        self.recorder = Recorder(run, self.guard, self.attempts, place.count, first=place.first)
        self.kept: list[Kept] = [self.guard, self.recorder]
        self.callbacks: list[Callback] = [self.guard, self.recorder]
        if logger is not None and place.first:
            logs = Logs(logger, run.logs, prepared.how, lambda: self.recorder.lines)
            self.callbacks.append(lambda state: self.attempts("the logs", lambda: logs(state)))
        self._run = run

    def write(self, state: State) -> None:
        """Findings, looks and metrics so far, into the run's folder."""
        self.guard.write()
        self.recorder.write()
        history = state.history()
        lines = zip(range(1, state.step + 1), *history.values(), strict=True)
        runs.write_csv(self._run.metrics, ["step", *history], lines)


def _rows(parts: Mapping[str, Tensor]) -> int:
    return len(next(iter(parts.values())))


def _write_snapshots(path: Path, state: State, parts: Mapping[str, Tensor]) -> None:
    write_snapshots(path, state.step, {name: snapshot(one) for name, one in parts.items()}, _rows(parts))

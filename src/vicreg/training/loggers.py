"""Loggers for those who follow their runs elsewhere: Fabric's, of which this file alone knows."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from vicreg._checks import check_choice, message
from vicreg.training.engine import Optimisation, State

STEPS_AT_ONCE = 50
"""Each reading of the terms waits for the device."""


def _csv(folder: Path) -> Logger:
    return CSVLogger(folder, name="", version="")


def _tensorboard(folder: Path) -> Logger:
    try:
        return TensorBoardLogger(folder, name="", version="")
    except ModuleNotFoundError as missing:
        fix = "Run pip install 'vicreg[log]', or choose csv."
        raise ImportError(message("tensorboard", "be installed to log to it", "no such package", fix)) from missing


LOGGERS: dict[str, Callable[[Path], Logger]] = {"csv": _csv, "tensorboard": _tensorboard}
"""By name what makes a logger that writes to a folder."""


def check_logger(name: str | None) -> None:
    """Check that there is a logger of that name, and what it needs is installed; None is no logger.

    Raises:
        ValueError: There is none.
        ImportError: It needs a package that is not installed.

    Example:
        >>> check_logger("csv")
    """
    if name is not None:
        LOGGERS[check_choice("logger", name, LOGGERS)](Path("logs"))


class Logs:
    """A callback that logs each term, the learning rate, and what is looked at now and then.

    It writes fifty steps at a time. A run that is gone on with is logged anew from its first step: what a folder held
    may be ahead of the checkpoint.

    Args:
        name: Of the logger: ``csv`` or ``tensorboard``.
        folder: Where it writes; what is there is replaced.
        how: How the run steps.
        looks: What was looked at so far: lines with ``step``, and numbers by name.

    Raises:
        ValueError: There is no such logger.
        ImportError: It needs a package that is not installed.
    """

    def __init__(
        self, name: str, folder: Path, how: Optimisation, looks: Callable[[], Sequence[Mapping[str, float]]]
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._logger = LOGGERS[check_choice("logger", name, LOGGERS)](folder)
        self._how, self._looks = how, looks
        self._done = 0

    def __call__(self, state: State) -> None:
        """After every step."""
        last = state.step == state.steps
        if state.step % STEPS_AT_ONCE and not last:
            return
        seen = {int(line["step"]): line for line in self._looks() if line["step"] > self._done}
        rows = state.terms[self._done : state.step].tolist()
        for step, row in enumerate(rows, self._done + 1):
            rate = self._how.learning_rate * self._how.schedule(step - 1, state.steps)
            found = {**dict(zip(state.names, row, strict=True)), **seen.get(step, {}), "learning_rate": rate}
            named = {_tag(name): value for name, value in found.items() if name != "step" and math.isfinite(value)}
            self._logger.log_metrics(named, step)
        self._done = state.step
        self._logger.save()
        if last:
            self._logger.finalize("success")


def _tag(name: str) -> str:
    """A name without spaces, which TensorBoard takes for errors."""
    return name.replace(" ", "_")

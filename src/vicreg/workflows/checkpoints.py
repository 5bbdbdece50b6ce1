"""Training that can be stopped and gone on with: checkpoints now and then, and when somebody asks a run to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vicreg import runs
from vicreg.training.engine import Callback, State
from vicreg.training.table import TableRun

SECONDS_BETWEEN_CHECKPOINTS = 10.0


class Interrupted(Exception):  # noqa: N818  # not an error: somebody asked
    """A run was asked to stop; what it had done is saved.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signal_number: int, said: str) -> None:
        super().__init__(said)
        self.signal = signal_number


@dataclass(eq=False)
class Stop:
    """Whether somebody asked the run to stop.

    Attributes:
        asked: The signal that came.
        patient: Whether it waits to be asked; else the signal stops the run at once.
    """

    asked: int | None = None
    patient: bool = False


SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
"""What asks a run to stop; Windows has no SIGHUP."""


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into :class:`Interrupted`, once training has saved where it stands.

    Raises:
        Interrupted: One of them came.
    """
    stop = Stop()

    def heard(number: int, _: object) -> None:
        stop.asked = number
        if not stop.patient:
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()  # only it may listen
    before = {number: signal.signal(number, heard) for number in SIGNALS if main}
    try:
        yield stop
    except KeyboardInterrupt as stopped:
        raise Interrupted(stop.asked or signal.SIGINT, str(stopped) or "stopped") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    table_run: TableRun,
    checkpoint: Path,
    callbacks: Sequence[Callback],
    stop: Stop,
    saved: Callable[[State], None],
    say: Callable[[str], None],
) -> State:
    """Train to the end, from the checkpoint if there is one, and leave one.

    Args:
        table_run: What to train.
        checkpoint: The file.
        callbacks: Called after every step.
        stop: Looked at after every step.
        saved: Called after the checkpoint was written.
        say: Told where the run goes on.

    Raises:
        ValueError: The checkpoint is damaged.
        KeyboardInterrupt: Somebody asked to stop; the checkpoint was written.
    """
    state = table_run.state
    if checkpoint.exists():
        _restore(state, checkpoint)
        say(f"Going on from step {state.step} of {state.steps}.")
    latest = time.monotonic()

    def save(state: State) -> None:
        nonlocal latest
        runs.write_tensors(checkpoint, state.tensors(), state.plain())
        saved(state)
        latest = time.monotonic()

    def now_and_then(state: State) -> None:
        if stop.asked or time.monotonic() - latest >= SECONDS_BETWEEN_CHECKPOINTS:
            save(state)
        if stop.asked:
            raise KeyboardInterrupt(f"stopped and saved at step {state.step} of {state.steps}")

    stop.patient = True
    try:
        if state.step < state.steps:
            save(table_run.train([*callbacks, now_and_then]))
        state.model.eval()
    finally:
        stop.patient = False
    if stop.asked:
        raise KeyboardInterrupt(f"stopped and saved at step {state.step} of {state.steps}")
    return state


def _restore(state: State, checkpoint: Path) -> None:
    tensors, plain = runs.read_tensors(checkpoint)
    try:
        state.restore(tensors, plain)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as failure:
        raise runs.damaged(checkpoint, f"a checkpoint that does not fit ({failure!r})") from failure

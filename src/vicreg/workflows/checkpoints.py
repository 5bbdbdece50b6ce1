"""Training that can be stopped and gone on with: checkpoints now and then, and when somebody asks a run to stop."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vicreg import runs
from vicreg._checks import require
from vicreg.distributed import by_first, every_text, most, own_number, process_count
from vicreg.training.engine import Callback, State

SECONDS_BETWEEN_CHECKPOINTS = 10.0
SAVING_TAKES_ONE_IN = 20
"""Large runs are saved less often: this many times as long as saving takes lies between."""


class Interrupted(Exception):  # noqa: N818  # not an error: somebody asked
    """A run was asked to stop; what it had done is saved.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signal_number: int, said: str) -> None:
        super().__init__(said)
        self.signal = signal_number


class Collapsed(Exception):  # noqa: N818  # nor is this: the run did as it was told
    """A run stopped on a collapse, as it was told to; what it had done is saved."""


@dataclass(eq=False)
class Stop:
    """Whether somebody asked the run to stop.

    Attributes:
        asked: The signal that came.
        patient: Whether it waits to be asked; else the signal stops the run at once.
        collapse: The collapse to stop on, in words.
    """

    asked: int | None = None
    patient: bool = False
    collapse: str | None = None


STDERR = 2
STOPPING = b"Stopping after this step ...\n"
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
        first = stop.asked is None
        stop.asked = number
        if not stop.patient:
            raise KeyboardInterrupt
        if first and own_number() == 0:
            with suppress(OSError):  # nobody may read any longer
                begin = b"\n" if os.isatty(STDERR) else b""  # it stands behind ^C there
                os.write(STDERR, begin + STOPPING)  # print could be in the midst of a line itself

    main = threading.current_thread() is threading.main_thread()  # only it may listen
    before = {number: signal.signal(number, heard) for number in SIGNALS if main}
    try:
        yield stop
    except KeyboardInterrupt as stopped:
        raise Interrupted(stop.asked or signal.SIGINT, str(stopped) or "stopped") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainable(Protocol):
    """A run ready to go."""

    @property
    def state(self) -> State:
        """Where it stands."""

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""


class Kept(Protocol):
    """What a checkpoint keeps beside the run's own state."""

    def tensors(self) -> dict[str, Tensor]:
        """By name, none of which the run's own state has."""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go back to there."""


def train(
    run: Trainable,
    checkpoint: Path,
    callbacks: Sequence[Callback],
    stop: Stop,
    saved: Callable[[State], None],
    say: Callable[[str], None],
    kept: Sequence[Kept] = (),
) -> State:
    """Train to the end, from the checkpoint if there is one, and leave one.

    Of several processes the first one writes; all stop at the same step.

    Args:
        run: What to train.
        checkpoint: The file.
        callbacks: Called after every step.
        stop: Looked at after every step.
        saved: Called after the checkpoint was written, where it was.
        say: Told where the run goes on.
        kept: What else goes into the checkpoint.

    Raises:
        ValueError: The checkpoint is damaged, or of another number of processes.
        KeyboardInterrupt: Somebody asked to stop; the checkpoint was written.
        Collapsed: There was a collapse to stop on; the checkpoint was written.
    """
    state = run.state
    if checkpoint.exists():
        _restore(state, checkpoint, kept)
        say(f"Going on from step {state.step} of {state.steps}.")
    latest, took = time.monotonic(), 0.0

    def save(state: State) -> None:
        nonlocal latest, took
        begun = time.monotonic()
        feeds = [json.loads(text) for text in every_text(json.dumps(state.feed))]
        by_first(lambda: write(state, feeds))
        latest = time.monotonic()
        took = latest - begun

    def write(state: State, feeds: list[Any]) -> None:
        tensors, plain = state.tensors(), state.plain() | {"feed": feeds}
        for one in kept:
            tensors |= one.tensors()
            plain |= one.plain()
        runs.write_tensors(checkpoint, tensors, plain)
        saved(state)

    def now_and_then(state: State) -> None:
        late = int(time.monotonic() - latest >= max(SECONDS_BETWEEN_CHECKPOINTS, SAVING_TAKES_ONE_IN * took))
        asked, due, collapsed = most(stop.asked or 0, late, int(stop.collapse is not None))
        stop.asked = asked or None
        if asked or due or collapsed:
            save(state)
        if asked:
            raise KeyboardInterrupt(f"stopped and saved at step {state.step} of {state.steps}")
        if collapsed:
            seen = stop.collapse or "Another process saw a collapse."
            how = "The same command with --resume and without --stop-on-collapse goes on."
            raise Collapsed(f"{seen} Stopped and saved at step {state.step} of {state.steps}. {how}")

    stop.patient = True
    try:
        if state.step < state.steps:
            save(run.train([*callbacks, now_and_then]))
        state.model.eval()
    finally:
        stop.patient = False
    if stop.asked:
        raise KeyboardInterrupt(f"stopped and saved at step {state.step} of {state.steps}")
    return state


def _restore(state: State, checkpoint: Path, kept: Sequence[Kept]) -> None:
    tensors, plain = runs.read_tensors(checkpoint)
    count = process_count("default")
    try:
        feeds = plain["feed"]
        require(len(feeds) == count, "processes", f"be {len(feeds)} as before", count)
        state.restore(tensors, plain | {"feed": feeds[own_number() if count > 1 else 0]})
        for one in kept:
            one.restore(tensors, plain)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as failure:
        raise runs.damaged(checkpoint, f"a checkpoint that does not fit ({failure!r})") from failure

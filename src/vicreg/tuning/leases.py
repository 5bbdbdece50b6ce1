"""Who is alive among the workers of a study, so that a trial whose worker was killed is given to another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

try:
    import fcntl
except ImportError:  # Windows: workers beat there, and what two of them queue at once is settled when it is taken
    fcntl = None  # type: ignore[assignment]

LOCKS = fcntl is not None
"""Whether this system has locks that it takes from the dead."""
BEAT = "beat"
SECONDS_BETWEEN_BEATS = 15.0
SECONDS_WITHOUT_BEAT = 90.0


class Lease(Protocol):
    """A worker's sign of life, and those of the others."""

    def hold(self, sign: Callable[[int], None]) -> Any:
        """A context within which the worker is seen to be alive; ``sign`` leaves a number that changes."""

    def dead(self, worker: str | None, number: int, beat: int | None) -> bool:
        """Whether a trial's worker is known to be gone.

        Args:
            worker: Its name; None where it has not left it.
            number: The trial's.
            beat: The number that it left last.
        """


class Locked:
    """Each worker holds a lock on a file of its own in the study's folder; the system takes it from the dead.

    Args:
        folder: Where the files are.
        worker: This worker's name.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._patience = Patience(SECONDS_WITHOUT_BEAT)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / worker
        self._file = self._path.open("w")  # held until the process ends
        fcntl.flock(self._file, fcntl.LOCK_EX)

    @contextmanager
    def hold(self, sign: Callable[[int], None]) -> Iterator[None]:
        """The lock is held all the time."""
        yield

    def dead(self, worker: str | None, number: int, beat: int | None) -> bool:
        """Whether nobody holds the lock of a trial's worker."""
        if worker is None:  # killed before it left its name, or about to leave it
            return self._patience.over((number, None))
        path = self._folder / Path(worker).name
        if path == self._path or not path.exists():
            return path != self._path
        with path.open() as file:
            if not locked(file):
                return False
        path.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Let go of the lock, and take the file away."""
        self._path.unlink(missing_ok=True)
        self._file.close()


class Beating:
    """Each worker leaves a number with its trial that keeps changing; one that no longer does is of the dead.

    Everybody looks at their own clock alone, so that clocks of many machines need not agree.

    Args:
        worker: This worker's name.
        every: Seconds between two numbers.
        patience: Seconds after which a number that has not changed is a dead worker's.
    """

    def __init__(
        self, worker: str, every: float = SECONDS_BETWEEN_BEATS, patience: float = SECONDS_WITHOUT_BEAT
    ) -> None:
        self._worker, self._every = worker, every
        self._patience = Patience(patience)

    @contextmanager
    def hold(self, sign: Callable[[int], None]) -> Iterator[None]:
        """A thread leaves the numbers."""
        over = threading.Event()

        def beat() -> None:
            count = 0
            while not over.wait(self._every):
                count += 1
                with suppress(Exception):  # a storage that is away for a while is no reason to end the trial
                    sign(count)

        thread = threading.Thread(target=beat, name="vicreg-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def dead(self, worker: str | None, number: int, beat: int | None) -> bool:
        """Whether a trial's number has not changed for too long."""
        return worker != self._worker and self._patience.over((number, beat))

    def close(self) -> None:
        """Nothing to let go of."""


class Patience:
    """How long a sight has been the same.

    Args:
        seconds: When it has been so for too long.

    Example:
        >>> patience = Patience(0.0)
        >>> patience.over(("trial", 1)), patience.over(("trial", 1)), patience.over(("trial", 2))
        (False, True, False)
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[object, float] = {}

    def over(self, sight: object) -> bool:
        """Whether this was first seen so long ago."""
        seen = sight in self._since
        return time.monotonic() - self._since.setdefault(sight, time.monotonic()) >= self._seconds and seen


def locked(file: IO[Any]) -> bool:
    """Whether the lock on a file could be had, which is then held."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within it, no other process that shares the folder is within it.

    Args:
        path: A file to lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if LOCKS:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

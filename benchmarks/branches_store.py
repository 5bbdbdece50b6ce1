"""Finished runs of a study: a line of JSON each, appended as soon as it is there, and looked up before a run."""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Key = dict[str, Any]
Row = dict[str, Any]


def rows(path: Path) -> list[Row]:
    """Every finished run; a line that was cut short by a kill is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def of_keys(path: Path, keys: Iterable[Key]) -> list[Row]:
    """The finished runs of these keys, the last of each, in the keys' order."""
    last = {name_of(row["key"]): row for row in rows(path)}
    return [last[name_of(key)] for key in keys if name_of(key) in last]


def name_of(key: Key) -> str:
    """A key as text, whatever the order of its parts."""
    return json.dumps(key, sort_keys=True)


def append(path: Path, row: Row) -> None:
    """One more line; on a line of its own even where the last was cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a") as file:
        file.write(("" if whole else "\n") + json.dumps(row) + "\n")


@contextmanager
def claimed(path: Path, key: Key) -> Iterator[bool]:
    """Whether no other process is at this run; a process that dies gives its claim up."""
    claim = path.parent / "claims" / hashlib.sha256(name_of(key).encode()).hexdigest()[:16]
    claim.parent.mkdir(parents=True, exist_ok=True)
    with claim.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def run_all(path: Path, keys: Iterable[Key], run: Callable[[Key], Row], minutes: float = float("inf")) -> None:
    """Every run that is neither finished nor another process's; none is begun after so many minutes."""
    until = time.monotonic() + 60 * minutes
    for key in keys:
        if time.monotonic() > until:
            print("time is up; the same command goes on", flush=True)
            return
        with claimed(path, key) as mine:
            if mine and not of_keys(path, [key]):
                begun, cpu = time.monotonic(), time.process_time()
                scores = run(key)
                spent = {"seconds": time.monotonic() - begun, "cpu_seconds": time.process_time() - cpu}
                append(path, {"key": key, **scores, **spent})
                said = "  ".join(f"{name} {value:.3f}" for name, value in scores.items() if isinstance(value, float))
                which = " ".join(str(value) for value in key.values() if not isinstance(value, dict))
                print(f"{which}: {said}  ({spent['cpu_seconds']:.0f} s)", flush=True)

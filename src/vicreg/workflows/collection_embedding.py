"""Embedding a collection with a finished run, as a stream."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import check_integer, listed, require, shown
from vicreg.data import Corrupt
from vicreg.inference import load_as
from vicreg.runs import Run
from vicreg.training.collection import threads
from vicreg.training.engine import device_of
from vicreg.workflows.collection_about import read_about_collection
from vicreg.workflows.embedding import Say, check_apart
from vicreg.workflows.kinds import kind_of_run
from vicreg.workflows.media import MEDIA
from vicreg.workflows.medium import Reading


def embed_collection(
    folder: Path,
    where: str,
    out: Path,
    reading: Reading | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    max_corrupt: float = 0.05,
    say: Say = print,
) -> None:
    """Embed pictures or signals and write them, with their names, as Parquet; memory does not grow with their number.

    Under ``torchrun`` each process embeds its own share, and ``out`` becomes a folder of parts, which is read like a
    file.

    Args:
        folder: A finished run.
        where: The collection; of shards of pictures, each process takes its own.
        out: The Parquet file to write, replaced whole or not at all.
        reading: How it is read; None for as the run's own source was.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: Threads that open items.
        max_corrupt: Share of items that may be unreadable; those are left out.
        say: Told in words what was done.

    Raises:
        ValueError: No finished run on a collection, nothing to embed, or too many items are corrupt.
        OSError: ``out`` cannot be written.
    """
    require(out.suffix == ".parquet", "--out", "name a .parquet file", shown(str(out)))
    check_apart(out, Path(where), folder)
    if workers is not None:
        check_integer("workers", workers, 1)
    medium = MEDIA[kind_of_run(folder)]
    stream = medium.stream if medium.streams(where) else None
    rank, count = own_share()
    embedder = load_as(medium.embedder, folder).to(_own_device(device))
    path = own_part(out, rank, count)
    found: Iterator[tuple[list[str], NDArray[np.float32]]]
    if stream is not None:
        ledger = Corrupt(max_corrupt)
        found = stream.embedded(embedder, where, rank, count, ledger, threads(workers))
    else:
        _, own, _ = read_about_collection(Run(folder), medium)
        source = medium.opened(where, medium.like(where, reading or Reading(), own, embedder))
        ledger = Corrupt(max_corrupt, of=len(source))
        rows = np.arange(rank, len(source), count)
        parts = embedder.stream(source, rows, ledger, threads(workers))
        found = (([source.names[row] for row in some], h) for some, h in parts)
    written = 0
    with streamed(path, embedder.width) as write:
        for names, h in found:
            write(names, h)
            written += len(names)
    for text in ledger.news():
        say(f"left out: {text}")
    for text in ledger.in_all(medium.nouns):
        say(text)
    say(f"Wrote {written:,} {medium.nouns} of {embedder.width} numbers to {path}.")


def own_share() -> tuple[int, int]:
    """Which of how many processes this is, where ``torchrun`` started it; else the only one."""
    rank, count = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    return rank, count


def own_part(out: Path, rank: int, count: int) -> Path:
    """The file that a process writes: ``out``, or where there are several, a part in a folder of that name.

    Raises:
        ValueError: There is a file where the folder would be, or the other way round, or parts of something else.
    """
    fix = "Remove it, or name another --out."
    if count == 1:
        require(not out.is_dir(), "--out", "be a file", f"the folder {shown(str(out))}", fix)
        return out
    require(not out.is_file(), "--out", "be a folder where there are several processes", f"the file {out}", fix)
    own = f"-of-{count:05}.parquet"
    others = sorted(path.name for path in out.glob("*.parquet") if not path.name.endswith(own))
    require(not others, "--out", "hold no parts of another number of processes", listed(others), fix)
    return out / f"part-{rank:05}{own}"


def _own_device(name: str) -> torch.device:
    """The device of that name; of several processes' on one machine, each has a GPU of its own."""
    device = device_of(name)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return device


@contextmanager
def streamed(path: Path, width: int) -> Iterator[Callable[[list[str], NDArray[np.float32]], None]]:
    """Writes names and embeddings, some at a time, to a Parquet file that gets its name once it is whole.

    Args:
        path: The file.
        width: Numbers of an embedding.
    """
    schema = pa.schema([("name", pa.string()), *((f"vicreg{index}", pa.float32()) for index in range(width))])
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(beside, schema) as writer:
            waiting: list[tuple[list[str], NDArray[np.float32]]] = []

            def flush() -> None:
                # A name may hold bytes that are no text.
                names = [name.encode("utf-8", "backslashreplace").decode() for some, _ in waiting for name in some]
                h = np.concatenate([rows for _, rows in waiting])
                writer.write_table(
                    pa.table(
                        [
                            pa.array(names),
                            *(pa.array(column) for column in h.T),
                        ],
                        schema=schema,
                    )
                )
                waiting.clear()

            def write(names: list[str], h: NDArray[np.float32]) -> None:
                waiting.append((names, h))
                if sum(len(some) for some, _ in waiting) * width >= ENTRIES_AT_ONCE:
                    flush()

            yield write
            if waiting:
                flush()
        beside.replace(path)
    except OSError as failure:
        raise runs.unwritable(path, failure) from failure
    finally:
        with suppress(OSError):
            beside.unlink()


ENTRIES_AT_ONCE = 2**22
"""Numbers of a row group: few enough to hold, enough to be written well."""

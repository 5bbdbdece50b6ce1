"""Embedding pictures with a finished run, as a stream."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import require, shown
from vicreg.data import Corrupt, kind_of, read_images
from vicreg.inference import ImageEmbedder, load_as
from vicreg.training.engine import device_of
from vicreg.training.pictures import threads
from vicreg.workflows.embedding import check_apart

Say = Callable[[str], None]


def embed_images(
    folder: Path,
    where: str,
    out: Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    max_corrupt: float = 0.05,
    say: Say = print,
) -> None:
    """Embed pictures and write them, with their names, as Parquet; memory does not grow with their number.

    Under ``torchrun`` each process embeds its own share, and ``out`` becomes a folder of parts, which is read like a
    file.

    Args:
        folder: A finished run.
        where: Pictures with random access.
        out: The Parquet file to write, replaced whole or not at all.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: Threads that open pictures.
        max_corrupt: Share of pictures that may be unreadable; those are left out.
        say: Told in words what was done.

    Raises:
        ValueError: No finished run on pictures, nothing to embed, or too many pictures are corrupt.
        OSError: ``out`` cannot be written.
    """
    require(out.suffix == ".parquet", "--out", "name a .parquet file", shown(str(out)))
    check_apart(out, Path(where), folder)
    require(kind_of(where) == "image", shown(where), "be pictures that can be embedded one by one", kind_of(where))
    rank, count = own_share()
    embedder = load_as(ImageEmbedder, folder).to(device_of(device))
    source = read_images(where)
    rows = np.arange(rank, len(source), count)
    path = out if count == 1 else out / f"part-{rank:05}-of-{count:05}.parquet"
    ledger = Corrupt(max_corrupt, of=len(source))
    written = 0
    with _written(path, embedder.width) as write:
        for found, h in embedder.stream(source, rows, ledger, threads(workers)):
            write([source.names[row] for row in found], h)
            written += len(found)
    for text in ledger.news():
        say(f"left out: {text}")
    say(f"Wrote {written:,} pictures of {embedder.width} numbers to {path}.")


def own_share() -> tuple[int, int]:
    """Which of how many processes this is, where ``torchrun`` started it; else the only one."""
    rank, count = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    return rank, count


@contextmanager
def _written(path: Path, width: int) -> Iterator[Callable[[list[str], NDArray[np.float32]], None]]:
    """Writes rows to a file that gets its name once it is whole."""
    schema = pa.schema([("name", pa.string()), *((f"vicreg{index}", pa.float32()) for index in range(width))])
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(beside, schema) as writer:
            waiting: list[tuple[list[str], NDArray[np.float32]]] = []

            def flush() -> None:
                names = [name for some, _ in waiting for name in some]
                h = np.concatenate([rows for _, rows in waiting])
                writer.write_table(pa.table([pa.array(names), *(pa.array(column) for column in h.T)], schema=schema))
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

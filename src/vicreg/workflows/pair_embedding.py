"""Embedding one side's data with a finished run on pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vicreg._checks import check_choice, check_integer, message, require, shown
from vicreg.data import Corrupt
from vicreg.inference import PairEmbedder, load_as
from vicreg.inference.pair import SIDES
from vicreg.runs import Run
from vicreg.training.collection import threads
from vicreg.training.engine import device_of
from vicreg.workflows.collection_embedding import streamed
from vicreg.workflows.embedding import Say, check_apart, write_embeddings
from vicreg.workflows.medium import Reading
from vicreg.workflows.pair_about import SIDE_NAMES, TABLE, read_about_pair
from vicreg.workflows.pair_judging import open_new_side


def embed_pair(
    folder: Path,
    where: str,
    out: Path,
    side: str | None,
    reading: Reading | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    max_corrupt: float = 0.05,
    say: Say = print,
) -> None:
    """Embed one side's data and write them as Parquet: with the id and key columns of a table, else with names.

    Args:
        folder: A finished run on pairs.
        where: The data: of the kind of that side.
        out: The Parquet file to write, replaced whole or not at all.
        side: ``a`` for the left side, ``b`` for the right one.
        reading: How it is read; None for as that side of the run was.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: Threads that open files.
        max_corrupt: Share of items that may be unreadable; those are left out.
        say: Told in words what was done.

    Raises:
        ValueError: No finished run on pairs, no such side, or data of another kind.
        OSError: ``out`` cannot be written.
    """
    require(out.suffix == ".parquet", "--out", "name a .parquet file", shown(str(out)))
    check_apart(out, Path(where), folder)
    if workers is not None:
        check_integer("workers", workers, 1)
    about, pairing, _ = read_about_pair(Run(folder))
    if side is None:
        kinds = " and b ".join(f"({about[name]['kind']})" for name in SIDE_NAMES)
        raise ValueError(message("--side", "say which side of the pair these data are", None, f"There are a {kinds}."))
    which = SIDE_NAMES[SIDES.index(check_choice("--side", side, SIDES))]
    both = load_as(PairEmbedder, folder)
    embedder = both.side(side)
    given = reading or Reading()
    asked = replace(pairing, left=given, right=given)  # of which one is opened
    opened = open_new_side(where, which, asked, pairing, about[which]["kind"], embedder)
    if opened.kind == TABLE:
        z = both.embedded(opened.inputs, side, ignore=pairing.set_aside)
        carried = [*pairing.id, *([] if pairing.key is None else [pairing.key])]
        write_embeddings(out, z, opened.data, tuple(one for one in dict.fromkeys(carried) if one in opened.data.names))
        say(f"Wrote {len(z):,} rows of {z.shape[1]} numbers to {out}.")
        return
    embedder.to(device_of(device))
    ledger = Corrupt(max_corrupt, of=len(opened))
    written = 0
    with streamed(out, embedder.width) as write:
        for rows, h in embedder.stream(opened.data, None, ledger, threads(workers)):
            write([opened.data.names[row] for row in rows], h)
            written += len(rows)
    for told in ledger.news():
        say(f"left out: {told}")
    for told in ledger.in_all(opened.noun):
        say(told)
    say(f"Wrote {written:,} {opened.noun} of {embedder.width} numbers to {out}.")

"""Both encoders of a run on pairs, each with its preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import check_choice, require, shown
from vicreg.data import as_frame
from vicreg.inference.table import Embedder

SIDES = ("a", "b")
KIND = "pair"


@dataclass(frozen=True, eq=False)
class PairEmbedder:
    """What one keeps of a run on pairs.

    Attributes:
        a: The left side's embedder.
        b: The right side's.
        aligned: Whether the two sides' embeddings can be compared with each other.
    """

    a: Any
    b: Any
    aligned: bool

    def __repr__(self) -> str:
        return f"PairEmbedder(a={self.a!r}, b={self.b!r}, aligned={self.aligned})"

    def side(self, name: str) -> Any:
        """The embedder of side ``a`` or ``b``.

        Raises:
            ValueError: There is no such side.
        """
        return getattr(self, check_choice("side", name, SIDES))

    def transform(self, X: Any, y: Any = None, *, side: str = "a") -> Any:
        """The embedding of every row of one side's data, or of both sides'.

        Args:
            X: What the left side was fitted on: rows of a table, pictures, signals; or with ``side="b"`` the right one.
            y: What the right side was fitted on, to embed both; the rows need not belong to those of ``X``.
            side: Which one ``X`` is of, where it is alone: ``a`` or ``b``.

        Returns:
            (n, width) float32; with ``y`` the pair of it and (m, width).

        Raises:
            ValueError: There is no such side, or the data are not as that side's.
            TypeError: ``y`` is no data.
        """
        check_sides(y, side)
        embedding = self.embedded(X, side)
        return embedding if y is None else (embedding, self.embedded(y, "b"))

    def embedded(self, X: Any, side: str, **how: Any) -> NDArray[np.float32]:
        """The embedding of one side's data.

        Args:
            X: As for :meth:`transform`.
            side: ``a`` or ``b``.
            **how: What else that side's ``transform`` takes.

        Raises:
            ValueError: The data are not as that side's. If they have the other table's columns, that is said.
        """
        try:
            embedding: NDArray[np.float32] = self.side(side).transform(X, **how)
        except ValueError as failure:
            other = SIDES[1 - SIDES.index(side)]
            if not (self._fits(X, other) and not self._fits(X, side)):
                raise
            raise ValueError(f"{failure} These are the columns of the other side, {other}.") from failure
        return embedding

    def _fits(self, X: Any, side: str) -> bool:
        """Whether data are a table with the columns of a side."""
        embedder = self.side(side)
        if not isinstance(embedder, Embedder):
            return False
        frame = as_frame(X)
        return frame.named and set(embedder.spec.names) <= set(frame.names)

    def save(self, folder: str | Path) -> None:
        """Write it for :func:`vicreg.load`: each side into a folder of its own, and what belongs to both last.

        A save that was cut short between two others is found out when it is loaded.

        Raises:
            OSError: The folder cannot be written to.
        """
        folder = Path(folder)
        for name in SIDES:
            self.side(name).save(folder / name)
        plain = {"encoder": KIND, "aligned": self.aligned, "sides": {name: _digest(folder / name) for name in SIDES}}
        runs.write_json(folder / runs.DESCRIPTION, {"copy_of": runs.ENCODER, **plain})
        runs.write_tensors(folder / runs.ENCODER, {}, plain)


def check_sides(y: Any, side: str) -> None:
    """Check what is said of which side data are of.

    Args:
        y: Of the right side; None where the data are of one side alone.
        side: Which one that is.

    Raises:
        ValueError: Both are said, or there is no such side.
        TypeError: The name of a side in place of data.
    """
    check_choice("side", side, SIDES)
    fix = f"Name the side of what stands alone by its name: transform(X, side={y!r})." if isinstance(y, str) else ""
    require(not (isinstance(y, str) and y in SIDES), "y", "be the other side's data", shown(y), fix, error=TypeError)
    require(y is None or side == SIDES[0], "side", "be left out where both sides are given", shown(side))


def is_pair(folder: str | Path) -> bool:
    """Whether a folder holds what :meth:`PairEmbedder.save` wrote, or part of it, with no other encoder over it."""
    path = Path(folder) / runs.ENCODER
    parts = any((path.parent / name / runs.ENCODER).exists() for name in SIDES)
    return parts and (not path.exists() or runs.read_tensors(path)[1].get("encoder") == KIND)


def read_pair(folder: str | Path, load: Callable[[Path], Any]) -> PairEmbedder:
    """What :meth:`PairEmbedder.save` wrote.

    Args:
        folder: Where.
        load: Loads one side.

    Raises:
        ValueError: A file is missing or damaged, or the sides are of different saves.
    """
    folder = Path(folder)
    path = folder / runs.ENCODER
    fix = "An unfinished run goes on with --resume."
    require(path.exists(), repr(str(folder)), "hold an encoder", f"no {runs.ENCODER}", fix)
    _, plain = runs.read_tensors(path)
    aligned, sides = plain.get("aligned"), plain.get("sides")
    if plain.get("encoder") != KIND or not isinstance(aligned, bool) or not isinstance(sides, dict):
        raise runs.damaged(path, f"no description of a pair: {shown(plain)}")
    for name in SIDES:
        if sides.get(name) != _digest(folder / name):
            raise runs.damaged(folder / name / runs.ENCODER, "an encoder of another pair")
    return PairEmbedder(load(folder / "a"), load(folder / "b"), aligned)


def _digest(folder: Path) -> str:
    return hashlib.blake2b(runs.read(folder / runs.ENCODER), digest_size=16).hexdigest()

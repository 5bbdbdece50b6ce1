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

    def side(self, name: str) -> Any:
        """The embedder of side ``a`` or ``b``.

        Raises:
            ValueError: There is no such side.
        """
        return getattr(self, check_choice("side", name, SIDES))

    def transform(self, X: Any, side: str = "a") -> NDArray[np.float32]:
        """The embedding of every row of one side's data, (n, width).

        Args:
            X: What that side was fitted on: rows of a table, pictures, signals.
            side: ``a`` or ``b``.

        Raises:
            ValueError: There is no such side, or the data are not as that side's.
        """
        embedding: NDArray[np.float32] = self.side(side).transform(X)
        return embedding

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

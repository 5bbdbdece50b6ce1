"""A trained encoder with its preprocessing: new rows to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vicreg import runs
from vicreg._checks import check_choice, require
from vicreg.data import TableSpec, as_frame
from vicreg.networks import ENCODERS

ROWS_AT_ONCE = 8192
"""Rows vectorised and embedded together: enough to keep the processor busy, few enough to stay in its cache."""


@dataclass(frozen=True, eq=False)
class Embedder:
    """What one keeps of a run: the encoder and the columns' specification, ready for new rows.

    It holds no training row. A row's embedding does not depend on the rows beside it.

    Attributes:
        encoder: The network, in evaluation mode.
        spec: How rows are vectorised.
    """

    encoder: nn.Module
    spec: TableSpec

    @property
    def width(self) -> int:
        """Numbers per row of the embedding."""
        return int(self.encode(np.zeros((1, len(self.spec.sources)), np.float32)).shape[1])

    def vectorise(self, X: Any, ignore: tuple[str, ...] = ()) -> NDArray[np.float32]:
        """Rows as the encoder's input, (n, p).

        Args:
            X: A table with the columns of the fit: an array, a pandas or polars frame, or an Arrow table.
            ignore: Further columns that may be there, without a warning.
        """
        return self.spec.apply(as_frame(X), ignore=ignore)

    def transform(self, X: Any, ignore: tuple[str, ...] = ()) -> NDArray[np.float32]:
        """The embedding of every row, (n, n_components)."""
        return self.encode(self.vectorise(X, ignore))

    def encode(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embedding of vectorised rows, (n, n_components)."""
        device = next((one.device for one in self.encoder.parameters()), torch.device("cpu"))
        chunks = (torch.from_numpy(x[start : start + ROWS_AT_ONCE]) for start in range(0, len(x), ROWS_AT_ONCE))
        with torch.inference_mode():
            parts = [self.encoder(chunk.to(device)).float().cpu() for chunk in chunks]
        embedding: NDArray[np.float32] = torch.cat(parts).numpy()
        return embedding

    def save(self, folder: str | Path) -> None:
        """Write ``encoder.safetensors``: all that :func:`load` needs, and no training row.

        It is replaced in one step, so an interrupted save leaves the one or the other encoder. ``encoder.json`` beside
        it says in words what it holds; it is for people, and not read again.

        Raises:
            ValueError: The encoder is a module of the user's own, whose code these files cannot hold.
            OSError: The folder cannot be written to.
        """
        folder = Path(folder)
        names = [name for name, kind in ENCODERS.items() if isinstance(self.encoder, kind)]
        got, fix = type(self.encoder).__name__, "Save its state_dict and the spec's to_json() yourself."
        require(len(names) == 1, "encoder", "be one of vicreg's own to be saved", got, fix)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.encoder.state_dict().items()}
        plain = {"encoder": names[0], "settings": self.encoder.settings, "columns": self.spec.to_json()}
        runs.write_json(folder / runs.DESCRIPTION, {"copy_of": runs.ENCODER, **plain})
        runs.write_tensors(folder / runs.ENCODER, tensors, plain)


def load(folder: str | Path) -> Embedder:
    """The encoder that a run or an estimator's ``save`` left, with its preprocessing, ready for new rows.

    Nothing in the folder is executed.

    Args:
        folder: The run's folder.

    Returns:
        The embedder; ``load(folder).transform(X)`` embeds rows.

    Raises:
        ValueError: There is no finished run there, or its files are damaged.
    """
    folder = Path(folder)
    where = repr(str(folder))
    require(folder.is_dir(), where, "be the folder of a run", "no such folder", "Fit one first.")
    path = folder / runs.ENCODER
    fix = "An unfinished run goes on with --resume."
    require(path.exists(), where, "hold an encoder", f"no {runs.ENCODER}", fix)
    tensors, plain = runs.read_tensors(path)
    try:
        spec = TableSpec.from_json(plain["columns"])
        encoder = ENCODERS[check_choice("encoder", plain["encoder"], ENCODERS)](**plain["settings"])
        encoder.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as failure:
        raise runs.damaged(path, f"a description that does not fit ({failure})") from failure
    require(
        len(spec.sources) == encoder.settings["n_features"],
        where,
        "have columns that fit the encoder",
        f"{len(spec.sources)} features for {encoder.settings['n_features']}",
    )
    return Embedder(encoder.eval(), spec)

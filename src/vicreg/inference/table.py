"""A trained encoder with its preprocessing: new rows to embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vicreg.data import TableSpec, as_frame
from vicreg.inference.files import write_encoder

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

    def __repr__(self) -> str:
        return f"Embedder(rows of {len(self.spec.names)} columns to {self.width} numbers)"

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
        """Write it for :func:`vicreg.load`, as :func:`vicreg.inference.files.write_encoder` does: no training row.

        Raises:
            OSError: The folder cannot be written to.
        """
        write_encoder(folder, self.encoder, {"columns": self.spec.to_json()})

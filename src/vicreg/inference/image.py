"""A trained encoder of pictures with its preprocessing: new pictures to embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vicreg.data import Corrupt, GivenImages, ImageSource
from vicreg.inference.crops import crops_of_each
from vicreg.inference.files import write_encoder
from vicreg.views import ImageView


@dataclass(frozen=True, eq=False)
class ImageEmbedder:
    """What one keeps of a run on pictures: the encoder, and how pictures are prepared for it.

    A picture's embedding does not depend on the pictures beside it.

    Attributes:
        encoder: The network, in evaluation mode.
        view: The central square, resized and normalised.
    """

    encoder: nn.Module
    view: ImageView

    def __repr__(self) -> str:
        size = self.view.size
        return f"ImageEmbedder({type(self.encoder).__name__}, pictures at {size} x {size} to {self.width} numbers)"

    @property
    def width(self) -> int:
        """Numbers per picture of the embedding."""
        pixels = torch.zeros(1, 3, self.view.size, self.view.size, device=self.device)
        with torch.inference_mode():
            return int(self.encoder(pixels).shape[1])

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next((one.device for one in self.encoder.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> ImageEmbedder:
        """The same embedder, its encoder moved to a device."""
        self.encoder.to(device)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The embedding of every picture, (n, width).

        Args:
            X: Pictures as :class:`vicreg.data.GivenImages` takes them (a uint8 array (n, h, w, 3), or a list of paths,
                Pillow images and arrays), or a source of pictures.

        Raises:
            CorruptImage: One cannot be read.
            TypeError: An item is no picture.
        """
        source = X if isinstance(X, ImageSource) else GivenImages(X)
        parts = [h for _, h in self.stream(source)]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)

    def stream(
        self,
        source: ImageSource,
        rows: NDArray[np.int64] | None = None,
        ledger: Corrupt | None = None,
        workers: int = 2,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The embeddings of pictures, some at a time: memory does not grow with their number.

        Args:
            source: The pictures.
            rows: Which of them; all by default.
            ledger: Counts those that cannot be read, which are left out; without it one is an error.
            workers: Threads that open pictures.

        Yields:
            Rows (b,) and their embeddings (b, width).

        Raises:
            CorruptImage: One cannot be read, and there is no ledger.
            ValueError: Too many are corrupt for the ledger.
        """
        for found, crops in crops_of_all(source, self.view.crop_one, rows, ledger, workers):
            yield found, self.encode(crops)

    def save(self, folder: str | Path) -> None:
        """Write it for :func:`vicreg.load`, as :func:`vicreg.inference.files.write_encoder` does.

        Raises:
            OSError: The folder cannot be written to.
        """
        write_encoder(folder, self.encoder, {"view": asdict(self.view)})

    def encode(self, crops: Tensor) -> NDArray[np.float32]:
        """The embeddings of central squares, (b, 3, size, size) uint8, as (b, width)."""
        with torch.inference_mode():
            h: NDArray[np.float32] = self.encoder(self.view.finish(crops.to(self.device))).float().cpu().numpy()
        return h


def crops_of_all(
    source: ImageSource,
    crop: Callable[[NDArray[np.uint8]], Tensor],
    rows: NDArray[np.int64] | None = None,
    ledger: Corrupt | None = None,
    workers: int = 2,
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Crops of pictures, opened by threads some chunks ahead.

    Args:
        source: The pictures.
        crop: From a picture to its crop.
        rows: Which of them; all by default.
        ledger: Counts those that cannot be read, which are left out; without it one is an error.
        workers: Threads.

    Yields:
        Rows (b,) and their crops (b, 3, size, size) uint8.
    """
    rows = np.arange(len(source)) if rows is None else rows
    pictures = ((row, partial(source.picture, row)) for row in rows.tolist())
    for found, crops in crops_of_each(pictures, crop, ledger, workers):
        yield np.asarray(found), crops

"""What a run or an estimator left, ready for new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import nn

from vicreg import runs
from vicreg._checks import require
from vicreg.data import TableSpec
from vicreg.inference.files import read_encoders
from vicreg.inference.image import ImageEmbedder
from vicreg.inference.pair import PairEmbedder, is_pair, read_pair
from vicreg.inference.signal import SignalEmbedder, embedder_from
from vicreg.inference.table import Embedder
from vicreg.views import ImageView


def load(
    folder: str | Path, encoder: nn.Module | Sequence[nn.Module] | None = None
) -> Embedder | ImageEmbedder | SignalEmbedder | PairEmbedder:
    """The encoder that a run or an estimator's ``save`` left, with its preprocessing, ready for new data.

    Nothing in the folder is executed.

    Args:
        folder: The run's folder.
        encoder: For a run with an encoder of your own class: such a module; a copy of it gets the run's weights. Of a
            run on signals that kept two: one for each.

    Returns:
        The embedder: ``load(folder).transform(X)`` embeds the rows of a table, pictures (paths, Pillow images, arrays)
        or signals (paths, arrays), whichever the run was fitted on; of a run on pairs
        ``load(folder).transform(X, side="a")``.

    Raises:
        ValueError: There is no finished run there, its files are damaged, or its encoder is of your own class and none
            is given.
    """
    if is_pair(folder):
        require(encoder is None, "encoder", "be left out for a run on pairs", type(encoder).__name__)
        return read_pair(folder, load)
    given = () if encoder is None else (encoder,) if isinstance(encoder, nn.Module) else tuple(encoder)
    encoders, plain = read_encoders(folder, given)
    found = next(iter(encoders.values()))
    try:
        if "signals" in plain:
            return embedder_from(list(encoders.values()), plain)
        if "view" in plain:
            return ImageEmbedder(found, view_from(plain["view"]))
        spec = TableSpec.from_json(plain["columns"])
    except (KeyError, TypeError, ValueError) as failure:
        raise runs.damaged(Path(folder) / runs.ENCODER, f"a description that does not fit ({failure})") from failure
    features = getattr(found, "settings", {}).get("n_features", len(spec.sources))
    got = f"{len(spec.sources)} features for {features}"
    require(len(spec.sources) == features, repr(str(folder)), "have columns that fit the encoder", got)
    return Embedder(found, spec)


def view_from(plain: Any) -> ImageView:
    """The view that :meth:`ImageEmbedder.save` described."""
    if not isinstance(plain, dict) or set(plain) != {field.name for field in fields(ImageView)}:
        raise TypeError("view")
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return ImageView(**settings)


E = TypeVar("E", Embedder, ImageEmbedder, SignalEmbedder, PairEmbedder)


def load_as(kind: type[E], folder: str | Path, encoder: nn.Module | None = None) -> E:
    """What :func:`load` gives, where it is known what it must be.

    Raises:
        ValueError: As there; or the run is on another kind of data.
    """
    found = load(folder, encoder)
    names = {Embedder: "a table", ImageEmbedder: "pictures", SignalEmbedder: "signals", PairEmbedder: "pairs"}
    require(isinstance(found, kind), repr(str(folder)), f"be a run on {names[kind]}", f"one on {names[type(found)]}")
    return cast(E, found)

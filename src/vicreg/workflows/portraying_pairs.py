"""What a run on pairs leaves for its report at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vicreg.inference import PairEmbedder
from vicreg.inference.pair import SIDES
from vicreg.portrait import (
    Portrait,
    as_colour,
    common_plane,
    cross_correlation,
    nearest,
    retrieval_examples,
    write_cross,
    write_map,
    write_neighbors,
    write_retrieval,
)
from vicreg.training.pair_config import PairConfig
from vicreg.workflows.media import MEDIA
from vicreg.workflows.pair_about import TABLE, OpenedPair, OpenedSide
from vicreg.workflows.pair_judging import MOST_ASKED, represented
from vicreg.workflows.portraying import MOST_COLOURS, draw_media, label_colour, showing_of, some_rows
from vicreg.workflows.portraying_tables import colour_of
from vicreg.workflows.recording import Attempts

Sides = Mapping[str, NDArray[np.float32]]


def portray_pair(
    portrait: Portrait, pair: OpenedPair, embedder: PairEmbedder, config: PairConfig, attempts: Attempts
) -> None:
    """Write the map of both sides, neighbours on either, examples of retrieval, correlations, thumbnails and sounds.

    Args:
        portrait: Where.
        pair: Both sources.
        embedder: The run's.
        config: The settings.
        attempts: Takes what fails.
    """

    def drawn() -> None:
        shown, sides = _represented(pair, embedder, config)
        a, b = sides.values()
        attempts("the sides' correlations", lambda: write_cross(portrait.cross, cross_correlation(a, b)))
        attempts("the neighbours", lambda: write_neighbors(portrait.neighbors, (nearest(a), nearest(b))))
        first = (
            attempts("the examples of retrieval", lambda: _examples(portrait, pair.held[shown], sides, embedder)) or []
        )
        attempts("the map", lambda: _draw_map(portrait, pair, embedder, shown, sides))
        showing = {
            name: showing_of(MEDIA[side.kind], side.data, rows[shown])
            for name, side, rows in zip(SIDES, pair.sides, pair.rows, strict=True)
            if side.kind != TABLE
        }
        draw_media(portrait, len(shown), showing, attempts, first)

    attempts("the map", drawn)


def _represented(pair: OpenedPair, embedder: PairEmbedder, config: PairConfig) -> tuple[NDArray[np.int64], Sides]:
    """Pairs of which both members can be read, and both sides' representations of them."""
    chosen = some_rows(len(pair))
    left, right = (
        represented(side, embedder.side(name), rows[chosen], config)
        for side, name, rows in zip(pair.sides, SIDES, pair.rows, strict=True)
    )
    both = np.intersect1d(left.places, right.places)
    return chosen[both], {"a": left.at(both)[1], "b": right.at(both)[1]}


def _examples(portrait: Portrait, held: NDArray[np.bool_], sides: Sides, embedder: PairEmbedder) -> list[int]:
    """Write the examples, of pairs that no fit saw where there are any; the positions in the map that they show."""
    if not embedder.aligned:
        return []
    asked = np.flatnonzero(held) if held.any() else np.arange(len(held))
    asked = asked[some_rows(len(asked), MOST_ASKED)]
    found = [
        {**one, "query": int(asked[one["query"]]), "found": asked[one["found"]].tolist()}
        for one in retrieval_examples(sides["a"][asked], sides["b"][asked])
    ]
    write_retrieval(portrait.retrieval, len(asked), found, bool(held.any()))
    return [position for one in found for position in (one["query"], *one["found"])]


def _draw_map(
    portrait: Portrait, pair: OpenedPair, embedder: PairEmbedder, shown: NDArray[np.int64], sides: Sides
) -> None:
    left, right = common_plane(sides["a"], sides["b"], aligned=embedder.aligned)
    plain = {
        "two_dimensional": embedder.aligned and sides["a"].shape[1] == 2,
        "explained": left.explained,
        "raw_explained": right.explained,
        "what_raw": "the right side",
        "total": len(pair),
    }
    items, rows = _items(pair, shown), pair.rows[0][shown]
    places = {"pca": left.xy, "other": right.xy}
    write_map(portrait.map, items, rows, pair.held[shown], places, _colours(pair, embedder, shown), plain)


def _colours(pair: OpenedPair, embedder: PairEmbedder, shown: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Labels first, then the columns of tables."""
    found: dict[str, pa.Array] = {}
    if pair.labels is not None:
        found[str(pair.pairing.labels)] = label_colour(pair.labels[shown])
    for name, side, rows in zip(SIDES, pair.sides, pair.rows, strict=True):
        if side.kind == TABLE:
            frame, spec = side.data.take(rows[shown]), embedder.side(name).spec
            for index, column in enumerate(spec.columns):
                free = column.name if column.name not in found else f"{column.name} ({name})"
                if len(found) < MOST_COLOURS:
                    found[free] = colour_of(spec, index, frame)
    return found


def _items(pair: OpenedPair, shown: NDArray[np.int64]) -> list[str]:
    """Keys or ids where a table has them, else names of files, else numbers of rows."""
    for side, rows in zip(pair.sides, pair.rows, strict=True):
        found = _named(side, rows[shown], pair)
        if found is not None:
            return found
    return [str(row) for row in pair.rows[0][shown].tolist()]


def _named(side: OpenedSide, rows: NDArray[np.int64], pair: OpenedPair) -> list[str] | None:
    data: Any = side.data
    if side.kind != TABLE:
        return [str(data.names[row]) for row in rows.tolist()]
    name = next((one for one in (*pair.pairing.id, pair.pairing.key) if one in data.names), None)
    if name is None:
        return None
    return [one or "" for one in as_colour(data.take(rows).column(name), as_text=True).to_pylist()]

"""What a run on pictures or signals leaves for its report at its end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vicreg.data import Corrupt
from vicreg.portrait import Portrait, as_colour
from vicreg.training.collection import threads
from vicreg.workflows.collection_about import Collection
from vicreg.workflows.medium import Embeds, Settings
from vicreg.workflows.portraying import Shown, draw_map, draw_media, showing_of, some_rows
from vicreg.workflows.recording import Attempts


def portray_collection(
    portrait: Portrait, collection: Collection, embedder: Embeds, config: Settings, attempts: Attempts
) -> None:
    """Write the map, the neighbours, and thumbnails or sounds. A stream has no items to come back to, and no map.

    Args:
        portrait: Where.
        collection: The source.
        embedder: The run's.
        config: The settings.
        attempts: Takes what fails.
    """
    nouns = collection.medium.nouns
    if collection.source is None:
        attempts.notes.append(f"There is no map: a stream's {nouns} cannot be opened one by one.")
        return

    def drawn() -> None:
        shown = _shown(collection, embedder, config)
        draw_map(portrait, shown, attempts)
        show = showing_of(collection.medium, collection.source, shown.rows)
        draw_media(portrait, len(shown.rows), {"": show}, attempts)

    attempts("the map", drawn)


def _shown(collection: Collection, embedder: Embeds, config: Settings) -> Shown:
    """Each item is opened once; those that cannot be read are left out."""
    medium, source = collection.medium, collection.source
    chosen = some_rows(collection.count or 0)
    rows: list[NDArray[np.int64]] = []
    h: list[NDArray[np.float32]] = []
    raw: list[NDArray[np.float32]] = []
    for some, plain, crops in medium.looked(embedder, source, chosen, Corrupt(1.0), threads(config.workers)):
        rows.append(some)
        h.append(embedder.encode(crops))
        raw.append(medium.plain(embedder, plain, crops))
    found = np.concatenate(rows)
    colours = {}
    if collection.codes is not None:
        codes = collection.codes[found]
        named = np.array([None if code < 0 else str(collection.classes[code]) for code in codes], object)
        colours = {str(collection.reading.labels): as_colour(named)}
    names = [] if source is None else [source.names[row] for row in found.tolist()]
    held = collection.held[found]
    what, count = medium.what_plain(embedder), collection.count or 0
    both = np.concatenate(h), np.concatenate(raw)
    return Shown(names, found, held, *both, what, colours, count, embedder.device)

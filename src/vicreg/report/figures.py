"""What a page draws, as plain data beside packed arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vicreg.report.packing import Pack
from vicreg.report.reading import Atlas, Medium, Record, Snapshot

WIDEST_HISTOGRAMS = 64
NOBODY = 2**16 - 1


def spectrum_of(record: Record, pack: Pack) -> dict[str, Any] | None:
    """The snapshots of the embedding and the representation."""
    moments = {name: found for name, found in (("start", record.start), ("end", record.end)) if found is not None}
    if not moments:
        return None
    parts = list(dict.fromkeys(part for found in moments.values() for part in found.parts))
    order = sorted(parts, key=lambda part: not part.startswith("representation"))
    return {
        "parts": order,
        "moments": {name: {"step": one.step, "parts": _packed(one, pack)} for name, one in moments.items()},
    }


def _packed(snapshot: Snapshot, pack: Pack) -> dict[str, Any]:
    return {
        part: {
            name: pack.quantised(values) if name == "covariance" else pack.array(values.astype(np.float32))
            for name, values in found.items()
        }
        for part, found in snapshot.parts.items()
    }


def map_of(record: Record, pack: Pack) -> dict[str, Any] | None:
    """The map with its neighbours, and which of its items have a thumbnail or a sound."""
    atlas = record.atlas
    if atlas is None:
        return None
    count = len(atlas.items)
    plain = atlas.plain
    found: dict[str, Any] = {
        "count": count,
        "total": plain.get("total", count),
        "what_raw": str(plain.get("what_raw", "the raw data")),
        "items": pack.texts(atlas.items),
        "rows": pack.numbers(atlas.rows.astype(np.float64)),
        "held_out": pack.array(atlas.held_out.astype(np.uint8)) if atlas.held_out.any() else None,
        "planes": _planes(atlas, pack),
        "colours": [_colour(name, values, pack) for name, values in atlas.colours.items()],
        "pair": "other" in atlas.places,
    }
    if record.neighbors is not None:
        indices = np.where(record.neighbors < 0, NOBODY, record.neighbors)
        found["neighbors"] = pack.array(indices.astype(np.uint16 if count < NOBODY else np.int32))
    return found


def _planes(atlas: Atlas, pack: Pack) -> list[dict[str, Any]]:
    """Ways to draw the map: each has a left panel and perhaps a right one beside it."""
    plain = atlas.plain
    two = bool(plain.get("two_dimensional"))
    ways = [("pca", "other" if "other" in atlas.places else "raw", "two dimensions" if two else "PCA")]
    ways += [("umap", "raw_umap" if "raw_umap" in atlas.places else "other_umap", "UMAP")]
    planes = []
    for left, right, title in ways:
        if left not in atlas.places:
            continue
        shares = _shares(plain, left, right)
        panels = [_panel(atlas, name, shares.get(name), pack) for name in (left, right) if name in atlas.places]
        planes.append({"title": title, "panels": panels})
    return planes


def _shares(plain: Mapping[str, Any], left: str, right: str) -> dict[str, Any]:
    if left != "pca":
        return {}
    other = plain.get("other_explained") if right == "other" else plain.get("raw_explained")
    return {left: plain.get("explained"), right: other}


def _panel(atlas: Atlas, name: str, share: object, pack: Pack) -> dict[str, Any]:
    xy = atlas.places[name]
    known = isinstance(share, Sequence) and len(share) == 2 and all(isinstance(one, int | float) for one in share)
    return {
        "name": name,
        "x": pack.quantised(xy[:, 0]),
        "y": pack.quantised(xy[:, 1]),
        "explained": list(share) if known and isinstance(share, Sequence) else None,
    }


def _colour(name: str, values: Any, pack: Pack) -> dict[str, Any]:
    if isinstance(values, np.ndarray):
        return {"name": name, "kind": "number", "values": pack.numbers(values)}
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    levels = sorted(counts, key=lambda level: -counts[level])
    if len(levels) <= 40:  # in their own order, numbers as such
        levels = sorted(levels, key=_natural)
    place = {level: index for index, level in enumerate(levels)}
    codes = np.array([NOBODY if value is None else place[value] for value in values])
    return {
        "name": name,
        "kind": "category",
        "levels": pack.texts(levels),
        "counts": [counts[level] for level in levels[:40]],
        "values": pack.array(codes.astype(np.uint16)),
    }


def _natural(level: str) -> tuple[bool, float, str]:
    try:
        return False, float(level), level
    except ValueError:
        return True, 0.0, level.casefold()


def media_of(media: Sequence[Medium], most: int, most_bytes: int) -> tuple[dict[str, Any], str]:
    """Thumbnails and sounds: where each is in one block of base64, and that block.

    Args:
        media: Those of the run.
        most: How many at the most.
        most_bytes: Of the block.

    Returns:
        Positions, types, offsets and sides; the block.
    """
    kept: list[Medium] = []
    length = 0
    for one in media[:most]:
        if 4 * (length + len(one.content)) // 3 > most_bytes:
            break
        kept.append(one)
        length += len(one.content)
    offsets = np.cumsum([0, *(len(one.content) for one in kept)]).tolist()
    plain = {
        "count": len(kept),
        "of": len(media),
        "position": [one.position for one in kept],
        "mime": [one.mime for one in kept],
        "side": [one.side for one in kept],
        "offset": offsets,
    }
    return plain, base64.b64encode(b"".join(one.content for one in kept)).decode()


def influence_of(record: Record) -> dict[str, Any] | None:
    """Which source columns drive the representation, most first."""
    if record.influence is None:
        return None
    names, values = record.influence
    by = next(iter(values), None)
    strength = np.nan_to_num(values[by]) if by else np.zeros(len(names))
    order = np.argsort(-strength, kind="stable")
    return {
        "columns": [names[place] for place in order],
        "values": {name: found[order] for name, found in values.items()},
    }


def cross_of(record: Record, pack: Pack) -> dict[str, Any] | None:
    """The correlations between both sides' dimensions."""
    return None if record.cross is None else pack.quantised(record.cross)

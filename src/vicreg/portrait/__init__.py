"""What the report shows of a run and nothing else needs: snapshots, a map, neighbours, thumbnails, examples.

Pure functions from arrays to arrays, and the files in ``RUN/portrait`` that hold them. A part of an embedding or
representation is named as in ``vicreg.diagnostics``: ``representation``, ``embedding a``, ``embedding b``; where the
branches differ, ``representation a`` and ``representation b``.
"""

from vicreg.portrait.colours import as_colour, as_time
from vicreg.portrait.examples import cross_correlation, retrieval_examples
from vicreg.portrait.files import (
    Portrait,
    write_cross,
    write_facts,
    write_influence,
    write_looks,
    write_map,
    write_media,
    write_neighbors,
    write_retrieval,
    write_snapshots,
)
from vicreg.portrait.media import sound_clip, thumbnail
from vicreg.portrait.nearest import nearest
from vicreg.portrait.plane import Plane, common_plane, plane, umap_plane
from vicreg.portrait.snapshot import quick_readings, snapshot

__all__ = [
    "Plane",
    "Portrait",
    "as_colour",
    "as_time",
    "common_plane",
    "cross_correlation",
    "nearest",
    "plane",
    "quick_readings",
    "retrieval_examples",
    "snapshot",
    "sound_clip",
    "thumbnail",
    "umap_plane",
    "write_cross",
    "write_facts",
    "write_influence",
    "write_looks",
    "write_map",
    "write_media",
    "write_neighbors",
    "write_retrieval",
    "write_snapshots",
]

"""Views: a batch becomes two samples of the same thing, by kind of data."""

from vicreg.views.neighbors import distinct_neighbors
from vicreg.views.table import (
    VIEWS,
    Batch,
    Custom,
    Identity,
    Marginal,
    Mask,
    Neighbors,
    Noise,
    Pair,
    Table,
    TableView,
    Walk,
    table_views,
)

__all__ = [
    "VIEWS",
    "Batch",
    "Custom",
    "Identity",
    "Marginal",
    "Mask",
    "Neighbors",
    "Noise",
    "Pair",
    "Table",
    "TableView",
    "Walk",
    "distinct_neighbors",
    "table_views",
]

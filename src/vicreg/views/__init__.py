"""Views: a batch becomes two samples of the same thing, by kind of data."""

from vicreg.views.crop import resized_one
from vicreg.views.image import RECIPES, ImageView, evaluation_view, image_views
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
    "RECIPES",
    "VIEWS",
    "Batch",
    "Custom",
    "Identity",
    "ImageView",
    "Marginal",
    "Mask",
    "Neighbors",
    "Noise",
    "Pair",
    "Table",
    "TableView",
    "Walk",
    "distinct_neighbors",
    "evaluation_view",
    "image_views",
    "resized_one",
    "table_views",
]

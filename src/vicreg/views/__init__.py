"""Views: a batch becomes two samples of the same thing, by kind of data."""

from vicreg.views.crop import Rectangle, resized, resized_one
from vicreg.views.image import RECIPES, ImageView, evaluation_view, image_views
from vicreg.views.neighbors import distinct_neighbors
from vicreg.views.signal import SignalView
from vicreg.views.signal_mel import SpectrogramView
from vicreg.views.signal_recipes import MEL, SIGNAL_RECIPES, WAVE, ViewOfSignal, signal_views
from vicreg.views.spectrogram import Mel, log_mel
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
    "MEL",
    "RECIPES",
    "SIGNAL_RECIPES",
    "VIEWS",
    "WAVE",
    "Batch",
    "Custom",
    "Identity",
    "ImageView",
    "Marginal",
    "Mask",
    "Mel",
    "Neighbors",
    "Noise",
    "Pair",
    "Rectangle",
    "SignalView",
    "SpectrogramView",
    "Table",
    "TableView",
    "ViewOfSignal",
    "Walk",
    "distinct_neighbors",
    "evaluation_view",
    "image_views",
    "log_mel",
    "resized",
    "resized_one",
    "signal_views",
    "table_views",
]

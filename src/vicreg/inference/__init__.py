"""Trained encoders with their preprocessing, ready for new data."""

from vicreg.inference.crops import crops_of_each
from vicreg.inference.image import ImageEmbedder, crops_of_all
from vicreg.inference.influence import Influence, column_influence, spread_rows
from vicreg.inference.loading import load, load_as
from vicreg.inference.pair import PairEmbedder
from vicreg.inference.signal import SignalEmbedder, SignalPart
from vicreg.inference.table import Embedder

__all__ = [
    "Embedder",
    "ImageEmbedder",
    "Influence",
    "PairEmbedder",
    "SignalEmbedder",
    "SignalPart",
    "column_influence",
    "crops_of_all",
    "crops_of_each",
    "load",
    "load_as",
    "spread_rows",
]

"""Objectives: named, weighted terms of the branches' outputs, and the methods that are such."""

from vicreg.objectives.methods import anchor, mean_squared_error, reconstruction, vicreg
from vicreg.objectives.named import ADDITIONS, OBJECTIVES, objective_of
from vicreg.objectives.objective import Objective, Outputs, Term
from vicreg.objectives.relatives import (
    barlow_twins,
    byol,
    gaussian,
    sigreg,
    simclr,
    simsiam,
    sketched,
    vibcreg,
    vicregl,
    visreg,
)
from vicreg.objectives.whitening import whiten

__all__ = [
    "ADDITIONS",
    "OBJECTIVES",
    "Objective",
    "Outputs",
    "Term",
    "anchor",
    "barlow_twins",
    "byol",
    "gaussian",
    "mean_squared_error",
    "objective_of",
    "reconstruction",
    "sigreg",
    "simclr",
    "simsiam",
    "sketched",
    "vibcreg",
    "vicreg",
    "vicregl",
    "visreg",
    "whiten",
]

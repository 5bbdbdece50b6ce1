"""Objectives: named, weighted terms of the branches' outputs, and the methods that are such."""

from vicreg.objectives.methods import OBJECTIVES, anchor, mean_squared_error, reconstruction, vicreg
from vicreg.objectives.objective import Objective, Outputs, Term

__all__ = ["OBJECTIVES", "Objective", "Outputs", "Term", "anchor", "mean_squared_error", "reconstruction", "vicreg"]

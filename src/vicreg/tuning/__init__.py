"""The search for settings, judged by scores that do not know the weights that are searched."""

from vicreg.tuning.scores import SCORES
from vicreg.tuning.space import Choice, Float, Integer, default_space, read_space
from vicreg.tuning.tuned import Tuned, tune

__all__ = ["SCORES", "Choice", "Float", "Integer", "Tuned", "default_space", "read_space", "tune"]

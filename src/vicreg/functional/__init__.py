"""Pure functions: tensors in, tensors out, no state."""

from vicreg.functional.canonical import CanonicalAxes, canonical_axes
from vicreg.functional.fused import Evaluated, Formula, evaluate
from vicreg.functional.principal import PrincipalAxes, principal_axes
from vicreg.functional.spectrum import (
    alpha_req,
    covariance_spectrum,
    dead_dimensions,
    excess_covariance,
    lidar,
    mean_correlation,
    noise_floor,
    off_diagonal,
    participation_ratio,
    rankme,
    singular_values,
    standard_deviation,
)
from vicreg.functional.sphere import alignment, uniformity
from vicreg.functional.terms import covariance, invariance, variance

__all__ = [
    "CanonicalAxes",
    "Evaluated",
    "Formula",
    "PrincipalAxes",
    "alignment",
    "alpha_req",
    "canonical_axes",
    "covariance",
    "covariance_spectrum",
    "dead_dimensions",
    "evaluate",
    "excess_covariance",
    "invariance",
    "lidar",
    "mean_correlation",
    "noise_floor",
    "off_diagonal",
    "participation_ratio",
    "principal_axes",
    "rankme",
    "singular_values",
    "standard_deviation",
    "uniformity",
    "variance",
]

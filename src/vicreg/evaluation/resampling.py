"""How far a score may be off: bootstrap intervals over held-out rows.

All of them resample *rows*: they cover the chance in which rows happened to be held out, not the chance in fitting
the encoder (another seed, other training rows). Draws depend on the number of rows and ``random_state`` alone, so
two calls on the same rows see the same resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vicreg._checks import check_integer
from vicreg.evaluation.inputs import FloatArray

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 2**21  # counts held at once


@dataclass(frozen=True)
class Interval:
    """A measured value and the 95 % interval around it.

    Attributes:
        value: As measured on all rows.
        low: Lower end.
        high: Upper end.

    Example:
        >>> Interval(0.03, 0.01, 0.05).sign
        1
    """

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the interval lies above 0, -1 if below, else 0; with three decimals, as it is printed."""
        return int(round(self.low, 3) > 0) - int(round(self.high, 3) < 0)


def resampled_means(values: FloatArray, resamples: int = RESAMPLES, random_state: int = 0) -> FloatArray:
    """Means of the columns over rows drawn with replacement.

    Args:
        values: (n, m).
        resamples: How many times n rows are drawn.
        random_state: Seed.

    Returns:
        (resamples, m).

    Example:
        >>> resampled_means(np.array([[0.0], [1.0]]), resamples=3).tolist()
        [[1.0], [0.5], [0.0]]
    """
    n = len(values)
    check_integer("resamples", resamples, 1)
    rng = np.random.default_rng(random_state)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, BLOCK // n)
    for start in range(0, resamples, step):
        block = min(step, resamples - start)
        drawn = rng.integers(n, size=(block, n)) + n * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * n).reshape(block, n)
        means[start : start + block] = counts @ values / n
    return means


def mean_interval(values: FloatArray, random_state: int = 0) -> Interval:
    """Percentile interval of a mean (Efron 1979): of silhouettes, or of the paired differences of two.

    Args:
        values: (n,), one per row.
        random_state: Seed.

    Returns:
        The mean and its 95 % interval.

    Example:
        >>> spread = mean_interval(np.arange(101.0))
        >>> spread.value, round(spread.low), round(spread.high)
        (50.0, 44, 56)
    """
    return _percentiles(float(values.mean()), resampled_means(values[:, None], random_state=random_state)[:, 0])


def accuracy_interval(correct: FloatArray, random_state: int = 0) -> Interval:
    """Percentile interval of a share of right answers, with one made-up right and one made-up wrong row.

    Without those two rows a perfect score on ten rows would come with the interval [1, 1] (Agresti and Coull 1998 add
    such rows for the same reason). The value itself is the plain share.

    Args:
        correct: (n,), 1 where right and 0 where wrong.
        random_state: Seed.

    Returns:
        The accuracy and its 95 % interval.

    Example:
        >>> accuracy_interval(np.ones(30))
        Interval(value=1.0, low=0.90625, high=1.0)
    """
    drawn = mean_interval(np.append(correct, [1.0, 0.0]), random_state)
    return Interval(float(correct.mean()), drawn.low, drawn.high)


def accuracy_difference(correct: FloatArray, other: FloatArray, random_state: int = 0) -> Interval:
    """Interval of the difference of two accuracies on the same rows.

    Two made-up rows, one that only the first gets right and one that only the other does, keep a handful of rows
    from passing for proof (Bonett and Price 2012, the same correction for the paired Wald interval).

    Args:
        correct: (n,), 1 where the first is right.
        other: (n,), 1 where the other is right, same rows.
        random_state: Seed.

    Returns:
        First minus other, and its 95 % interval.

    Example:
        >>> accuracy_difference(np.array([1.0] * 30), np.array([1.0] * 26 + [0.0] * 4)).sign
        0
    """
    paired = correct - other
    drawn = mean_interval(np.append(paired, [1.0, -1.0]), random_state)
    return Interval(float(paired.mean()), drawn.low, drawn.high)


def r2_interval(targets: FloatArray, squared_errors: FloatArray, random_state: int = 0) -> Interval:
    """Percentile interval of R2 = 1 - mean squared error / variance of the targets.

    Args:
        targets: (n,), not all equal.
        squared_errors: (n,), of the same rows.
        random_state: Seed.

    Returns:
        R2 and its 95 % interval.

    Example:
        >>> r2_interval(np.arange(10.0), np.zeros(10))
        Interval(value=1.0, low=1.0, high=1.0)
    """
    value, draws = _share_of_variance(targets, squared_errors, random_state)
    return _percentiles(1 - value, 1 - draws)


def r2_difference(targets: FloatArray, errors: FloatArray, other: FloatArray, random_state: int = 0) -> Interval:
    """Interval of the difference of two R2 on the same rows.

    Args:
        targets: (n,), not all equal.
        errors: (n,) squared errors of the first.
        other: (n,) squared errors of the other.
        random_state: Seed.

    Returns:
        First minus other, and its 95 % interval.

    Example:
        >>> r2_difference(np.arange(10.0), np.zeros(10), np.ones(10)).sign
        1
    """
    return _percentiles(*_share_of_variance(targets, other - errors, random_state))


def _share_of_variance(targets: FloatArray, values: FloatArray, seed: int) -> tuple[float, FloatArray]:
    """``mean(values) / var(targets)`` on all rows, and on each resample whose targets differ at all."""
    centred = targets - targets.mean()
    means = resampled_means(np.stack([values, centred, centred**2], 1), random_state=seed)
    variances = means[:, 2] - means[:, 1] ** 2
    varied = variances > 1e-12 * centred.var()
    return float(values.mean() / centred.var()), means[varied, 0] / variances[varied]


def _percentiles(value: float, draws: FloatArray) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))

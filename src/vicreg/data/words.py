"""Columns of text: a few levels, or anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction.text import HashingVectorizer

from vicreg._checks import require, shown
from vicreg.data import cells as read
from vicreg.data.cells import Cells, Floats
from vicreg.data.numeric import (
    Constant,
    Features,
    check_scale,
    check_share,
    gap_name,
    record_of,
    standardise,
    with_gaps,
)

MAX_LEVELS = 32
COVERAGE = 0.9
"""Text is a category if its ``MAX_LEVELS`` most frequent levels cover this share of it, else free text."""

TEXT_WIDTH = 32
TEXT_NGRAMS = (2, 4)


@dataclass(frozen=True)
class Category:
    """A few levels, one-hot, centred, and scaled together to the variance of one number column.

    Rarer levels share one feature, "(other)", where the fit saw any; gaps are a level of their own where it saw any. A
    value that has no feature of its own is the column's mean.

    Attributes:
        name: The source column.
        levels: The most frequent levels, the most frequent first.
        shares: The share of each in the rows of the fit.
        other: The share of all other levels.
        gaps: The share of gaps.
    """

    kind: ClassVar[str] = "category"
    name: str
    levels: tuple[str, ...]
    shares: tuple[float, ...]
    other: float
    gaps: float

    def __post_init__(self) -> None:
        for share in self._parts:
            check_share(self.name, share)
        require(
            len(set(self.levels)) == len(self.levels), record_of(self.name), "have distinct levels", "repeated ones"
        )
        sums = abs(sum(self.shares) + self.other + self.gaps - 1.0) < 1e-6
        require(len(self.shares) == len(self.levels) and sums, record_of(self.name), "share out all rows", self.shares)
        check_scale(self.name, self._scale)

    @classmethod
    def fit(cls, name: str, cells: Cells) -> Category | Constant:
        """The most frequent levels; of equally frequent ones the first by name."""
        strings = read.texts(cells, f"column {shown(name)}")
        n = len(strings)
        ranked = _by_frequency(strings)
        top = ranked[:MAX_LEVELS]
        other = sum(count for _, count in ranked[MAX_LEVELS:]) / n
        gaps = strings.null_count / n
        if len(top) + (gaps > 0) < 2:
            return Constant(name)
        return cls(name, tuple(t for t, _ in top), tuple(c / n for _, c in top), other, gaps)

    @property
    def _parts(self) -> tuple[float, ...]:
        return tuple(share for share in (*self.shares, self.other, self.gaps) if share > 0)

    @property
    def _scale(self) -> float:
        return math.sqrt(sum(share * (1 - share) for share in self._parts))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One per level, then the other levels and the gaps where the fit saw any."""
        other = (f"{self.name} = (other)",) if self.other else ()
        return (*(f"{self.name} = {level}" for level in self.levels), *other, *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, levels [+ other] [+ gaps])."""
        strings = read.texts(cells, f"column {shown(self.name)}")
        width = len(self._parts)
        rows = np.zeros((width + 1, width))  # the last row is the mean: for what has no feature of its own
        rows[:width] = (np.eye(width) - np.array(self._parts)) / self._scale
        known = pc.index_in(strings, value_set=pa.array(self.levels, pa.large_string()))
        codes = np.asarray(pc.fill_null(known, len(self.levels) if self.other else width).to_numpy())
        gap = np.asarray(strings.is_null().to_numpy(), dtype=np.bool_)
        codes = np.where(gap, width - 1 if self.gaps else width, codes)
        return np.asarray(rows.astype(np.float32)[codes])


@dataclass(frozen=True)
class Text:
    """Free text as hashed character n-grams, centred and scaled together to the variance of one number column.

    Attributes:
        name: The source column.
        ngrams: The shortest and the longest n-gram.
        centre: Mean of each hashed feature.
        scale: Square root of their total variance.
        gaps: The share of gaps.
    """

    kind: ClassVar[str] = "text"
    name: str
    ngrams: tuple[int, ...]
    centre: tuple[float, ...]
    scale: float
    gaps: float

    def __post_init__(self) -> None:
        check_scale(self.name, self.scale)
        check_share(self.name, self.gaps)
        ordered = len(self.ngrams) == 2 and 1 <= self.ngrams[0] <= self.ngrams[1] <= 16
        require(ordered, record_of(self.name), "have n-grams of 1 to 16 characters", self.ngrams)
        unit = 0 < len(self.centre) <= 4096 and all(abs(c) <= 1 for c in self.centre)
        require(unit, record_of(self.name), "have a centre of 1 to 4096 numbers within +-1", len(self.centre))

    @classmethod
    def fit(cls, name: str, cells: Cells) -> Text | Constant:
        """Mean and total variance of the observed cells' hashed n-grams."""
        hashed, codes = _hashed(read.texts(cells, f"column {shown(name)}"), TEXT_WIDTH, TEXT_NGRAMS)
        seen = np.bincount(codes[codes >= 0], minlength=len(hashed))
        if seen.sum() == 0:
            return Constant(name)
        weights = seen / seen.sum()
        centre = weights @ hashed
        scale = math.sqrt(float((weights @ (hashed - centre) ** 2).sum()))
        gaps = float((codes < 0).mean())
        if scale == 0 and gaps == 0:
            return Constant(name)
        return cls(name, TEXT_NGRAMS, tuple(float(c) for c in np.clip(centre, -1, 1)), scale or 1.0, gaps)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One per hashed feature, the gaps where the fit saw any."""
        return (*(f"{self.name}: n-grams {i}" for i in range(len(self.centre))), *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, width [+ 1])."""
        strings = read.texts(cells, f"column {shown(self.name)}")
        hashed, codes = _hashed(strings, len(self.centre), self.ngrams)
        rows = np.zeros((len(hashed) + 1, len(self.centre)))  # the last row is the mean: for gaps, whose code is -1
        rows[:-1] = standardise(hashed, np.array(self.centre), self.scale)
        return with_gaps(rows[codes], codes < 0, self.gaps)


def text_kind(strings: pa.ChunkedArray) -> type[Category] | type[Text]:
    """Whether text is a category: its most frequent levels cover nearly all of it."""
    ranked = _by_frequency(strings)
    covered = sum(count for _, count in ranked[:MAX_LEVELS])
    return Category if covered >= COVERAGE * (len(strings) - strings.null_count) else Text


def _by_frequency(strings: pa.ChunkedArray) -> list[tuple[str, int]]:
    """The distinct texts with their counts, the most frequent first and equals by name."""
    counts = pc.value_counts(strings.drop_null())
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _hashed(strings: pa.ChunkedArray, width: int, ngrams: tuple[int, ...]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Hashed n-grams of every distinct text, (distinct, width), and each row's place among them (-1 for a gap)."""
    encoded = strings.combine_chunks().dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(), dtype=np.int64)
    if len(encoded.dictionary) == 0:
        return np.zeros((0, width)), codes
    hasher = HashingVectorizer(analyzer="char_wb", ngram_range=ngrams, n_features=width)
    return np.asarray(hasher.transform(encoded.dictionary.to_pylist()).toarray(), dtype=np.float64), codes

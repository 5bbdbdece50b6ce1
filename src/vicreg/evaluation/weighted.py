"""Weighted nearest neighbours on the unit sphere, the probe that trains nothing, in blocks.

Wu, Xiong, Yu, Lin, "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018,
arXiv:1805.01978: the k training rows of highest cosine similarity s vote with the weight exp(s / temperature), k = 200
and temperature .07. Papers of the field, VICReg's among them, give k = 20 and k = 200.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vicreg._checks import check_integer, check_number, require
from vicreg.evaluation.inputs import as_features, check_codes

NEIGHBORS = (20, 200)
TEMPERATURE = 0.07

# Rows of similarities that are there at once: 16 MiB of them.
TEST_BLOCK = 512
TRAIN_BLOCK = 8192


def most_similar(train: Any, test: Any, k: int) -> tuple[Tensor, Tensor]:
    """The training rows of highest cosine similarity to each test row.

    Memory beyond the result and its inputs is that of one block of similarities. A row of zeros has a similarity of 0
    to all others.

    Args:
        train: (n, d) features, a tensor on any device or an array of any real type.
        test: (m, d).
        k: How many neighbours, at most n.

    Returns:
        Similarities (m, k), descending, and row numbers (m, k), on the device of ``train``.

    Raises:
        ValueError: Shapes that do not fit, fewer training rows than neighbours, or values that are not finite.

    Example:
        >>> similarity, rows = most_similar([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], [[5.0, 0.0]], k=2)
        >>> similarity.tolist(), rows.tolist()
        ([[1.0, 0.707...]], [[0, 2]])
    """
    train, test = as_features("train", train), as_features("test", test)
    require(train.shape[1] == test.shape[1], "test", f"have {train.shape[1]} columns, as train has", test.shape[1])
    check_integer("k", k, 1)
    require(len(train) >= k, "the training rows", f"be at least the {k} neighbours asked", len(train))
    found = [_nearest_in_blocks(train, block.to(train.device), k) for block in torch.split(test, TEST_BLOCK)]
    return torch.cat([similarity for similarity, _ in found]), torch.cat([rows for _, rows in found])


def weighted_knn(
    train: Any,
    codes: Any,
    test: Any,
    classes: int,
    k: Sequence[int] = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> dict[int, Tensor]:
    """What the most similar training rows say of test rows, for one or several numbers of neighbours.

    Args:
        train: (n, d) features.
        codes: (n,) their classes, whole numbers below ``classes``.
        test: (m, d) features.
        classes: How many.
        k: Numbers of neighbours; they are searched once.
        temperature: Votes weigh ``exp(similarity / temperature)``; ``math.inf`` counts them all alike.

    Returns:
        By number of neighbours, the class (m,) with the most votes; of equals, the first.

    Raises:
        TypeError: Classes that are no whole numbers.
        ValueError: Shapes that do not fit, fewer training rows than neighbours, or values that are not finite.

    Example:
        >>> train, codes = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [0, 0, 1]
        >>> {k: said.tolist() for k, said in weighted_knn(train, codes, [[0.1, 1.0]], classes=2, k=(1, 3)).items()}
        {1: [1], 3: [1]}
        >>> weighted_knn(train, codes, [[0.1, 1.0]], classes=2, k=[3], temperature=math.inf)[3].tolist()
        [0]
    """
    require(len(k) > 0, "k", "name a number of neighbours", "none")
    if temperature != math.inf:
        check_number("temperature", temperature, 0, open_low=True)
    features = as_features("train", train)
    labels = torch.from_numpy(check_codes(codes, len(features), classes)).to(features.device)
    similarity, rows = most_similar(features, test, max(k))
    # One less than the similarity, lest a low temperature overflows: all votes change by one factor.
    weight, voted = ((similarity - 1) / temperature).exp_(), labels[rows]
    return {number: _most_voted(weight[:, :number], voted[:, :number], classes) for number in k}


def _nearest_in_blocks(train: Tensor, test: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Neighbours of one block of test rows, merged from block to block of training rows."""
    unit = normalize(test.to(torch.float32))
    best = unit.new_empty(len(test), 0)
    rows = torch.empty(len(test), 0, dtype=torch.long, device=train.device)
    for start in range(0, len(train), TRAIN_BLOCK):
        similarity = unit @ normalize(train[start : start + TRAIN_BLOCK].to(torch.float32)).mT
        values, places = similarity.topk(min(k, similarity.shape[1]))
        values, places = torch.cat([best, values], 1), torch.cat([rows, places + start], 1)
        best, order = values.topk(min(k, values.shape[1]))
        rows = places.gather(1, order)
    require(bool(torch.isfinite(best).all()), "the features", "be finite", "NaN or infinite values")
    return best, rows


def _most_voted(weight: Tensor, voted: Tensor, classes: int) -> Tensor:
    blocks = zip(torch.split(weight, TEST_BLOCK), torch.split(voted, TEST_BLOCK), strict=True)
    return torch.cat([w.new_zeros(len(w), classes).scatter_add_(1, v, w).argmax(1) for w, v in blocks])

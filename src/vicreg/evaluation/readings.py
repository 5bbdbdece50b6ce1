"""What can be said of a representation without labels, and the words that say no more than that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vicreg._checks import require
from vicreg.evaluation.inputs import check_representation, conditioned
from vicreg.evaluation.scores import stability, trustworthiness
from vicreg.evaluation.words import count, number
from vicreg.functional.spectrum import rankme

NEIGHBORS = 10


def readings(x: Any, z: Any, z_other_seed: Any = None, random_state: int = 0) -> dict[str, float]:
    """Readings of a representation that need no labels.

    Args:
        x: (n, p) the data, on a common scale; n >= 3.
        z: (n, k) its representation.
        z_other_seed: (n, k') representation of the same rows by a fit with another seed.
        random_state: Seed of the rows drawn where there are many.

    Returns:
        ``trustworthiness`` (within 0 and 1); ``stability`` if another seed is given (1 is full agreement, 0 chance);
        ``effective_rank`` (RankMe, Garrido et al. 2023, of the centred rows; at most ``width``); ``width``; and
        ``neighbors``, the size of the neighbourhoods: 10, less below 21 rows.

    Raises:
        ValueError: Different numbers of rows, fewer than 3 rows, or values that are not finite.

    Example:
        >>> rows = [[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 1.0]]
        >>> readings(rows, rows)["trustworthiness"]
        1.0
    """
    z = check_representation("z", z)
    require(len(z) >= 3, "z", "have at least 3 rows", len(z), "Neighbours need other rows beside them.")
    neighbors = min(NEIGHBORS, (len(z) - 1) // 2)
    found = {"trustworthiness": trustworthiness(x, z, neighbors, random_state)}
    if z_other_seed is not None:
        found["stability"] = stability(z, z_other_seed, neighbors, random_state)
    found["effective_rank"] = float(rankme(torch.from_numpy(conditioned(z))))
    return found | {"width": float(z.shape[1]), "neighbors": float(neighbors)}


def readings_in_words(found: Mapping[str, float]) -> str:
    """The readings as sentences that claim no usefulness, since nothing here measures it.

    Args:
        found: From `readings`.

    Returns:
        A few sentences.

    Example:
        >>> print(readings_in_words({"trustworthiness": 0.981, "effective_rank": 12.34, "width": 16, "neighbors": 10}))
        Without labels there is no telling how useful this embedding is for your task; the readings only describe it.
        Trustworthiness .981: how far the 10 nearest rows in the embedding are near in the data as well (1 is all of
        them, about .5 is chance).
        Effective rank 12.3 of 16: over how many directions the embedding spreads its rows.
    """
    near = count(round(found["neighbors"]), "nearest row")
    said = [
        "Without labels there is no telling how useful this embedding is for your task; the readings only describe it.",
        f"Trustworthiness {number(found['trustworthiness'])}: how far the {near} in the embedding are near in the "
        "data as well (1 is all of them, about .5 is chance).",
    ]
    if "stability" in found:
        said.append(
            f"Stability {number(found['stability'])}: how far fits with two seeds agree on the {near} of each row "
            "(1 is fully, 0 is chance)."
        )
    said.append(
        f"Effective rank {found['effective_rank']:.1f} of {found['width']:.0f}: over how many directions the embedding "
        "spreads its rows."
    )
    return "\n".join(said)

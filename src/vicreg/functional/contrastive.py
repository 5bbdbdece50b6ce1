"""The contrastive loss of SimCLR."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from vicreg._checks import check_number, require
from vicreg.distributed import Batch
from vicreg.functional.collective import full_precision, gathered, summed, whole
from vicreg.functional.terms import check_embedding, widened


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float = 0.1, batch: Batch | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy: which of all other embeddings is that of the same sample?

    Mean over the 2n embeddings of -log( exp(s(i, i+) / temperature) / sum_{k != i} exp(s(i, k) / temperature) ), with
    s the cosine and i+ the same sample's embedding of the other view.

    Source: Chen et al., "SimCLR", ICML 2020, arXiv:2002.05709, equation 1. Cost: O(n^2 d), and n^2 memory; over W
    processes 1/W of it each.

    Args:
        z_a: (n, d) embeddings of one view.
        z_b: (n, d) of the other.
        temperature: Above 0. The paper's best on ImageNet is .1 (table 5), and .5 on CIFAR-10 (appendix B.9).
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar of at least 0; log(2n - 1) where all embeddings are the same.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: Shapes differ or are not (n, d), or ``temperature`` is out of its range.

    Example:
        >>> import math
        >>> z = torch.ones(4, 3)
        >>> round(nt_xent(z, z).item() - math.log(7), 5)
        0.0
    """
    for name, z in (("z_a", z_a), ("z_b", z_b)):
        check_embedding(name, z, least=0)
    same = z_a.shape == z_b.shape and z_a.ndim == 2
    require(same, "z_a and z_b", "have the same shape (n, d)", f"{tuple(z_a.shape)} and {tuple(z_b.shape)}")
    check_number("temperature", temperature, 0, open_low=True)
    batch = batch or whole(z_a)
    with full_precision(z_a):
        views = [normalize(widened(z), dim=1) for z in (z_a, z_b)]
        everyone = torch.cat([gathered(view, batch) for view in views])
        logits = (torch.cat(views) / temperature) @ everyone.mT
        own = torch.arange(batch.own.start, batch.own.stop, device=z_a.device)
        itself, other = torch.cat((own, own + batch.n)), torch.cat((own + batch.n, own))
        logits.scatter_(1, itself[:, None], -torch.inf)
        return summed(cross_entropy(logits, other, reduction="sum"), batch) / (2 * batch.n)

"""The relatives of VICReg: short functions that return an objective. docs/METHODS.md compares them."""

from __future__ import annotations

from functools import partial

from vicreg._checks import check_integer, check_number
from vicreg.functional import terms
from vicreg.functional.contrastive import nt_xent
from vicreg.functional.correlation import correlation, cross_diagonal, cross_off_diagonal
from vicreg.functional.fused import Formula
from vicreg.functional.prediction import deviation, prediction_error
from vicreg.functional.sliced import centre, epps_pulley, scale, shape
from vicreg.objectives.batchwise import EachPair, EachSliced, EachView, Local, Located, Together
from vicreg.objectives.methods import vicreg
from vicreg.objectives.objective import Objective, Term

PAIRS = ("z", "n_large")


def barlow_twins(off_coeff: float = 5e-3) -> Objective:
    """Barlow Twins (Zbontar et al., ICML 2021, arXiv:2103.03230): the views' cross-correlation is to be the identity.

    Args:
        off_coeff: Weight of the off-diagonal entries (lambda), at least 0; the paper's.

    Returns:
        Terms ``diagonal`` and ``off_diagonal``, sums over the entries; O(n d min(d, 2n)).

    Raises:
        TypeError: ``off_coeff`` is no number.
        ValueError: It is out of its range.

    Example:
        >>> {name: term.weight for name, term in barlow_twins().items()}
        {'diagonal': 1.0, 'off_diagonal': 0.005}
    """
    return Objective(
        {
            "diagonal": Term(1.0, EachPair(cross_diagonal), on=PAIRS),
            "off_diagonal": Term(check_number("off_coeff", off_coeff, 0), EachPair(cross_off_diagonal), on=PAIRS),
        }
    )


def simclr(temperature: float = 0.1) -> Objective:
    """SimCLR (Chen et al., ICML 2020, arXiv:2002.05709): tell the same sample's other view from all other samples.

    Args:
        temperature: Of the softmax, above 0; the paper's for ImageNet (for CIFAR-10 it takes .5).

    Returns:
        One term, ``nt_xent``; O(n^2 d).

    Raises:
        TypeError: ``temperature`` is no number.
        ValueError: It is out of its range.

    Example:
        >>> list(simclr())
        ['nt_xent']
    """
    temperature = check_number("temperature", temperature, 0, open_low=True)
    return Objective({"nt_xent": Term(1.0, EachPair(partial(nt_xent, temperature=temperature)), on=PAIRS)})


def byol() -> Objective:
    """BYOL (Grill et al., NeurIPS 2020, arXiv:2006.07733): predict an averaged network's embedding of the other view.

    Returns:
        One term, ``prediction``, of weight 2, since the paper sums the two directions; O(n d). It needs a predictor
        and an averaged target branch.

    Example:
        >>> sorted(byol().needs)
        ['predictor', 'target']
    """
    needs = frozenset({"predictor", "target"})
    return Objective({"prediction": Term(2.0, Together(prediction_error), on=("p", "target"), needs=needs)})


def simsiam() -> Objective:
    """SimSiam (Chen and He, CVPR 2021, arXiv:2011.10566): predict the other view's embedding, which gets no gradient.

    Returns:
        One term, ``prediction``, of weight 1/2: that is the paper's mean of negative cosines, plus 1; O(n d). It needs
        a predictor.

    Example:
        >>> sorted(simsiam().needs)
        ['predictor']
    """
    term = Term(0.5, Together(prediction_error), on=("p", "z"), needs=frozenset({"predictor"}))
    return Objective({"prediction": term})


def vibcreg(sim_coeff: float = 25.0, std_coeff: float = 25.0, corr_coeff: float = 200.0) -> Objective:
    """VIbCReg (Lee and Aptoula, arXiv:2109.00783): VICReg with correlations in place of covariances.

    Args:
        sim_coeff: Weight of the invariance term, at least 0.
        std_coeff: Weight of the variance term of each branch (not halved), at least 0.
        corr_coeff: Weight of the mean squared correlation of each branch, at least 0. These are the defaults of
            solo-learn's code for the method.

    Returns:
        Terms ``invariance``, ``variance`` and ``correlation``; O(n d min(n, d)). ``whiten`` joins the whitening
        that the paper may put behind the expander.

    Raises:
        TypeError: A weight is no number.
        ValueError: A weight is out of its range.

    Example:
        >>> {name: term.weight for name, term in vibcreg().items()}
        {'invariance': 25.0, 'variance': 25.0, 'correlation': 200.0}
    """
    return Objective(
        {
            "invariance": Term(check_number("sim_coeff", sim_coeff, 0), terms.invariance),
            "variance": Term(check_number("std_coeff", std_coeff, 0), terms.variance),
            "correlation": Term(check_number("corr_coeff", corr_coeff, 0), EachView(correlation, factor=2.0)),
        }
    )


def vicregl(alpha: float = 0.75, matches: int | None = None, nearest: float = 0.4) -> Objective:
    """VICRegL (Bardes, Ponce, LeCun, NeurIPS 2022, arXiv:2210.01571): VICReg of vectors and of matched local features.

    ``alpha`` times VICReg of the embeddings, and the rest times VICReg between places of two views' feature maps: each
    place and that of the other map whose feature is nearest; plus those places that are nearest to one of the other
    map in the picture. Weights 25, 25 and, as in the authors' code, half of 1.

    Where a view was flipped, its places are counted from the right, so that what is matched shows the same; the
    authors' code does not by default (``--no-flip-grid 1``).

    Args:
        alpha: Share of the global terms, between 0 and 1; the authors' default.
        matches: Pairs of places of nearest features kept of each sample; all by default, as in the authors' code.
        nearest: Share of the places that are matched by where they are, between 0 and 1; the authors keep 20 of 49 and
            4 of 9. 0 leaves that matching out, for views that do not say what they cut out.

    Returns:
        Terms ``invariance``, ``variance``, ``covariance`` of the embeddings, ``local`` and ``located``; O(n t^2 d) for
        maps of t places, plus 1 + ``nearest`` times t times VICReg's cost for each direction of each pair. It needs
        feature maps, and the views' cuts.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> objective = vicregl()
        >>> {name: term.weight for name, term in objective.items()}, sorted(objective.needs)
        ({'invariance': 18.75, 'variance': 9.375, 'covariance': 0.375, 'local': 0.25, 'located': 0.25},
        ['cuts', 'maps'])
    """
    alpha = check_number("alpha", alpha, 0, 1)
    if matches is not None:
        check_integer("matches", matches, 1)
    nearest = check_number("nearest", nearest, 0, 1)
    formula = Formula(invariance=25.0, variance=(12.5, 12.5), covariance=(0.5, 0.5))
    local = Term(1 - alpha, Local(formula, matches), on=("maps", "n_large"), needs=frozenset({"maps"}))
    needs = frozenset({"maps", "cuts"})
    located = Term(1 - alpha, Located(formula, nearest), on=("maps", "cuts", "n_large"), needs=needs)
    return vicreg(25 * alpha, 25 * alpha, 0.5 * alpha) | {"local": local} | ({"located": located} if nearest else {})


def sigreg(sig_coeff: float = 0.05, slices: int = 256) -> Objective:
    """LeJEPA (Balestriero and LeCun, arXiv:2511.08544): views near their mean, embeddings an isotropic Gaussian.

    Args:
        sig_coeff: Weight of the Gaussian term (lambda), between 0 and 1, the paper's recommendation; the rest is the
            deviation's.
        slices: Random directions along which it is looked at; as in the authors' minimal code.

    Returns:
        Terms ``deviation`` and ``sigreg``; O(n d K) for K slices.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> {name: term.weight for name, term in sigreg().items()}
        {'deviation': 0.95, 'sigreg': 0.05}
    """
    weight = check_number("sig_coeff", sig_coeff, 0, 1)
    return Objective({"deviation": Term(1 - weight, Together(deviation), on=PAIRS)}) | gaussian(weight, slices)


def gaussian(weight: float = 1.0, slices: int = 256) -> Objective:
    """SIGReg's term alone, to join others.

    Args:
        weight: At least 0. There is no published one beside other terms.
        slices: Random directions.

    Returns:
        One term, ``sigreg``.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> list(vicreg(cov_coeff=0.0) | gaussian())
        ['invariance', 'variance', 'covariance', 'sigreg']
    """
    sliced = EachSliced(epps_pulley, check_integer("slices", slices, 1))
    return Objective({"sigreg": Term(check_number("weight", weight, 0), sliced)})


def visreg(reg_coeff: float = 0.6, slices: int = 256) -> Objective:
    """VISReg (arXiv:2606.02572): views near their mean; embeddings of unit scale, a Gaussian's shape, around 0.

    Args:
        reg_coeff: Weight of each of the last three (lambda), between 0 and 1, the authors' for small data (for ImageNet
            .9); the rest is the deviation's.
        slices: Random directions along which the shape is looked at; as in the authors' code.

    Returns:
        Terms ``deviation``, ``scale``, ``shape`` and ``centre``; O(n d K + K n log n) for K slices.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> {name: term.weight for name, term in visreg().items()}
        {'deviation': 0.4, 'scale': 0.6, 'shape': 0.6, 'centre': 0.6}
    """
    weight = check_number("reg_coeff", reg_coeff, 0, 1)
    return Objective({"deviation": Term(1 - weight, Together(deviation), on=PAIRS)}) | sketched(weight, slices)


def sketched(weight: float = 1.0, slices: int = 256) -> Objective:
    """VISReg's three terms of one view alone, to join others.

    Args:
        weight: Of each, at least 0. There is no published one beside other terms.
        slices: Random directions.

    Returns:
        Terms ``scale``, ``shape`` and ``centre``.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> list(sketched())
        ['scale', 'shape', 'centre']
    """
    weight = check_number("weight", weight, 0)
    sliced = EachSliced(shape, check_integer("slices", slices, 1))
    return Objective(
        {
            "scale": Term(weight, EachView(scale)),
            "shape": Term(weight, sliced),
            "centre": Term(weight, EachView(centre)),
        }
    )

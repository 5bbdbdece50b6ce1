"""Objectives by the names that users give as text."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from vicreg._checks import listed, message, require, shown
from vicreg.functional import terms
from vicreg.functional.correlation import correlation
from vicreg.objectives.batchwise import EachView
from vicreg.objectives.methods import vicreg
from vicreg.objectives.objective import Objective, Term
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

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "vicreg": vicreg,
    "barlow_twins": barlow_twins,
    "byol": byol,
    "sigreg": sigreg,
    "simclr": simclr,
    "simsiam": simsiam,
    "vibcreg": vibcreg,
    "vicregl": vicregl,
    "visreg": visreg,
}
"""Methods by name."""


def _one(name: str, term: Term) -> Objective:
    return Objective({name: term})


ADDITIONS: dict[str, Callable[[], Objective]] = {
    "variance": partial(_one, "variance", Term(1.0, terms.variance)),
    "covariance": partial(_one, "covariance", Term(0.01, terms.covariance)),
    "correlation": partial(_one, "correlation", Term(1.0, EachView(correlation, factor=2.0))),
    "sigreg": gaussian,
    "visreg": sketched,
}
"""What a method can be joined with, by name: the terms that keep embeddings from collapsing. The weights of the first
two are those that the VICReg paper gives them beside BYOL and SimSiam (table 4: mu = 1, nu = .01)."""


def objective_of(name: str, **settings: Any) -> Objective:
    """The objective of a name: a method, or several terms and methods joined by "+".

    The first name is a method. Each further one is one of ``ADDITIONS``, or else a whole method: ``byol+variance`` is
    BYOL with VICReg's variance term, and in ``vicreg+sigreg`` SIGReg's Gaussian term joins those of VICReg.

    Args:
        name: Such as ``vicreg`` or ``byol+variance+covariance``.
        settings: Arguments of ``vicreg``. The other methods keep their published defaults.

    Returns:
        The objective.

    Raises:
        ValueError: There is no such method or term, a term is named twice, or a setting is not at its default where
            ``vicreg`` is not named.

    Example:
        >>> list(objective_of("byol+variance")), list(objective_of("vicreg+sigreg"))
        (['prediction', 'variance'], ['invariance', 'variance', 'covariance', 'sigreg'])
        >>> objective_of("vicrge")
        Traceback (most recent call last):
        ValueError: objective must be one of ...; got 'vicrge'. Did you mean 'vicreg' or ...?
    """
    first, *others = [part.strip() for part in str(name).split("+")]
    _check_known("objective", first, OBJECTIVES, name)
    for other in others:
        _check_known("what an objective is joined with", other, ADDITIONS | OBJECTIVES, name)
    _check_settings([first, *others], settings, name)
    made = [_method(first, settings)]
    made += [ADDITIONS[other]() if other in ADDITIONS else _method(other, settings) for other in others]
    every = [term for part in made for term in part]
    twice = list(dict.fromkeys(term for term in every if every.count(term) > 1))
    require(not twice, "objective", "have each term once", f"{listed(twice)} twice in {shown(name)}")
    return Objective({term: part[term] for part in made for term in part})


def _method(name: str, settings: dict[str, Any]) -> Objective:
    return vicreg(**settings) if name == "vicreg" else OBJECTIVES[name]()


def _check_known(what: str, part: str, choices: dict[str, Callable[..., Objective]], name: str) -> None:
    if part not in choices:
        near = difflib.get_close_matches(part.lower(), choices, n=2, cutoff=0.5)
        fix = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
        got = shown(part) if part == name else f"{shown(part)} in {shown(name)}"
        raise ValueError(message(what, f"be one of {listed(sorted(choices), 20)}", got, fix))


def _check_settings(parts: list[str], settings: dict[str, Any], name: str) -> None:
    """What only VICReg has is left alone where another method is asked for: nobody's setting is without effect."""
    if "vicreg" not in parts:
        for setting, parameter in inspect.signature(vicreg).parameters.items():
            same = settings.get(setting, parameter.default) == parameter.default
            rule = f"be left at {parameter.default} with objective {shown(name)}"
            require(same, setting, rule, settings.get(setting), "Only vicreg has it.")

"""Branches that differ, as settings name them: ``ENCODER`` or ``ENCODER/EXPANDER`` for each view."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vicreg._checks import check_integer, message, require, shown

NONE = "none"
"""In place of an expander's widths: the loss then acts on the representation."""
LINEAR = "linear"
"""In place of the widths of a table's hidden layers, where there are none."""

FORM = re.compile(r"(?P<encoder>.+?)(/(?P<expander>none|\d+(-\d+)*))?")


@dataclass(frozen=True)
class BranchForm:
    """What a branch is to be.

    Attributes:
        encoder: The encoder's name, in the terms of its kind of data; for tables widths of hidden layers.
        expander: Widths of the expander's layers; None where the settings' own serve, and none where it is left out.
    """

    encoder: str
    expander: tuple[int, ...] | None = None


def branch_forms(branches: str | Sequence[str]) -> tuple[BranchForm, ...]:
    """What branches are to be, read from ``ENCODER[/EXPANDER]``.

    An expander is the widths of its layers with dashes, or ``none``.

    Args:
        branches: One text for each branch; texts with commas name several.

    Raises:
        ValueError: A branch is not of that form, or a width is 0.

    Example:
        >>> branch_forms(["resnet18/512-512,vit_tiny"])
        (BranchForm(encoder='resnet18', expander=(512, 512)), BranchForm(encoder='vit_tiny', expander=None))
    """
    texts = ",".join([branches] if isinstance(branches, str) else branches).split(",")
    return tuple(_form(text.strip()) for text in texts)


def _form(text: str) -> BranchForm:
    found = FORM.fullmatch(text)
    fix = "As in resnet18/512-512: the expander's widths with dashes, or none."
    if found is None or ("/" in found["encoder"] and not found["encoder"].startswith("timm:")):
        raise ValueError(message("each branch", "be of the form ENCODER or ENCODER/EXPANDER", shown(text), fix))
    expander = found["expander"]
    return BranchForm(found["encoder"], None if expander is None else _widths("expander", expander, NONE))


def hidden_widths(encoder: str) -> tuple[int, ...]:
    """Widths of the hidden layers of a table's encoder: with dashes, or ``linear``.

    Raises:
        ValueError: It is neither.

    Example:
        >>> hidden_widths("128-64"), hidden_widths("linear")
        ((128, 64), ())
    """
    known = encoder == LINEAR or re.fullmatch(r"\d+(-\d+)*", encoder) is not None
    require(known, "each branch's encoder", f"be widths with dashes, as 128-128, or {LINEAR}", shown(encoder))
    return _widths("encoder", encoder, LINEAR)


def _widths(of: str, text: str, nothing: str) -> tuple[int, ...]:
    widths = () if text == nothing else tuple(int(one) for one in text.split("-"))
    for width in widths:
        check_integer(f"each width in {of}", width, 1)
    return widths


def in_dashes(widths: Sequence[int]) -> str:
    """Widths of hidden layers as a branch names them.

    Example:
        >>> in_dashes((128, 64)), in_dashes(())
        ('128-64', 'linear')
    """
    return "-".join(map(str, widths)) or LINEAR


def forms_of_views(branches: str | Sequence[str], shared: bool, encoder: str) -> tuple[BranchForm, ...]:
    """The form of the one branch that both views share, or of a branch for each of two views.

    Args:
        branches: As in :func:`branch_forms`, two of them; or none.
        shared: Whether branches of one form are one branch.
        encoder: The encoder where no branches are named.

    Raises:
        ValueError: The branches are neither none nor two, or not of their form.

    Example:
        >>> forms_of_views((), True, "resnet18")
        (BranchForm(encoder='resnet18', expander=None),)
        >>> len(forms_of_views(("resnet18", "resnet18"), True, "")), len(forms_of_views(("a", "b"), True, ""))
        (1, 2)
    """
    forms = branch_forms(branches) if branches else (BranchForm(encoder),) * 2
    require(len(forms) == 2, "branches", "be two, one for each view", len(forms), "As in A,B.")
    return forms[:1] if shared and forms[0] == forms[1] else forms


def expander_layers(
    forms: Sequence[BranchForm], widths: Sequence[int], usual: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Widths of each branch's representation and of its expander's layers.

    Args:
        forms: Of the branches.
        widths: Of their representations.
        usual: The expander's layers where a form names none.

    Raises:
        ValueError: The embeddings of branches that are named differ in width, so that no loss can compare them.

    Example:
        >>> expander_layers(branch_forms("a/64-32,b"), (512, 192), (32,))
        [(512, 64, 32), (192, 32)]
    """
    layers = [
        (width, *(usual if form.expander is None else form.expander)) for form, width in zip(forms, widths, strict=True)
    ]
    last = [each[-1] for each in layers]
    fix = "The last widths of the expanders are theirs: name both, as in A/512-256,B/1024-256."
    require(len(set(last)) == 1, "branches", "give embeddings of one width", last, fix)
    return layers


def copies(encoders: Sequence[nn.Module], branches: Sequence[str], shared: bool) -> list[nn.Module]:
    """A copy of an encoder for each branch where encoders are given as modules; none where they are not.

    Args:
        encoders: None, one, or with separate branches one for each.
        branches: The branches that the settings name, which modules leave no room for.
        shared: Whether there is one branch.

    Raises:
        ValueError: They do not suit the branches.

    Example:
        >>> len(copies([nn.Linear(2, 2)], (), shared=False))
        2
    """
    count = 1 if shared else 2
    got = f"{len(encoders)} modules with shared={shared}"
    require(len(encoders) in (0, 1, count), "encoder", "be one module, or two with shared=False", got)
    require(not (encoders and branches), "branches", "be left out where encoders are given as modules", shown(branches))
    return [copy.deepcopy(encoders[index % len(encoders)]).cpu() for index in range(count) if encoders]

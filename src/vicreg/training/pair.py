"""From two sources that show the same things, and settings, to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from vicreg._checks import require
from vicreg.data import Corrupt
from vicreg.functional import canonical_axes
from vicreg.networks import JointEmbedding, TableEncoder, default_expander, output_width
from vicreg.objectives import Objective, reconstruction
from vicreg.training.branches import BranchForm, expander_layers
from vicreg.training.collection import threads
from vicreg.training.engine import Callback, Machine, Optimisation, State, start, train
from vicreg.training.feed import Drawn, Feed, Order, full_batches
from vicreg.training.heads import joined
from vicreg.training.pair_config import PairConfig
from vicreg.training.preparing import channels_last_is_safe
from vicreg.training.sides import Side, TableSide, check_lengths, order_of, together

RIDGE = 0.1
"""Of the canonical correlation analysis that linear paths start at: found on mfeat (docs/experiments.md)."""
TABLE_EXPANDER = (256, 256)


class Zipped:
    """Two feeds of one view each as one: row k of the one view belongs to row k of the other.

    Args:
        left: The left side's feed.
        right: The right side's, over the same order of rows.
    """

    def __init__(self, left: Feed, right: Feed) -> None:
        self.left = left
        self.right = right

    def draw(self, step: int) -> Drawn:
        """One view of each side."""
        left, right = self.left.draw(step), self.right.draw(step)
        rows = [one.x for one in (left, right) if isinstance(one.x, Tensor)]
        return Drawn([left.views[0], right.views[0]], rows)

    def position(self) -> dict[str, Any]:
        """Where both stand."""
        return {"left": self.left.position(), "right": self.right.position()}

    def seek(self, position: dict[str, Any]) -> None:
        """Go to where both stood."""
        self.left.seek(position["left"])
        self.right.seek(position["right"])

    def close(self) -> None:
        """Close both."""
        self.left.close()
        self.right.close()


@dataclass(frozen=True, eq=False)
class PairRun:
    """A run ready to go: its state, and what :func:`vicreg.training.engine.train` needs beside it.

    Attributes:
        state: At its start; the left side's branch is the first.
        feed: A view of each side by step.
        objective: Total and terms.
        how: How to step.
        place: The machine.
        epoch: Steps in an epoch.
        ledgers: Of each side: counts what cannot be read. Both members of such a pair were left out.
        count: Pairs that are learnt from.
        notes: What a user should know of the start.
    """

    state: State
    feed: Feed
    objective: Objective
    how: Optimisation
    place: Machine
    epoch: int
    ledgers: tuple[Corrupt, Corrupt]
    count: int
    notes: tuple[str, ...] = ()

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""
        return train(self.state, self.feed, self.objective, self.how, self.place, callbacks)


def pair_run(config: PairConfig, left: Side, right: Side, place: Machine) -> PairRun:
    """Prepare a run on pairs: networks and their start, objective, feed.

    Args:
        config: The settings.
        left: One side.
        right: The other; its row k belongs to the left side's row k.
        place: The machine.

    Raises:
        ValueError: Sides of different length, fewer than two pairs, a setting out of its range, or embeddings that
            differ in width.

    Example:
        >>> import numpy as np
        >>> from vicreg.data import as_frame
        >>> from vicreg.training.engine import machine
        >>> from vicreg.training.sides import table_side
        >>> rng = np.random.default_rng(0)
        >>> left, right = (table_side(as_frame(rng.normal(size=(40, p)))) for p in (5, 3))
        >>> run = pair_run(PairConfig(n_components=2, steps=5, device="cpu"), left, right, machine("cpu"))
        >>> [branch.encoder.settings["n_features"] for branch in run.train().model.branches]
        [5, 3]
    """
    config.check()
    check_lengths((left, right))
    ledgers = Corrupt(config.max_corrupt, of=len(left)), Corrupt(config.max_corrupt, of=len(right))
    model = joint_embedding(config, (left, right))  # before anything is decoded: what is wrong is soon said
    left, right = together((left, right), place, ledgers, config.workers)
    order = Order(full_batches(len(left), config.batch_size), len(left), config.seed)
    steps = config.steps_for(len(left), (left.kind, right.kind))
    feed = Zipped(
        left.feed(order_of(order, 0), steps, place, threads(config.workers)),
        right.feed(order_of(order, 1), steps, place, threads(config.workers)),
    )
    how = Optimisation(
        steps,
        config.learning_rate,
        config.weight_decay,
        config.seed,
        accumulate=config.accumulate,
        channels_last=channels_last_is_safe(model),
    )
    state = start(model, place, how)
    said, notes = objective(config, (left, right)), narrower_in_words(config.n_components, (left, right))
    return PairRun(state, feed, said, how, place, order.batches, ledgers, len(left), notes)


def narrower_in_words(asked: int, sides: Sequence[Side]) -> tuple[str, ...]:
    """A note, if a table has fewer features than the components that are asked for.

    Args:
        asked: How many.
        sides: Left and right.
    """
    own = {name: side.features for name, side in zip(("left", "right"), sides, strict=True)}
    counts = [count for count in own.values() if count is not None]
    if not counts or min(counts) >= asked:
        return ()
    name = next(name for name, count in own.items() if count == min(counts))
    features = "1 feature" if min(counts) == 1 else f"{min(counts)} features"
    return (f"An embedding has {min(counts)} of the {asked} --n-components: the {name} side has {features}.",)


def joint_embedding(config: PairConfig, sides: Sequence[Side]) -> JointEmbedding:
    """A branch for each side, drawn from the seed.

    Args:
        config: The settings.
        sides: Left and right.
    """
    generator = Generator().manual_seed(config.seed)
    aligned = config.aligns([side.kind for side in sides])
    forms: Sequence[BranchForm | None] = config.forms() or (None, None)
    width = min([config.n_components, *(side.features for side in sides if side.features is not None)])
    made = [side.encoder(width, config, generator, aligned=aligned) for side in sides]
    if aligned:
        _start_together(sides, made, width, generator)
    widths = [output_width(encoder, side.sample()) for encoder, side in zip(made, sides, strict=True)]
    layers: list[tuple[int, ...]] = [(width,) for width in widths]
    if aligned:
        named = [form for form in forms if form is not None and form.expander]
        rule, fix = "name no expander where sides are aligned", "Leave it out, or align them not (aligned=False)."
        require(not named and not config.expander, "branches", rule, named or config.expander, fix)
    else:
        usual = config.expander if config.expander is not None else _usual(sides, widths)
        layers = expander_layers([form or BranchForm("") for form in forms], widths, usual)
    decoders: list[nn.Module | None] = []
    if config.reconstructs([side.kind for side in sides]):
        decoders = [side.decoder(each, config.decoder, generator) for side, each in zip(sides, widths, strict=True)]
    return joined(made, layers, config.named().needs, generator, decoders=decoders)


def objective(config: PairConfig, sides: Sequence[Side]) -> Objective:
    """The objective that the settings name, with the reconstruction where there is one.

    Args:
        config: The settings.
        sides: Left and right.
    """
    weight = config.reconstructs([side.kind for side in sides])
    if not weight:
        return config.named()
    weights = []
    for side in sides:
        if isinstance(side, TableSide):  # of a column's whole error, whichever features it has become
            features = side.spec.sources
            weights.append(weight * len(features) / len(np.unique(features)))
    return config.named() | reconstruction(weights)


def _usual(sides: Sequence[Side], widths: Sequence[int]) -> tuple[int, ...]:
    tables = all(side.kind == "table" for side in sides)
    return TABLE_EXPANDER if tables else default_expander(max(widths))


def _start_together(sides: Sequence[Side], encoders: Sequence[object], width: int, generator: Generator) -> None:
    """Let the linear paths of two tables start at what linear maps find to be common to both."""
    a, b = sides
    left, right = encoders
    if not (isinstance(a, TableSide) and isinstance(b, TableSide)):
        return
    if isinstance(left, TableEncoder) and isinstance(right, TableEncoder) and left.linear is not None:
        axes = canonical_axes(a.x, b.x, width, RIDGE)
        for encoder, found in ((left, axes.left), (right, axes.right)):
            projection, offset = (torch.from_numpy(one).float() for one in found)
            encoder.start_at(projection, offset, generator)

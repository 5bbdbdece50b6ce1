"""From a vectorised table and its settings to a trained run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg._checks import require
from vicreg.functional import principal_axes
from vicreg.networks import Branch, JointEmbedding, TableDecoder, TableEncoder, drawn, expander, perceptron
from vicreg.objectives import Objective, anchor, reconstruction
from vicreg.training.branches import copies, expander_layers, hidden_widths
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback, Machine, Optimisation, State, machine, start, train
from vicreg.training.feed import Order, Resident, every_row, full_batches
from vicreg.training.heads import predictors
from vicreg.training.momentum import rising, steady
from vicreg.training.optim import constant, one_cycle
from vicreg.views import Pair, Table, distinct_neighbors


@dataclass(frozen=True, eq=False)
class TableRun:
    """A run ready to go: its state, and what :func:`vicreg.training.engine.train` needs beside it."""

    state: State
    feed: Resident
    objective: Objective
    how: Optimisation
    place: Machine

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""
        return train(self.state, self.feed, self.objective, self.how, self.place, callbacks)


def table_run(
    config: TableConfig,
    x: NDArray[np.float32],
    sources: NDArray[np.int64],
    views: Pair,
    encoders: Sequence[nn.Module] = (),
    chosen: Objective | None = None,
) -> TableRun:
    """Prepare a run: neighbours, networks and their start, objective.

    Args:
        config: The settings.
        x: (n, p) vectorised rows.
        sources: (p,) index of each feature's source column.
        views: Two views of a row.
        encoders: In place of the configured one: one, of which every branch gets a copy, or one for each branch.
        chosen: In place of the configured objective.

    Raises:
        ValueError: Fewer than two rows, a setting out of its range, or encoders that do not suit the branches.

    Example:
        >>> from vicreg.views import table_views
        >>> x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        >>> config = TableConfig(n_components=2, steps=5, device="cpu")
        >>> state = table_run(config, x, np.arange(3), table_views("marginal")).train()
        >>> state.model.encoder(torch.from_numpy(x)).shape
        torch.Size([40, 2])
    """
    config.check()
    require(len(x) >= 2, "X", "hold at least 2 rows to learn from", f"n_samples = {len(x)}")
    place = machine(config.device, precision=config.precision)
    how = optimisation(config, config.steps_for(len(x)))
    order = Order(full_batches(len(x), config.batch_size), len(x), config.seed, place.device)
    feed = Resident(resident(x, sources, views, place.device).batch, views, order, config.seed)
    state = start(joint_embedding(config, x, encoders, chosen), place, how)
    return TableRun(state, feed, objective(config, sources, state.model) if chosen is None else chosen, how, place)


def one_pass(
    state: State,
    config: TableConfig,
    x: NDArray[np.float32],
    sources: NDArray[np.int64],
    views: Pair,
    chosen: Objective | None = None,
) -> TableRun:
    """Prepare one pass over every row of a part of a stream, at a constant learning rate, with a run begun before.

    Args:
        state: The run; its last step is moved on.
        config: The settings, as when it was begun.
        x: (n, p) the part's vectorised rows.
        sources: (p,) index of each feature's source column.
        views: Two views of a row that need no neighbours.
        chosen: In place of the configured objective.
    """
    require(len(x) >= 2, "X", "hold at least 2 rows to learn from", f"n_samples = {len(x)}")
    place = machine(config.device, precision=config.precision)
    order = Order(every_row(len(x), config.batch_size), len(x), config.seed, place.device, begun=state.step)
    feed = Resident(resident(x, sources, views, place.device).batch, views, order, config.seed)
    state.steps = state.step + order.batches
    chosen = objective(config, sources, state.model) if chosen is None else chosen
    return TableRun(state, feed, chosen, optimisation(config, state.steps, constant), place)


def resident(x: NDArray[np.float32], sources: NDArray[np.int64], views: Pair, device: torch.device) -> Table:
    """The table on its device, with the neighbours that the views ask for."""
    k = max(view.n_neighbors for view in views)
    near = torch.from_numpy(distinct_neighbors(x, k)).to(device) if k else None
    return Table(torch.from_numpy(x).to(device), torch.from_numpy(sources).to(device), near)


def optimisation(config: TableConfig, steps: int, schedule: Callable[[int, int], float] = one_cycle) -> Optimisation:
    """The part of the settings that the loop knows."""
    rate, decay = config.learning_rate, config.weight_decay
    momentum = steady if schedule is constant else rising
    return Optimisation(steps, rate, decay, config.seed, schedule, config.accumulate, momentum=momentum)


def objective(config: TableConfig, sources: NDArray[np.int64], model: JointEmbedding) -> Objective:
    """The objective that the settings name, with the reconstruction and its anchor unless their weights are 0.

    Args:
        config: The settings.
        sources: (p,) index of each feature's source column: the weight is that of a source column's whole error.
        model: Its decoder knows what the anchor is to read out.
    """
    named = config.named()
    if model.decoder is not None:
        named = named | reconstruction(config.reconstruction * len(sources) / len(np.unique(sources)))
    if isinstance(model.decoder, TableDecoder):
        named = named | anchor(config.anchor, model.decoder.projection, model.decoder.offset)
    return named


def joint_embedding(
    config: TableConfig,
    x: NDArray[np.float32],
    encoders: Sequence[nn.Module] = (),
    chosen: Objective | None = None,
) -> JointEmbedding:
    """The networks at their start, drawn from the seed; encoders that are given keep their weights, in copies.

    Args:
        config: The settings.
        x: (n, p) vectorised rows, where a linear path finds its start.
        encoders: As in :func:`table_run`.
        chosen: As in :func:`table_run`.
    """
    generator = Generator().manual_seed(config.seed)
    forms = config.forms()
    made = copies(encoders, config.branches, config.shared)
    made = made or [_encoder(config, hidden_widths(form.encoder), x, generator) for form in forms]
    widths = [_width(encoder, x) for encoder in made]
    layers = expander_layers(forms, widths, config.expander)
    heads = [drawn(partial(expander, width, rest), generator) for width, *rest in layers]
    branches = [Branch(encoder, head) for encoder, head in zip(made, heads, strict=True)]
    needs = chosen.needs if chosen else config.named().needs | ({"decoder"} if config.reconstruction else set())
    fix = "Pictures have feature maps."
    require("maps" not in needs, "objective", "need no feature maps on a table", sorted(needs), fix)
    decoder = None
    if "decoder" in needs:
        fix = "Set reconstruction=0 (--reconstruction 0), or give encoders of one width."
        what, be = ("branches", "give representations") if config.branches else ("encoder", "be modules")
        require(len(set(widths)) == 1, what, f"{be} of one width to share a decoder", widths, fix)
        decoder = _decoder(config, x, widths[0], generator, anchored=chosen is None)
    beside = predictors(needs, layers, generator)
    return JointEmbedding(branches, decoder, predictors=beside, averaged="target" in needs)


def _decoder(
    config: TableConfig, x: NDArray[np.float32], width: int, generator: Generator, *, anchored: bool
) -> nn.Module:
    if not (anchored and config.anchor):
        return drawn(partial(perceptron, width, config.decoder, x.shape[1]), generator)
    projection, offset = map(torch.from_numpy, whitened_pca(x, width))
    decoder = drawn(lambda: TableDecoder(width, config.decoder, x.shape[1], len(projection)), generator)
    decoder.aim_at(projection, offset)
    return decoder


def _encoder(
    config: TableConfig, hidden: tuple[int, ...], x: NDArray[np.float32], generator: Generator
) -> TableEncoder:
    settings = (x.shape[1], config.n_components, hidden, config.linear_path, config.encoder_norm)
    encoder = drawn(lambda: TableEncoder(*settings), generator)
    if config.linear_path:
        projection, offset = whitened_pca(x, encoder.width)
        encoder.start_at(torch.from_numpy(projection), torch.from_numpy(offset), generator)
    return encoder


def _width(encoder: nn.Module, x: NDArray[np.float32]) -> int:
    """Width of an encoder's output, found by asking it."""
    mode = encoder.training
    with torch.no_grad():
        h = encoder.eval()(torch.zeros(2, x.shape[1]))
    encoder.train(mode)
    shape = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
    flat = isinstance(h, Tensor) and h.ndim == 2 and len(h) == 2
    require(flat, "encoder", f"map rows (n, {x.shape[1]}) to representations (n, width)", f"{shape} for 2 rows")
    return int(h.shape[1])


def whitened_pca(x: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The linear map to principal components of unit variance.

    Args:
        x: (n, p) rows.
        width: Components wanted; at most those come back whose deviation is above a thousandth of the first's.

    Returns:
        Projection (m, p) and offset (m,) such that ``projection @ row + offset`` is white.

    Example:
        >>> x = np.array([[0, 1], [2, 1], [4, 1]], dtype=np.float32)
        >>> whitened_pca(x, 2)
        (array([[0.5, 0. ]], dtype=float32), array([-1.], dtype=float32))
    """
    principal = principal_axes(x)
    deviation = np.sqrt(principal.variance)
    kept = np.flatnonzero(deviation > 1e-3 * deviation.max(initial=0))[:width]
    scaled = principal.axes[kept] / deviation[kept, None]
    return scaled.astype(np.float32), (-scaled @ principal.mean).astype(np.float32)

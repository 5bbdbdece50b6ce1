"""From a vectorised table and its settings to a trained run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import nn

from vicreg._checks import check_choice, require
from vicreg.networks import Branch, JointEmbedding, TableEncoder, expander, perceptron
from vicreg.objectives import Objective, reconstruction, vicreg
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback, Optimisation, Order, State, device_of, start, train
from vicreg.training.optim import constant, one_cycle
from vicreg.views import Pair, Table, distinct_neighbors


@dataclass(frozen=True, eq=False)
class TableRun:
    """A run ready to go: its state, and what :func:`vicreg.training.engine.train` needs beside it."""

    state: State
    table: Table
    views: Pair
    objective: Objective
    how: Optimisation

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""
        return train(self.state, self.table, self.views, self.objective, self.how, callbacks)


OBJECTIVES: dict[str, Callable[[TableConfig], Objective]] = {
    "vicreg": lambda c: vicreg(c.sim_coeff, c.std_coeff, c.cov_coeff, c.variance_target),
}
"""From a name to the objective at the settings' weights."""


def table_run(
    config: TableConfig,
    x: NDArray[np.float32],
    sources: NDArray[np.int64],
    views: Pair,
    encoders: Sequence[nn.Module] = (),
) -> TableRun:
    """Prepare a run: neighbours, networks and their start, objective.

    Args:
        config: The settings.
        x: (n, p) vectorised rows.
        sources: (p,) index of each feature's source column.
        views: Two views of a row.
        encoders: In place of the configured one: one, or one per branch.

    Raises:
        ValueError: Fewer than two rows, or a setting out of its range.
    """
    config.check()
    require(len(x) >= 2, "X", "hold at least 2 rows to learn from", f"n_samples = {len(x)}")
    table = resident(x, sources, views, device_of(config.device))
    how = optimisation(config, config.steps_for(len(x)))
    return TableRun(start(joint_embedding(config, x, encoders), table, how), table, views, objective(config), how)


def one_pass(
    state: State, config: TableConfig, x: NDArray[np.float32], sources: NDArray[np.int64], views: Pair
) -> TableRun:
    """Prepare one pass over a part of a stream, at a constant learning rate, with a run begun before.

    Args:
        state: The run; its last step is moved on.
        config: The settings, as when it was begun.
        x: (n, p) the part's vectorised rows.
        sources: (p,) index of each feature's source column.
        views: Two views of a row that need no neighbours.
    """
    require(len(x) >= 2, "X", "hold at least 2 rows to learn from", f"n_samples = {len(x)}")
    table = resident(x, sources, views, state.generator.device)
    state.order = Order(len(x), config.batch_size, state.generator)
    state.steps = state.step + max(1, len(x) // config.batch_size)
    return TableRun(state, table, views, objective(config), optimisation(config, state.steps, constant))


def resident(x: NDArray[np.float32], sources: NDArray[np.int64], views: Pair, device: torch.device) -> Table:
    """The table on its device, with the neighbours that the views ask for."""
    k = max(view.n_neighbors for view in views)
    near = torch.from_numpy(distinct_neighbors(x, k)).to(device) if k else None
    return Table(torch.from_numpy(x).to(device), torch.from_numpy(sources).to(device), near)


def optimisation(config: TableConfig, steps: int, schedule: Callable[[int, int], float] = one_cycle) -> Optimisation:
    """The part of the settings that the loop knows."""
    return Optimisation(
        steps,
        config.batch_size,
        config.learning_rate,
        config.weight_decay,
        config.precision,
        config.seed,
        schedule,
    )


def objective(config: TableConfig) -> Objective:
    """The objective that the settings name, with the reconstruction term unless its weight is 0."""
    chosen = OBJECTIVES[check_choice("objective", config.objective, OBJECTIVES)](config)
    return chosen | reconstruction(config.reconstruction) if config.reconstruction else chosen


def joint_embedding(config: TableConfig, x: NDArray[np.float32], encoders: Sequence[nn.Module] = ()) -> JointEmbedding:
    """The networks at their start, drawn from the seed without touching the global generators."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        branches = [
            _branch(config, x, encoders[index % len(encoders)] if encoders else None)
            for index in range(1 if config.shared else 2)
        ]
        decoder = None
        if "decoder" in objective(config).needs:
            decoder = perceptron(_width(branches[0].encoder, x), config.decoder, x.shape[1])
    return JointEmbedding(branches, decoder)


def _branch(config: TableConfig, x: NDArray[np.float32], encoder: nn.Module | None) -> Branch:
    if encoder is None:
        encoder = TableEncoder(x.shape[1], config.n_components, config.encoder, config.linear_path)
        projection, offset = whitened_pca(x, encoder.width)
        encoder.start_at(torch.from_numpy(projection), torch.from_numpy(offset))
    return Branch(encoder, expander(_width(encoder, x), config.expander))


def _width(encoder: nn.Module, x: NDArray[np.float32]) -> int:
    """Width of an encoder's output, found by asking it."""
    mode = encoder.training
    with torch.no_grad():
        width = encoder.eval()(torch.zeros(2, x.shape[1])).shape[-1]
    encoder.train(mode)
    return int(width)


def whitened_pca(x: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The linear map to principal components of unit variance.

    Args:
        x: (n, p) rows.
        width: Components wanted; at most the rank of ``x`` come back.

    Returns:
        Projection (m, p) and offset (m,) such that ``projection @ row + offset`` is white.
    """
    pca = PCA(min(width, *x.shape), svd_solver="full" if min(x.shape) <= 64 else "auto", random_state=0)
    pca.fit(x.astype(np.float64))
    kept = pca.explained_variance_ > 1e-6 * pca.explained_variance_[0]
    scaled = pca.components_[kept] / np.sqrt(pca.explained_variance_[kept])[:, None]
    return scaled.astype(np.float32), (-scaled @ pca.mean_).astype(np.float32)

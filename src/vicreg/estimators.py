"""The scikit-learn face: estimators that own a network, and are none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from vicreg._checks import check_integer, message, require, shown
from vicreg.data import Frame, TableSpec, as_frame, fit_spec, row_hashes
from vicreg.diagnostics import CollapseWarning, Finding
from vicreg.evaluation import EmbeddingComparison
from vicreg.evaluation.baselines import first_components
from vicreg.functional import PrincipalAxes, principal_axes
from vicreg.inference import Embedder, Influence, column_influence, spread_rows
from vicreg.objectives import Objective
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.training.engine import State
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.training.progress import progress
from vicreg.training.settings import LARGEST_SEED, Precision, from_mapping
from vicreg.training.table import one_pass, table_run
from vicreg.views import TableView, table_views
from vicreg.views.table import ViewsLike

Seed = int | np.random.Generator | np.random.RandomState | None


class VICReg(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Embed the rows of a table without labels.

    Two views of each row pass through one network, whose embeddings are pulled together while every dimension keeps
    its variance and the dimensions are decorrelated (VICReg; Bardes, Ponce, LeCun, ICLR 2022). By default a view
    swaps half of a row's cells with those of a near row, and a decoder is to restore the row from its representation.

    Numbers, categories, dates, text and gaps are taken as they are (mixed tables need ``pip install 'vicreg[table]'``).

    Args:
        n_components: Width of the embedding. None: what the last hidden layer gives.
        views: ``neighbors``, ``walk``, ``marginal``, ``mask``, ``noise`` or ``identity``; a function of
            ``(batch, generator)``; or a pair of names or functions, one for each view.
        view_rate: Strength of views given by one name; None is the view's own default.
        objective: Name of the objective, ``vicreg``; or an :class:`vicreg.Objective`, taken as it is: the weights
            below belong to names.
        reconstruction: Weight of the reconstruction term, the squared error of a column; 0 is the paper's objective.
        anchor: Weight of the part of the reconstruction that a linear read-out gives, of the row's whitened principal
            components; without reconstruction there is none.
        sim_coeff: Weight of the invariance term.
        std_coeff: Weight of the variance term.
        cov_coeff: Weight of the covariance term.
        variance_target: Standard deviation below which the variance term acts.
        encoder: Widths of the hidden layers; or a module from vectorised rows (n, p) to representations (n, width), in
            whose place a copy learns (with ``shared=False`` one for each view); or with ``shared=False`` a pair of
            modules, one for each view, which must agree in width to share the reconstruction's decoder. A module has
            its own width and paths, whatever ``n_components``, ``encoder_norm`` and ``linear_path`` say, and what it
            draws itself, as dropout does, comes from PyTorch's global generator.
        encoder_norm: Whether the hidden layers have batch norm.
        linear_path: Whether a linear path, starting at whitened PCA, stands beside the hidden layers.
        expander: Widths of the expander's layers; none makes the loss act on the representation.
        decoder: Widths of the decoder's hidden layers.
        shared: Whether both views pass through one branch; otherwise the first branch's encoder is kept.
        branches: In place of ``encoder`` and ``expander`` two branches that differ, the first of which is kept: for
            each hidden widths, or hidden and expander's widths, as in ``("128-128", "64")`` or
            ``("128-128/256-256", "linear/256")``.
        steps: Optimiser steps.
        epochs: Passes over the rows, in place of steps.
        batch_size: Rows per step; all rows where there are fewer.
        accumulate: Micro-batches that a step's rows are cut into where memory is short. The loss stays that of all the
            step's rows; batch norm sees micro-batches.
        learning_rate: Highest learning rate of the one-cycle schedule.
        weight_decay: AdamW's.
        precision: Arithmetic of the networks: ``32-true``, ``bf16-mixed`` or, on a GPU, ``16-mixed``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        random_state: Seed from 0 to 2**63 - 2, or a NumPy generator to draw one from; None draws a fresh one. The
            global generators are neither used nor changed.
        verbose: Whether to show progress.

    Attributes:
        embedder_: The encoder with its preprocessing (:class:`vicreg.inference.Embedder`).
        history_: Each unweighted term and the total, by step over all fits of a stream.
        n_features_in_: Columns of the table.
        feature_names_in_: Their names, if they are named.
        baseline_: PCA of the same width on all rows seen, to compare with.
        column_influence_: How much each column has to do with the embedding (:class:`vicreg.inference.Influence`):
            shares (columns,) ``permutation`` and ``jacobian``, and ``components`` (columns, n_components). Worked out
            when it is asked for, from some 500 of the rows, which the estimator keeps for it; they are not saved.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, _ = load_wine(return_X_y=True)
        >>> VICReg(n_components=4, steps=20, random_state=0).fit_transform(X).shape
        (178, 4)
    """

    def __init__(
        self,
        n_components: int | None = 16,
        *,
        views: ViewsLike = "neighbors",
        view_rate: float | None = None,
        objective: str | Objective = "vicreg",
        reconstruction: float = 10.0,
        anchor: float = 1.0,
        sim_coeff: float = 25.0,
        std_coeff: float = 25.0,
        cov_coeff: float = 1.0,
        variance_target: float = 1.0,
        encoder: Sequence[int] | nn.Module | Sequence[nn.Module] = (128, 128),
        encoder_norm: bool = True,
        linear_path: bool = True,
        expander: Sequence[int] = (256, 256),
        decoder: Sequence[int] = (128, 128),
        shared: bool = True,
        branches: Sequence[str] = (),
        steps: int = 1200,
        epochs: int | None = None,
        batch_size: int = 256,
        accumulate: int = 1,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        precision: Precision = "32-true",
        device: str = "auto",
        random_state: Seed = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.views = views
        self.view_rate = view_rate
        self.objective = objective
        self.reconstruction = reconstruction
        self.anchor = anchor
        self.sim_coeff = sim_coeff
        self.std_coeff = std_coeff
        self.cov_coeff = cov_coeff
        self.variance_target = variance_target
        self.encoder = encoder
        self.encoder_norm = encoder_norm
        self.linear_path = linear_path
        self.expander = expander
        self.decoder = decoder
        self.shared = shared
        self.branches = branches
        self.steps = steps
        self.epochs = epochs
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn from the rows of a table.

        Args:
            X: (n, p) an array, a pandas or polars frame, or an Arrow table; n at least 2.
            y: Ignored.

        Raises:
            ValueError: No column varies, fewer than two rows, infinities, a parameter out of its range, or the
                training diverged.
            TypeError: Cells that are lists or other objects.

        Warns:
            CollapseWarning: The training failed in one of the ways that docs/diagnostics.md lists.
        """
        frame = as_frame(X)
        spec, config = fit_spec(frame), self._config()
        x = spec.apply(frame)
        run = table_run(config, x, spec.sources, self._views(), self._encoders(), self._objective())
        found: list[Finding] = []
        watching = monitored(monitor_of(run.objective, found.append), run.objective)
        with progress() if self.verbose else nullcontext() as callback:
            run.train([callback, watching] if callback else [watching])
        for finding in found:
            warnings.warn(str(finding), CollapseWarning, stacklevel=2)
        return self._keep(frame, spec, x, run.state, [row_hashes(x)], principal_axes(x), spread_rows(x))

    def partial_fit(self, X: Any, y: object = None) -> Self:
        """Go on learning from one part of a stream: one pass over all its rows, in batches.

        Neighbours cannot be searched in a stream: views that need them give way to marginal corruption, and a
        warning says so. The first part fixes columns and scales, so it should look like what follows. The learning
        rate is held constant. A part that fails leaves the estimator as it was.

        Args:
            X: (n, p) the part; n at least 2.
            y: Ignored.

        Raises:
            ValueError: As in ``fit``, or the part has other columns than the first.
        """
        frame = as_frame(X)
        begun = hasattr(self, "embedder_")
        config, views, objective = self._config(), self._views(), self._objective()
        if any(view.n_neighbors for view in views):
            views = table_views("marginal")
            if not begun:
                said = message("partial_fit", "take views without neighbors", shown(self.views), "It takes 'marginal'.")
                warnings.warn(said, UserWarning, stacklevel=2)
        if begun:
            self._check_width(frame)
        spec = self.embedder_.spec if begun else fit_spec(frame)
        x = spec.apply(frame)
        if begun:
            state = self._state.copied()
            seen, principal = [*self._seen, row_hashes(x)], self._principal + principal_axes(x)
            some = spread_rows(np.concatenate((self._some, spread_rows(x))))
        else:
            state = table_run(config, x, spec.sources, views, self._encoders(), objective).state
            seen, principal, some = [row_hashes(x)], principal_axes(x), spread_rows(x)
        one_pass(state, config, x, spec.sources, views, objective).train()
        return self._keep(frame, spec, x, state, seen, principal, some)

    @property
    def history_(self) -> dict[str, list[float]]:
        """Each unweighted term and the total, by step."""
        check_is_fitted(self, "embedder_")
        return self._state.history()

    @property
    def column_influence_(self) -> Influence:
        """How much each column has to do with the embedding."""
        check_is_fitted(self, "embedder_")
        return column_influence(self.embedder_.encoder, self.embedder_.spec, self._some)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The embedding of every row, (n, n_components); a row's does not depend on the rows beside it.

        Args:
            X: (n, p) a table with the columns of the fit: found by name, or by position in an array.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: A column is missing or of another type.
        """
        check_is_fitted(self, "embedder_")
        frame = as_frame(X)
        self._check_width(frame)
        return self.embedder_.transform(frame)

    def evaluate(self, X: Any, y: ArrayLike) -> EmbeddingComparison:
        """Judge the embedding beside the raw columns and PCA of its width, on labelled rows that the fit did not see.

        Args:
            X: (n, p) labelled rows; those that the fit saw are left out, with a warning that counts them.
            y: (n,) classes or numbers.

        Returns:
            The comparison: print it, or ask it for its ``scores`` and its ``verdict("vicreg")``.

        Raises:
            ValueError: The fit saw all rows.
        """
        check_is_fitted(self, "embedder_")
        frame, labels = as_frame(X), np.asarray(y)
        self._check_width(frame)
        x = self.embedder_.vectorise(frame)
        same_length = len(labels) == len(x)
        require(same_length, "y", f"hold a label for each of the {len(x)} rows of X", len(labels))
        new = ~np.isin(row_hashes(x), np.concatenate(self._seen))
        fix = "Hold rows out of the fit to judge on."
        require(bool(new.any()), "X", "hold rows that the fit did not see", f"{len(x)} that it saw", fix)
        if not new.all():
            warnings.warn(f"{np.sum(~new)} of {len(x)} rows were seen by the fit and are left out.", stacklevel=2)
        columns = x[new]
        representations = {
            "raw": columns,
            "pca": self.baseline_.transform(columns),
            "vicreg": self.embedder_.encode(columns),
        }
        return EmbeddingComparison(representations, labels[new])

    def save(self, folder: str | Path) -> None:
        """Write the encoder and its preprocessing, for :func:`vicreg.load`: safetensors and JSON, no training rows.

        Args:
            folder: A new folder, or one that holds such files, which are replaced.

        Raises:
            ValueError: The folder is that of a run.
            OSError: It cannot be written to.
        """
        check_is_fitted(self, "embedder_")
        fix = "Name another folder."
        require(not Run(Path(folder)).exists(), repr(str(folder)), "not be the folder of a run", "one", fix)
        self.embedder_.save(folder)

    def _config(self) -> TableConfig:
        """The plain parameters as settings of a run; what is given as an object goes beside them."""
        beside = {"encoder"} if self._encoders() else set()
        beside |= set() if isinstance(self.views, str) else {"views", "view_rate"}
        beside |= {"objective"} if isinstance(self.objective, Objective) else set()
        given = self.get_params(deep=False)
        plain = {name: plain_value(value) for name, value in given.items() if name in NAMES - beside}
        return from_mapping(plain | {"seed": seed_of(self.random_state)}, TableConfig)

    def _views(self) -> tuple[TableView, TableView]:
        return table_views(self.views, self.view_rate)

    def _objective(self) -> Objective | None:
        return self.objective if isinstance(self.objective, Objective) else None

    def _encoders(self) -> tuple[nn.Module, ...]:
        """The modules given as encoders; none where widths are."""
        several = self.encoder if isinstance(self.encoder, list | tuple) else (self.encoder,)
        modules = tuple(one for one in several if isinstance(one, nn.Module))
        return modules if len(modules) == len(several) else ()

    def _keep(
        self,
        frame: Frame,
        spec: TableSpec,
        x: NDArray[np.float32],
        state: State,
        seen: list[NDArray[np.uint64]],
        principal: PrincipalAxes,
        some: NDArray[np.float32],
    ) -> Self:
        self.embedder_ = Embedder(state.model.encoder.eval(), spec)
        self.n_features_in_ = len(frame.names)
        if frame.named:
            self.feature_names_in_ = np.asarray(frame.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._n_features_out = self.embedder_.encode(x[:1]).shape[1]
        self.baseline_ = first_components(principal, self._n_features_out)
        self._state, self._seen, self._principal, self._some = state, seen, principal, some
        return self

    def _check_width(self, frame: Frame) -> None:
        """Columns found by position must be as many as the fit's; named ones are checked by name."""
        named = frame.named and hasattr(self, "feature_names_in_")
        require(
            named or len(frame.names) == self.n_features_in_,
            "X",
            "have the columns of the fit",
            f"X has {len(frame.names)} features, but VICReg is expecting {self.n_features_in_} features as input",
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.non_deterministic = self.random_state is None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


NAMES = {field.name for field in fields(TableConfig)}


def plain_value(value: object) -> object:
    """NumPy's numbers as Python's: grid searches pass them."""
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_value(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def seed_of(random_state: Seed) -> int:
    """A seed from what scikit-learn's users pass, without touching NumPy's global generator."""
    if random_state is None:
        random_state = np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return check_integer("random_state", random_state, 0, LARGEST_SEED)

"""The scikit-learn face of pairs: two tables of the same rows, after the conventions of its cross decompositions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, MultiOutputMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from vicreg._checks import message, require, shown
from vicreg.data import Frame, TableSpec, as_frame
from vicreg.diagnostics import CollapseWarning, Finding
from vicreg.estimators import Seed, plain_value, seed_of
from vicreg.evaluation import retrieval
from vicreg.inference import Embedder, PairEmbedder
from vicreg.inference.pair import check_sides
from vicreg.runs import Run
from vicreg.training.branches import in_dashes
from vicreg.training.engine import machine
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.training.pair import pair_run
from vicreg.training.pair_config import PairConfig
from vicreg.training.progress import progress
from vicreg.training.settings import Precision, from_mapping
from vicreg.training.sides import table_side
from vicreg.views import table_views
from vicreg.views.table import ViewsLike

Widths = Sequence[int] | Sequence[Sequence[int]]


class PairedVICReg(ClassNamePrefixFeaturesOutMixin, TransformerMixin, MultiOutputMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Embed two tables of the same rows, each by a network of its own, so that they show what they have in common.

    Each side's row passes through its own network; the two embeddings of a row are pulled together while every
    dimension keeps its variance and the dimensions are decorrelated (VICReg; Bardes, Ponce, LeCun, ICLR 2022). It is
    what :class:`sklearn.cross_decomposition.CCA` does with linear maps, where it starts.

    Aligned, the loss acts on what is returned: the two sides' embeddings can be compared, to find a row's partner on
    the other side. With ``aligned=False`` it acts on expanders of it, which are thrown away: each side's embedding
    keeps more of its own and serves predictions better, but the two can no longer be compared.

    Numbers, categories, dates, text and gaps are taken as they are (mixed tables need ``pip install 'vicreg[table]'``).

    Args:
        n_components: Width of the embeddings; both have fewer where a side has fewer features (a number is one, a
            category has several).
        aligned: Whether the two sides' embeddings are to be comparable.
        sim_coeff: Weight of the invariance term.
        std_coeff: Weight of the variance term; or one for each side, as ``(25, 10)``.
        cov_coeff: Weight of the covariance term; or one for each side.
        variance_target: Standard deviation below which the variance term acts.
        views: What each side's network sees of a row: ``identity``, ``marginal``, ``mask``, ``noise``, ``neighbors``
            or ``walk``, or a function of ``(batch, generator)``; or a pair of these, one for each side.
        encoder: Widths of the hidden layers; or a pair of such, one for each side.
        linear_path: Whether a linear path stands beside the hidden layers. It starts at canonical correlation analysis
            with a ridge, and with ``aligned=False`` at whitened PCA.
        dropout: Share of the hidden layers' outputs that training leaves out at random, from 0 to below 1.
        expander: Widths of the expanders' layers, used with ``aligned=False``.
        reconstruction: Weight of the reconstruction term, the squared error of a column told from its side's
            embedding, so that this keeps what the other side lacks; 0 is the paper's objective. None: 0 where sides are
            aligned, and 30 otherwise.
        decoder: Widths of the decoders' hidden layers.
        steps: Optimiser steps.
        batch_size: Pairs per step; all pairs where there are fewer.
        learning_rate: Highest learning rate of the one-cycle schedule.
        weight_decay: AdamW's.
        precision: Arithmetic of the networks: ``32-true``, ``bf16-mixed`` or, on a GPU, ``16-mixed``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        random_state: Seed from 0 to 2**63 - 2, or a NumPy generator to draw one from; None draws a fresh one. The
            global generators are neither used nor changed.
        verbose: Whether to show progress.

    Attributes:
        embedder_: Both encoders with their preprocessing (:class:`vicreg.PairEmbedder`).
        history_: Each unweighted term and the total, by step.
        n_features_in_: Columns of the first table.
        feature_names_in_: Their names, if they are named.

    Example:
        >>> from sklearn.datasets import load_linnerud
        >>> X, y = load_linnerud(return_X_y=True)
        >>> X_c, y_c = PairedVICReg(n_components=2, steps=20, random_state=0).fit(X, y).transform(X, y)
        >>> X_c.shape, y_c.shape
        ((20, 2), (20, 2))
    """

    def __init__(
        self,
        n_components: int = 16,
        *,
        aligned: bool = True,
        sim_coeff: float = 25.0,
        std_coeff: float | Sequence[float] = 25.0,
        cov_coeff: float | Sequence[float] = 1.0,
        variance_target: float = 1.0,
        views: ViewsLike = "identity",
        encoder: Widths = (256, 256),
        linear_path: bool = True,
        dropout: float = 0.2,
        expander: Sequence[int] = (256, 256),
        reconstruction: float | None = None,
        decoder: Sequence[int] = (128, 128),
        steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        precision: Precision = "32-true",
        device: str = "auto",
        random_state: Seed = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.aligned = aligned
        self.sim_coeff = sim_coeff
        self.std_coeff = std_coeff
        self.cov_coeff = cov_coeff
        self.variance_target = variance_target
        self.views = views
        self.encoder = encoder
        self.linear_path = linear_path
        self.dropout = dropout
        self.expander = expander
        self.reconstruction = reconstruction
        self.decoder = decoder
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from two tables of the same rows.

        Args:
            X: (n, p) an array, a pandas or polars frame, or an Arrow table; n at least 2.
            y: (n, q) the same of the other side; (n,) is one column. Row k belongs to row k of ``X``.

        Raises:
            ValueError: The sides have different numbers of rows, no column of a side varies, infinities, a parameter
                out of its range, or the training diverged.
            TypeError: Cells that are lists or other objects.

        Warns:
            CollapseWarning: The training failed in one of the ways that docs/diagnostics.md lists.
            UserWarning: Two data frames have the same index labels in another order.
        """
        if _shuffled(X, y):
            said = "X and y have the same index labels in another order, and rows are paired by their position"
            warnings.warn(f"{said}. To pair them by label: fit(X, y.loc[X.index]).", UserWarning, stacklevel=2)
        left, right = as_frame(X), _side_b(y)
        got = f"{left.n_rows} and {right.n_rows}"
        require(left.n_rows == right.n_rows, "X and y", "have the same number of rows", got)
        config, views = self._config(), table_views(self.views)
        side_a, side_b = (
            table_side(frame, form, view)
            for frame, form, view in zip((left, right), config.forms(), views, strict=True)
        )
        run = pair_run(config, side_a, side_b, machine(config.device, precision=config.precision))
        found: list[Finding] = []
        watching = monitored(monitor_of(run.objective, found.append), run.objective)
        with progress() if self.verbose else nullcontext() as callback:
            state = run.train([callback, watching] if callback else [watching])
        for finding in found:
            warnings.warn(str(finding), CollapseWarning, stacklevel=2)
        self.history_ = state.history()
        a, b = (
            Embedder(encoder.eval(), side.spec)
            for encoder, side in zip(state.model.encoders, (side_a, side_b), strict=True)
        )
        return self._keep(PairEmbedder(a, b, bool(self.aligned)), left, right)

    def transform(self, X: Any, y: Any = None, *, side: str = "a") -> Any:
        """The embedding of every row of one side or of both.

        Args:
            X: (n, p) a table with the columns of the fit's ``X``, found by name, or by position in an array; or with
                ``side="b"`` one with those of the fit's ``y``.
            y: (m, q) a table with those of the fit's ``y``, to embed both; the rows need not belong to those of ``X``.
            side: Which side ``X`` is of, where it is alone: ``a``, the fit's ``X``, or ``b``, its ``y``.

        Returns:
            (n, n_components) float32; with ``y`` the pair of it and (m, n_components).

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: A column is missing or of another type, or there is no such side.
            TypeError: ``y`` is no table.
        """
        check_is_fitted(self, "embedder_")
        check_sides(y, side)
        if side == "b":
            return self._embedded_b(X, "X")
        frame = as_frame(X)
        self._check_width("X", frame, self.embedder_.a.spec, self.n_features_in_)
        h = self.embedder_.embedded(frame, "a")
        return h if y is None else (h, self._embedded_b(y, "y"))

    def _embedded_b(self, y: Any, what: str) -> NDArray[np.float32]:
        frame = _side_b(y)
        self._check_width(what, frame, self.embedder_.b.spec, self._n_features_y)
        h: NDArray[np.float32] = self.embedder_.embedded(frame, "b")
        return h

    def fit_transform(self, X: Any, y: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Learn from two tables of the same rows and embed both, as scikit-learn's cross decompositions do.

        Returns:
            The pair that ``fit(X, y).transform(X, y)`` gives.
        """
        both: tuple[NDArray[np.float32], NDArray[np.float32]] = self.fit(X, y).transform(X, y)
        return both

    def score(self, X: Any, y: Any) -> float:
        """Recall@1 of retrieval between the sides: the share of rows whose partner is the nearest of all.

        It is the mean of both directions, by Euclidean distance between the embeddings, with ties counted fairly
        (:func:`vicreg.evaluation.retrieval`); chance is 1 / n, so that figures on different numbers of rows do not
        compare. With ``aligned=False`` embeddings are not comparable, and it is near chance.

        Args:
            X: (n, p) rows, best ones that the fit did not see.
            y: (n, q) their partners, in the same order.

        Raises:
            NotFittedError: Before ``fit``.
            ValueError: The sides have different numbers of rows.
        """
        a, b = self.transform(X, y)
        require(len(a) == len(b), "X and y", "have the same number of rows", f"{len(a)} and {len(b)}")
        return retrieval(a, b, depths=(1,)).recall[1]

    def save(self, folder: str | Path) -> None:
        """Write both encoders and their preprocessing, for :func:`vicreg.load`: no training rows.

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

    def _config(self) -> PairConfig:
        """The plain parameters as settings of a run."""
        aligned = plain_value(self.aligned)
        require(isinstance(aligned, bool), "aligned", "be True or False", shown(aligned))
        own = ("encoder", "views", "random_state", "verbose")
        given = {name: plain_value(value) for name, value in self.get_params(deep=False).items() if name not in own}
        for name in ("std_coeff", "cov_coeff"):
            given[name] = given[name] if isinstance(given[name], list) else [given[name]]
        given["expander"] = None if self.aligned else given["expander"]
        branches = [in_dashes(widths) for widths in _both(plain_value(self.encoder))]
        return from_mapping(given | {"branches": branches, "seed": seed_of(self.random_state)}, PairConfig)

    def _keep(self, embedder: PairEmbedder, left: Frame, right: Frame) -> Self:
        self.embedder_ = embedder
        self.n_features_in_, self._n_features_y = len(left.names), len(right.names)
        if left.named:
            self.feature_names_in_ = np.asarray(left.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self._n_features_out = embedder.a.width
        return self

    def _check_width(self, what: str, frame: Frame, spec: TableSpec, count: int) -> None:
        """Columns found by position must be as many as the fit's; named ones are checked by name."""
        require(
            (frame.named and spec.named) or len(frame.names) == count,
            what,
            "have the columns of the fit",
            f"{what} has {len(frame.names)} features, but PairedVICReg is expecting {count} features as input",
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.non_deterministic = self.random_state is None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _side_b(y: Any) -> Frame:
    """The other side as a table; one dimension is one column."""
    if y is None:
        said = "requires y to be passed, but the target y is None"
        raise ValueError(message("y", "be the other side's table", None, f"PairedVICReg {said}."))
    shape = getattr(y, "shape", None)
    if hasattr(y, "to_frame") and shape is not None and len(shape) == 1:  # a series
        return as_frame(y.to_frame())
    rows = isinstance(y, list | tuple) and len(y) > 0 and np.ndim(y[0]) > 0
    if rows or hasattr(y, "__arrow_c_stream__") or hasattr(y, "iloc"):
        return as_frame(y)
    array = np.asarray(y)
    return as_frame(array.reshape(-1, 1) if array.ndim == 1 else array)


def _shuffled(X: Any, y: Any) -> bool:
    """Whether two pandas frames have the same index labels in another order."""
    ours, theirs = (one.index if hasattr(one, "iloc") else None for one in (X, y))
    if ours is None or theirs is None or len(ours) != len(theirs) or ours.equals(theirs):
        return False
    return bool(ours.is_unique and theirs.is_unique and ours.isin(theirs).all())


def _both(encoder: Any) -> Sequence[Sequence[int]]:
    """Widths for each side."""
    pair = isinstance(encoder, list) and len(encoder) == 2 and all(isinstance(one, list) for one in encoder)
    single = isinstance(encoder, list) and all(type(one) is int for one in encoder)
    rule = "be the widths of the hidden layers, or a pair of such"
    require(pair or single, "encoder", rule, encoder)
    return encoder if pair else (encoder, encoder)

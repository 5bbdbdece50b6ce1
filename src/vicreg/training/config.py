"""Settings of a run: frozen dataclasses, and their YAML."""

from __future__ import annotations

import re
import typing
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from vicreg._checks import check_choice, check_integer, check_number, listed, message, require, shown
from vicreg.objectives import OBJECTIVES
from vicreg.views import table_views

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

LARGEST_SEED = 2**63 - 2
"""PyTorch's generators take one more; the seed after a run's own serves a second run."""


@dataclass(frozen=True)
class TableConfig:
    """How a table is learnt from.

    The defaults were chosen on 22 development tables (docs/experiments.md) and serve every table.

    Attributes:
        n_components: Width of the representation, the numbers per row one gets.
        views: Name of the views: neighbors, walk, marginal, mask, noise or identity.
        view_rate: Strength of the views (share of cells replaced, deviation of the noise, length of the walk; identity
            has none); the view's own default when left out.
        objective: Name of the objective.
        reconstruction: Weight of the reconstruction term, the squared error of a column; 0 is the paper's objective.
        anchor: Weight of the part of the reconstruction that a linear read-out gives, of the row's whitened principal
            components; without reconstruction there is none.
        sim_coeff: Weight of the invariance term, lambda in the paper.
        std_coeff: Weight of the variance term, mu in the paper.
        cov_coeff: Weight of the covariance term, nu in the paper.
        variance_target: Standard deviation below which the variance term acts, gamma in the paper.
        encoder: Widths of the encoder's hidden layers.
        encoder_norm: Whether the encoder's hidden layers have batch norm.
        linear_path: Whether a linear path that starts at whitened PCA stands beside the hidden layers.
        expander: Widths of the expander's layers; none makes the loss act on the representation.
        decoder: Widths of the decoder's hidden layers.
        shared: Whether both views pass through one branch; otherwise each has its own, and the first is kept.
        steps: Optimiser steps.
        epochs: Passes over the rows, in place of steps.
        batch_size: Rows per step; all rows where there are fewer.
        accumulate: Micro-batches that a step's rows are cut into, to pass through the networks one at a time. The loss
            and its gradient stay those of all the step's rows; batch norm in the networks sees micro-batches. A
            batch that is too small for two rows in each is cut into fewer.
        learning_rate: AdamW's highest learning rate, of a one-cycle schedule.
        weight_decay: AdamW's weight decay.
        precision: Arithmetic of the networks; the loss is always at least float32. 16-mixed needs a GPU.
        device: auto, cpu, cuda, cuda:N or mps.
        seed: Of everything random.
    """

    n_components: int | None = 16
    views: str = "neighbors"
    view_rate: float | None = None
    objective: str = "vicreg"
    reconstruction: float = 10.0
    anchor: float = 1.0
    sim_coeff: float = 25.0
    std_coeff: float = 25.0
    cov_coeff: float = 1.0
    variance_target: float = 1.0
    encoder: tuple[int, ...] = (128, 128)
    encoder_norm: bool = True
    linear_path: bool = True
    expander: tuple[int, ...] = (256, 256)
    decoder: tuple[int, ...] = (128, 128)
    shared: bool = True
    steps: int = 1200
    epochs: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    precision: Precision = "32-true"
    device: str = "auto"
    seed: int = 0

    def check(self) -> TableConfig:
        """The settings themselves, if each is within its range.

        Raises:
            ValueError: One is not.
        """
        for name, kind in typing.get_type_hints(TableConfig).items():
            _checked(name, getattr(self, name), kind)
        table_views(self.views, self.view_rate)
        check_choice("objective", self.objective, OBJECTIVES)
        for name in (
            "reconstruction",
            "anchor",
            "sim_coeff",
            "std_coeff",
            "cov_coeff",
            "variance_target",
            "weight_decay",
        ):
            check_number(name, getattr(self, name), 0)
        check_number("learning_rate", self.learning_rate, 0, open_low=True)
        for name in ("encoder", "expander", "decoder"):
            for width in getattr(self, name):
                check_integer(f"each width in {name}", width, 1)
        for name, least in (("n_components", 1), ("steps", 1), ("epochs", 1), ("batch_size", 2), ("accumulate", 1)):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), least)
        rule, fix = f"be at most half of batch_size = {self.batch_size}", "Batch norm needs two rows in a micro-batch."
        require(2 * self.accumulate <= self.batch_size, "accumulate", rule, self.accumulate, fix)
        check_integer("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        return self

    def steps_for(self, n_rows: int) -> int:
        """Optimiser steps over a table of so many rows."""
        if self.epochs is None:
            return self.steps
        return self.epochs * max(1, n_rows // self.batch_size)


def check_device(name: str) -> str:
    """The name of a device, which this machine may have or not.

    Raises:
        ValueError: It is none that a run can be on.
    """
    rule, fix = "be auto, cpu, cuda, cuda:N or mps", "Try device='cpu'."
    require(re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name) is not None, "device", rule, shown(name), fix)
    return name


def to_mapping(config: TableConfig) -> dict[str, Any]:
    """The settings as plain values, for YAML.

    Example:
        >>> to_mapping(TableConfig(encoder=(64,)))["encoder"]
        [64]
    """
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def from_mapping(values: object) -> TableConfig:
    """Settings from a mapping, such as parsed YAML or JSON; what it leaves out is at its default.

    Raises:
        ValueError: An unknown name, or a value of another type than the setting's.

    Example:
        >>> from_mapping({"steps": 10}).steps
        10
        >>> from_mapping({"stesp": 10})
        Traceback (most recent call last):
        ValueError: a setting must be one of ...
    """
    if not isinstance(values, dict):
        raise ValueError(message("settings", "be a mapping of names to values", shown(values)))
    types = typing.get_type_hints(TableConfig)
    names = [field.name for field in fields(TableConfig)]
    checked: dict[str, Any] = {}
    for name, value in values.items():
        require(name in names, "a setting", f"be one of {listed(names, len(names))}", shown(name))
        checked[name] = _checked(str(name), value, types[str(name)])
    return TableConfig(**checked).check()


def _checked(name: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        widths = isinstance(value, list | tuple) and all(type(one) is int for one in value)
        require(widths, name, "be a list of whole numbers", shown(value))
        return tuple(value)
    if typing.get_origin(kind) is Literal:
        require(value in typing.get_args(kind), name, f"be one of {listed(typing.get_args(kind))}", shown(value))
        return value
    accepted = typing.get_args(kind) or (kind,)
    if float in accepted and type(value) is int:
        value = float(value)
    require(type(value) in accepted, name, f"be of type {_named(accepted)}", shown(value))
    return value


def _named(accepted: tuple[type, ...]) -> str:
    return " or ".join("None" if one is type(None) else one.__name__ for one in accepted)

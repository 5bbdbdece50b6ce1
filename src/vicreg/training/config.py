"""Settings of a run, for each kind of source: their defaults stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vicreg._checks import check_choice, check_integer, check_number, require, shown
from vicreg.objectives import Objective, objective_of
from vicreg.training.branches import BranchForm, forms_of_views, hidden_widths, in_dashes
from vicreg.training.pair_config import PairConfig
from vicreg.training.settings import (
    COEFFICIENTS,
    COUNTS,
    LARGEST_SEED,
    SAME_FOLDER,
    Precision,
    check_batches,
    check_device,
    check_micro_batches,
    check_ranges,
    check_types,
)
from vicreg.training.signal_config import SignalConfig
from vicreg.views import RECIPES, table_views


@dataclass(frozen=True)
class TableConfig:
    """How a table is learnt from.

    The defaults were chosen on 22 development tables (docs/experiments.md) and serve every table.

    Attributes:
        n_components: Width of the representation, the numbers per row one gets.
        views: Name of the views: neighbors, walk, marginal, mask, noise or identity.
        view_rate: Strength of the views (share of cells replaced, deviation of the noise, length of the walk; identity
            has none); the view's own default when left out.
        objective: Name of the objective: vicreg, barlow_twins, byol, sigreg, simclr, simsiam, vibcreg, vicregl (on
            pictures alone) or visreg; and with +, terms that join it, as in byol+variance or vicreg+sigreg.
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
        branches: In place of encoder and expander two branches that differ, the first of which is kept: for each
            ENCODER or ENCODER/EXPANDER, the widths of hidden layers with dashes, as in 128-128,64 or
            128-128/256-256,linear/256 (linear: no hidden layers; none: no expander). Two of one form are one branch
            unless not shared.
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
    branches: tuple[str, ...] = ()
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
        check_types(self)
        table_views(self.views, self.view_rate)
        fix = "Pictures have them."
        needs, rule = self.named().needs, "need no feature maps on a table"
        require("maps" not in needs, "objective", rule, shown(self.objective), fix)
        check_ranges(
            self,
            from_zero=(*COEFFICIENTS, "reconstruction", "anchor", "weight_decay"),
            above_zero=("learning_rate",),
            widths=("encoder", "expander", "decoder"),
            whole={"n_components": 1, "steps": 1, "epochs": 1, **COUNTS},
        )
        check_micro_batches(self.batch_size, self.accumulate)
        for form in self.forms():
            hidden_widths(form.encoder)
        check_integer("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        return self

    def forms(self) -> tuple[BranchForm, ...]:
        """The form of the one branch that both views share, or of each view's."""
        return forms_of_views(self.branches, self.shared, in_dashes(self.encoder))

    def named(self) -> Objective:
        """The objective by its name, with the coefficients where they are its own."""
        return objective_of(self.objective, **{name: getattr(self, name) for name in COEFFICIENTS})

    def steps_for(self, n_rows: int) -> int:
        """Optimiser steps over a table of so many rows."""
        if self.epochs is None:
            return self.steps
        return self.epochs * max(1, n_rows // self.batch_size)


@dataclass(frozen=True)
class ImageConfig:
    """How pictures are learnt from.

    Attributes:
        encoder: resnet18, resnet34, resnet50, resnet50x2, vit_tiny, vit_small, or timm:NAME where timm is installed.
        width: Channels of a ResNet's first stage, or width of a transformer's tokens; as published when left out.
        weights: A file of weights to start from: safetensors or PyTorch, ours, torchvision's or timm's.
        image_size: Side of the views in pixels; when left out that of pictures of up to 64 pixels, else 224.
        views: Recipe of the views: paper, official, cifar, crop or identity; or same-folder, where two pictures of one
            folder are the two views. When left out cifar for views of up to 64 pixels, else paper.
        small_views: Small crops beside the two large ones.
        small_size: Side of the small crops; three sevenths of image_size when left out.
        objective: Name of the objective: vicreg, barlow_twins, byol, sigreg, simclr, simsiam, vibcreg, vicregl (on
            pictures alone) or visreg; and with +, terms that join it, as in byol+variance or vicreg+sigreg.
        sim_coeff: Weight of the invariance term, lambda in the paper.
        std_coeff: Weight of the variance term, mu in the paper.
        cov_coeff: Weight of the covariance term, nu in the paper.
        variance_target: Standard deviation below which the variance term acts, gamma in the paper.
        expander: Widths of the expander's layers; three of 8192 for a ResNet-50, fewer for smaller encoders when left
            out.
        shared: Whether all views pass through one branch; otherwise each has its own, and the first is kept.
        branches: In place of encoder and expander two branches that differ, the first of which is kept: for each
            ENCODER or ENCODER/EXPANDER, the expander's widths with dashes, as in resnet18,vit_tiny or
            resnet18/512-512,resnet34/1024-512. Two of one form are one branch unless not shared.
        epochs: Passes over the pictures.
        steps: Optimiser steps, in place of epochs.
        batch_size: Pictures per step, over all devices; all pictures where there are fewer.
        accumulate: Micro-batches that each device's pictures of a step are cut into; the loss stays that of all
            pictures of the step.
        optimizer: lars as in the paper, larc (LARS with clipping, as recipes for small pictures have it) or adamw.
        learning_rate: Per 256 pictures of the batch, at its highest.
        weight_decay: Of matrices and filters.
        warmup_epochs: Epochs over which the learning rate rises; then it falls along a cosine.
        precision: Arithmetic of the networks; the loss is always at least float32. 16-mixed needs a GPU.
        channels_last: Whether pictures lie in memory channel by channel, which is faster; wherever it is safe when left
            out.
        compile: Whether torch.compile compiles the networks.
        device: auto, cpu, cuda, cuda:N or mps.
        devices: Devices of each machine.
        nodes: Machines.
        workers: Threads that open pictures which are not kept in memory; one less than the cores when left out.
        max_corrupt: Share of pictures that may be unreadable before the run stops.
        seed: Of everything random.
    """

    encoder: str = "resnet18"
    width: int | None = None
    weights: str | None = None
    image_size: int | None = None
    views: str | None = None
    small_views: int = 0
    small_size: int | None = None
    objective: str = "vicreg"
    sim_coeff: float = 25.0
    std_coeff: float = 25.0
    cov_coeff: float = 1.0
    variance_target: float = 1.0
    expander: tuple[int, ...] | None = None
    shared: bool = True
    branches: tuple[str, ...] = ()
    epochs: int = 100
    steps: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    optimizer: Literal["lars", "larc", "adamw"] = "larc"
    learning_rate: float = 0.3
    weight_decay: float = 1e-4
    warmup_epochs: float = 10.0
    precision: Precision = "32-true"
    channels_last: bool | None = None
    compile: bool = False
    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int | None = None
    max_corrupt: float = 0.05
    seed: int = 0

    def check(self) -> ImageConfig:
        """The settings themselves, if each is within its range.

        Raises:
            ValueError: One is not.
        """
        check_types(self)
        if self.views is not None:
            check_choice("views", self.views, [*RECIPES, SAME_FOLDER])
        fix = "Small crops would have no branch of their own."
        one = len(self.forms()) == 1
        require(one or not self.small_views, "small_views", "be 0 with separate branches", self.small_views, fix)
        rule, fix = "be left out for branches that differ", "One file suits one encoder."
        alike = len({form.encoder for form in self.forms()}) == 1
        require(alike or self.weights is None, "weights", rule, shown(self.weights), fix)
        rule = f"be 0 with views {self.views!r}"
        require(self.views != "identity" or not self.small_views, "small_views", rule, self.small_views)
        rule, fix = (
            f"match no places by where they are with views {SAME_FOLDER!r}",
            "Its two views are of two pictures.",
        )
        needs = self.named().needs
        one = self.views != SAME_FOLDER or "cuts" not in needs
        require(one, "objective", rule, shown(self.objective), fix)
        ones = ("width", "image_size", "small_size", "epochs", "steps", "devices", "nodes", "workers")
        check_ranges(
            self,
            from_zero=(*COEFFICIENTS, "weight_decay", "warmup_epochs"),
            above_zero=("learning_rate",),
            widths=("expander",),
            whole={"small_views": 0, **dict.fromkeys(ones, 1), **COUNTS},
        )
        check_number("max_corrupt", self.max_corrupt, 0, 1)
        check_integer("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        check_batches(self.batch_size, self.accumulate, self.devices * self.nodes)
        return self

    def forms(self) -> tuple[BranchForm, ...]:
        """The form of the one branch that all views share, or of each view's."""
        return forms_of_views(self.branches, self.shared, self.encoder)

    def named(self) -> Objective:
        """The objective by its name, with the coefficients where they are its own."""
        return objective_of(self.objective, **{name: getattr(self, name) for name in COEFFICIENTS})

    def steps_for(self, n: int) -> int:
        """Optimiser steps over so many pictures."""
        return self.steps or self.epochs * max(1, n // self.batch_size)


CONFIGS: dict[str, type[TableConfig] | type[ImageConfig] | type[SignalConfig] | type[PairConfig]] = {
    "table": TableConfig,
    "image": ImageConfig,
    "signal": SignalConfig,
    "pair": PairConfig,
}
"""From the kind of a source to its settings."""

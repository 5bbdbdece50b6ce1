"""Settings of a run on pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vicreg._checks import check_integer, check_number, require, shown
from vicreg.objectives import Objective, objective_of
from vicreg.training.branches import BranchForm, branch_forms
from vicreg.training.settings import LARGEST_SEED, Precision, check_device, check_ranges, check_types

PER_SIDE = ("std_coeff", "cov_coeff")
STEPS, EPOCHS = 1000, 100
"""Length of a run on two tables, and of one on anything else."""
RECONSTRUCTION = 30.0
"""Weight of the reconstruction where sides are not aligned."""


@dataclass(frozen=True)
class PairConfig:
    """How two sources are learnt from that show the same things: two tables, pictures and their columns, and so on.

    Attributes:
        n_components: Width of what is returned of each side where the sides are aligned, and of a table's side always;
            less where a table has fewer features.
        aligned: Whether the loss acts on what is returned, so that the two sides can be compared; otherwise on
            expanders of it, which leaves each side free to keep what the other lacks. When left out, two tables are
            aligned and anything else is not.
        branches: One for each side, ENCODER or ENCODER/EXPANDER: hidden widths with dashes for a table (or linear), an
            encoder's name otherwise, as in 256-256,resnet18/512-512; of signals also wave or mel. When left out
            256-256, resnet18, and mel of sounds or wave of other signals.
        views: One for each side: of a table neighbors, walk, marginal, mask, noise or identity; of pictures or signals
            a recipe. When left out rows are taken as they are, and pictures and signals are augmented.
        width: Channels of a ResNet's first stage, or width of a transformer's tokens; as published when left out.
        image_size: Side of the views of pictures in pixels; when left out that of pictures of up to 64 pixels, else
            224.
        seconds: Length of a view of sounds, and of other signals whose rate is known.
        length: Length of a view of signals in samples, in place of seconds; when both are left out 1 second of sounds
            and 2048 samples of other signals, or the median signal if that is shorter.
        linear_path: Whether a linear path stands beside a table's hidden layers: it starts at canonical correlation
            analysis with a ridge where two tables are aligned, and else at whitened PCA.
        dropout: Share of the outputs of a table's hidden layers that training leaves out at random, from 0 to below 1.
        expander: Widths of the expanders' layers, where sides are not aligned; by the wider representation when left
            out.
        reconstruction: Weight of the reconstruction term of a table's side, the squared error of a column told from its
            representation, so that this keeps what the other side lacks; 0 is the paper's objective. When left out 0
            where sides are aligned, and 30 otherwise.
        decoder: Widths of the decoders' hidden layers.
        objective: Name of the objective: vicreg, barlow_twins, byol, sigreg, simclr, simsiam, vibcreg or visreg; and
            with +, terms that join it, as in byol+variance.
        sim_coeff: Weight of the invariance term, lambda in the paper.
        std_coeff: Weight of the variance term, mu in the paper; or one for each side.
        cov_coeff: Weight of the covariance term, nu in the paper; or one for each side.
        variance_target: Standard deviation below which the variance term acts, gamma in the paper.
        steps: Optimiser steps; when left out 1000 for two tables.
        epochs: Passes over the pairs, in place of steps; when both are left out 100 where a side is no table.
        batch_size: Pairs per step; all pairs where there are fewer.
        accumulate: Micro-batches that a step's pairs are cut into; the loss stays that of all pairs of the step.
        learning_rate: AdamW's highest learning rate, of a one-cycle schedule.
        weight_decay: AdamW's weight decay.
        precision: Arithmetic of the networks; the loss is always at least float32. 16-mixed needs a GPU.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: Threads that open what is not kept in memory; one less than the cores when left out.
        max_corrupt: Share of a side's items that may be unreadable before the run stops.
        seed: Of everything random.
    """

    n_components: int = 16
    aligned: bool | None = None
    branches: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    width: int | None = None
    image_size: int | None = None
    seconds: float | None = None
    length: int | None = None
    linear_path: bool = True
    dropout: float = 0.2
    expander: tuple[int, ...] | None = None
    reconstruction: float | None = None
    decoder: tuple[int, ...] = (128, 128)
    objective: str = "vicreg"
    sim_coeff: float = 25.0
    std_coeff: tuple[float, ...] = (25.0,)
    cov_coeff: tuple[float, ...] = (1.0,)
    variance_target: float = 1.0
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    precision: Precision = "32-true"
    device: str = "auto"
    workers: int | None = None
    max_corrupt: float = 0.05
    seed: int = 0

    def check(self) -> PairConfig:
        """The settings themselves, if each is within its range.

        Raises:
            ValueError: One is not.
        """
        check_types(self)
        ones = ("width", "image_size", "steps", "epochs", "accumulate", "workers")
        check_ranges(
            self,
            from_zero=("sim_coeff", "variance_target", "reconstruction", "weight_decay"),
            above_zero=("learning_rate", "seconds"),
            widths=("expander", "decoder"),
            whole={"n_components": 1, "batch_size": 2, "length": 2, **dict.fromkeys(ones, 1)},
        )
        check_number("max_corrupt", self.max_corrupt, 0, 1)
        require(check_number("dropout", self.dropout, 0) < 1, "dropout", "be below 1", self.dropout)
        check_integer("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        for name in PER_SIDE:
            given = getattr(self, name)
            require(len(given) in (1, 2), name, "be one number, or one for each side", shown(given))
            for one in given:
                check_number(name, one, 0)
        self.forms()
        require(len(self.views) in (0, 2), "views", "be two, one for each side", shown(self.views), "As in A,B.")
        fix = "Batch norm needs two rows in a micro-batch."
        most = self.batch_size // 2
        require(self.accumulate <= most, "accumulate", f"be at most {most}, half of batch_size", self.accumulate, fix)
        missing = self.named().needs & {"maps", "decoder"}
        require(not missing, "objective", "need no feature maps or decoder for pairs", shown(self.objective))
        return self

    def forms(self) -> tuple[BranchForm, ...]:
        """What each side's branch is to be; none where the kinds' own serve."""
        forms = branch_forms(self.branches) if self.branches else ()
        require(len(forms) in (0, 2), "branches", "be two, one for each side", len(forms), "As in A,B.")
        return forms

    def named(self) -> Objective:
        """The objective by its name, with the coefficients where they are its own."""
        weights: dict[str, Any] = {name: _one_or_each(getattr(self, name)) for name in PER_SIDE}
        return objective_of(self.objective, sim_coeff=self.sim_coeff, variance_target=self.variance_target, **weights)

    def aligns(self, kinds: Sequence[str]) -> bool:
        """Whether sides of these kinds are aligned.

        Example:
            >>> PairConfig().aligns(("table", "table")), PairConfig().aligns(("image", "table"))
            (True, False)
        """
        return set(kinds) == {"table"} if self.aligned is None else self.aligned

    def reconstructs(self, kinds: Sequence[str]) -> float:
        """Weight of the reconstruction for sides of these kinds; 0 for none.

        Example:
            >>> tables = ("table", "table")
            >>> PairConfig(aligned=False).reconstructs(tables), PairConfig().reconstructs(tables)
            (30.0, 0.0)
            >>> PairConfig().reconstructs(("image", "image"))
            0.0
        """
        usual = 0.0 if self.aligns(kinds) else RECONSTRUCTION
        return (usual if self.reconstruction is None else self.reconstruction) if "table" in kinds else 0.0

    def steps_for(self, n_pairs: int, kinds: Sequence[str]) -> int:
        """Optimiser steps over so many pairs of these kinds.

        Example:
            >>> PairConfig().steps_for(500, ("table", "table")), PairConfig(epochs=3).steps_for(512, ("image", "table"))
            (1000, 6)
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is None and set(kinds) == {"table"}:
            return STEPS
        return (self.epochs or EPOCHS) * max(1, n_pairs // self.batch_size)


def _one_or_each(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(values) == 1 else values

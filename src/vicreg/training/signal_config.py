"""Settings of a run on sounds or other signals: their defaults stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from vicreg._checks import check_choice, check_integer, check_number, require, shown
from vicreg.networks import RESNETS, SIGNAL_ENCODERS
from vicreg.objectives import Objective, objective_of
from vicreg.training.branches import branch_forms
from vicreg.training.settings import (
    COEFFICIENTS,
    COUNTS,
    LARGEST_SEED,
    SAME_FOLDER,
    Precision,
    check_batches,
    check_device,
    check_ranges,
    check_types,
)
from vicreg.views import MEL, SIGNAL_RECIPES, WAVE

SOUND_BRANCHES = (WAVE, MEL)
SERIES_BRANCHES = (WAVE, WAVE)
KINDS = {WAVE: "1d", MEL: "mel"}
"""From what a branch eats to the end of its encoder's name."""


class SignalBranch(NamedTuple):
    """What a branch on signals is to be.

    Attributes:
        eats: "wave" or "mel".
        encoder: A name in ``SIGNAL_ENCODERS``.
        expander: Widths of the expander's layers; None where the settings' own serve.
    """

    eats: str
    encoder: str
    expander: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SignalConfig:
    """How sounds and other signals are learnt from.

    Attributes:
        branches: What the two branches see, wave (the samples) or mel (their log-mel spectrogram): wave,mel of
            sounds and wave,wave of other signals when left out. An encoder of its own is named in its place, as
            resnet34-1d or resnet18-mel, and an expander of its own after a slash, as in wave/512-512,mel/1024-512 (or
            none). Two of one form are one branch unless not shared.
        encoder: resnet18, resnet34, resnet50 or resnet50x2: over time for wave, over bands and time for mel.
        width: Channels of the encoder's first stage; as published, 64, when left out.
        seconds: Length of a view, of sounds and of other signals whose rate is known.
        length: Length of a view in samples, in place of seconds. When both are left out 1 second of sounds and 2048
            samples of other signals, or the median signal if that is shorter.
        mels: Bands of the spectrograms.
        hop_ms: Milliseconds from frame to frame of the spectrograms.
        views: Recipe of the views: sound, byol-a, specaugment, series, crop or identity; or same-folder, where two
            signals of one folder are the two views. When left out sound for sounds, else series.
        objective: Name of the objective: vicreg, barlow_twins, byol, sigreg, simclr, simsiam, vibcreg, vicregl or
            visreg; and with +, terms that join it, as in byol+variance or vicreg+sigreg.
        sim_coeff: Weight of the invariance term, lambda in the paper.
        std_coeff: Weight of the variance term, mu in the paper.
        cov_coeff: Weight of the covariance term, nu in the paper.
        variance_target: Standard deviation below which the variance term acts, gamma in the paper.
        expander: Widths of the expander's layers; three, four times as wide as the representation, when left out.
        shared: Whether branches of one form are one branch, which both views pass through.
        epochs: Passes over the signals.
        steps: Optimiser steps, in place of epochs.
        batch_size: Signals per step, over all devices; all signals where there are fewer.
        accumulate: Micro-batches that each device's signals of a step are cut into; the loss stays that of all
            signals of the step.
        optimizer: lars as in the paper, larc (LARS with clipping) or adamw.
        learning_rate: Per 256 signals of the batch, at its highest.
        weight_decay: Of matrices and filters.
        warmup_epochs: Epochs over which the learning rate rises; then it falls along a cosine.
        precision: Arithmetic of the networks; the loss is always at least float32. 16-mixed needs a GPU.
        channels_last: Whether spectrograms lie in memory channel by channel, which is faster; wherever it is safe when
            left out.
        compile: Whether torch.compile compiles the networks.
        device: auto, cpu, cuda, cuda:N or mps.
        devices: Devices of each machine.
        nodes: Machines.
        workers: Threads that open signals which are not kept in memory; one less than the cores when left out.
        max_corrupt: Share of signals that may be unreadable before the run stops.
        seed: Of everything random.
    """

    branches: tuple[str, ...] = ()
    encoder: str = "resnet18"
    width: int | None = None
    seconds: float | None = None
    length: int | None = None
    mels: int = 64
    hop_ms: float = 10.0
    views: str | None = None
    objective: str = "vicreg"
    sim_coeff: float = 25.0
    std_coeff: float = 25.0
    cov_coeff: float = 1.0
    variance_target: float = 1.0
    expander: tuple[int, ...] | None = None
    shared: bool = True
    epochs: int = 100
    steps: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    optimizer: Literal["lars", "larc", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
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

    def check(self) -> SignalConfig:
        """The settings themselves, if each is within its range.

        Raises:
            ValueError: One is not.
        """
        check_types(self)
        check_choice("encoder", self.encoder, RESNETS)
        self.forms(sound=True)
        if self.views is not None:
            check_choice("views", self.views, [*SIGNAL_RECIPES, SAME_FOLDER])
        both = self.seconds is not None and self.length is not None
        require(not both, "length", "be left out where seconds are given", self.length)
        self.named()
        ones = ("width", "mels", "epochs", "steps", "devices", "nodes", "workers")
        check_ranges(
            self,
            from_zero=(*COEFFICIENTS, "weight_decay", "warmup_epochs"),
            above_zero=("learning_rate", "seconds", "hop_ms"),
            widths=("expander",),
            whole={"length": 2, **dict.fromkeys(ones, 1), **COUNTS},
        )
        check_number("max_corrupt", self.max_corrupt, 0, 1)
        check_integer("seed", self.seed, 0, LARGEST_SEED)
        check_device(self.device)
        check_batches(self.batch_size, self.accumulate, self.devices * self.nodes)
        return self

    def forms(self, *, sound: bool) -> tuple[SignalBranch, ...]:
        """The one branch that both views pass through, or that of each view.

        Args:
            sound: Whether the signals are sounds.

        Raises:
            ValueError: The branches are not two, or one is not of its form.

        Example:
            >>> [form.encoder for form in SignalConfig().forms(sound=True)]
            ['resnet18-1d', 'resnet18-mel']
            >>> SignalConfig(branches=("mel", "resnet18-mel")).forms(sound=True)
            (SignalBranch(eats='mel', encoder='resnet18-mel', expander=None),)
        """
        named = branch_forms(self.branches or (SOUND_BRANCHES if sound else SERIES_BRANCHES))
        require(len(named) == 2, "branches", "be two, one for each view", len(named), "As in wave,mel.")
        forms = tuple(self._branch(form.encoder, form.expander) for form in named)
        return forms[:1] if self.shared and forms[0] == forms[1] else forms

    def _branch(self, name: str, expander: tuple[int, ...] | None) -> SignalBranch:
        if name in KINDS:
            return SignalBranch(name, f"{self.encoder}-{KINDS[name]}", expander)
        rule = f"be wave, mel or one of {', '.join(SIGNAL_ENCODERS)}"
        require(name in SIGNAL_ENCODERS, "each branch", rule, shown(name))
        return SignalBranch(MEL if name.endswith(KINDS[MEL]) else WAVE, name, expander)

    def named(self) -> Objective:
        """The objective by its name, with the coefficients where they are its own; less what needs cuts of pictures."""
        chosen = objective_of(self.objective, **{name: getattr(self, name) for name in COEFFICIENTS})
        return Objective({name: term for name, term in chosen.items() if "cuts" not in term.needs})

    def steps_for(self, n: int) -> int:
        """Optimiser steps over so many signals."""
        return self.steps or self.epochs * max(1, n // self.batch_size)

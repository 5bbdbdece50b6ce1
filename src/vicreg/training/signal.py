"""From sounds or other signals and their settings to a run."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg._checks import message, require
from vicreg.data import (
    Corrupt,
    CorruptImage,
    SignalSource,
    SignalSpec,
    SignalSubset,
    fit_signal_spec,
    gathered,
    length_at,
    some_signals,
)
from vicreg.networks import JointEmbedding, default_expander, output_width, signal_encoder
from vicreg.objectives import Objective
from vicreg.training.branches import BranchForm, expander_layers
from vicreg.training.collection import Deal, threads
from vicreg.training.engine import Callback, Machine, Optimisation, State, check_launched, start, train
from vicreg.training.feed import Feed, Order, full_batches, seed_of
from vicreg.training.heads import joined
from vicreg.training.preparing import check_enough, optimisation, partners_of, room
from vicreg.training.settings import SAME_FOLDER
from vicreg.training.signal_config import SignalBranch, SignalConfig
from vicreg.training.signals import OpenedSignals, ResidentSignals
from vicreg.views import MEL, Mel, SpectrogramView, ViewOfSignal, signal_views

SECONDS = 1.0
"""Views of sounds are so long, unless the settings say otherwise."""
LENGTH = 2048
"""Views of other signals have at most so many samples, unless the settings say otherwise."""

MOST_WINDOWS = 8

MOST_LOOKED_AT = 2**20
"""So many samples of a signal, from its middle, are looked at for faults."""
FULL_SCALE = 0.999
CLIPPED = 0.01
"""A recording counts as clipped if more than this share of its samples is at full scale."""


@dataclass(frozen=True, eq=False)
class SignalRun:
    """A run ready to go: its state, and what :func:`vicreg.training.engine.train` needs beside it.

    Attributes:
        state: At its start.
        feed: The signals' views by step.
        objective: Total and terms.
        how: How to step.
        place: The machine.
        views: Of each signal, one for each of the two branches.
        spec: What signals are like, and how they are scaled.
        kept: Which branches one keeps.
        windows: Crops of each signal that its embedding is averaged over: as many as cover nine signals in ten.
        epoch: Steps in an epoch.
        ledger: Counts signals that cannot be read.
        notes: What a user should know of the start, such as other rates than the common one.
    """

    state: State
    feed: Feed
    objective: Objective
    how: Optimisation
    place: Machine
    views: tuple[ViewOfSignal, ...]
    spec: SignalSpec
    kept: tuple[int, ...]
    windows: int
    epoch: int
    ledger: Corrupt
    notes: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Samples of a view."""
        return self.views[0].length

    @property
    def parts(self) -> list[tuple[nn.Module, ViewOfSignal]]:
        """What one keeps: for each branch kept its encoder, and its view without anything random."""
        branches = self.state.model.branches
        return [(branches[k].encoder, self.views[k].still()) for k in self.kept]  # type: ignore[misc]  # ModuleList

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""
        return train(self.state, self.feed, self.objective, self.how, self.place, callbacks)


def signal_run(
    config: SignalConfig,
    source: SignalSource,
    place: Machine,
    codes: NDArray[np.int64] | None = None,
    encoders: Sequence[nn.Module] = (),
) -> SignalRun:
    """Prepare a run on sounds or other signals with random access.

    Args:
        config: The settings.
        source: The signals that are learnt from.
        place: The machine.
        codes: (n,) the number of each signal's class, -1 for none: passed on to who judges, never learnt from.
        encoders: In place of the configured ones: one for each branch, or one of which every branch gets a copy if all
            eat the same; for (b, channels, time), or for spectrograms (b, channels, bands, frames).

    Raises:
        ValueError: Fewer than two signals for each process, a setting out of its range or that does not suit the
            signals, an encoder whose output is no vector, or ``torchrun`` has started processes that the machine is
            without.

    Example:
        >>> from vicreg.data import GivenSignals
        >>> from vicreg.training.engine import machine
        >>> sounds = np.random.default_rng(0).normal(size=(16, 4000)).astype(np.float32)
        >>> config = SignalConfig(width=4, expander=(32,), seconds=0.25, batch_size=8, steps=2, device="cpu")
        >>> run = signal_run(config, GivenSignals(sounds, rate=8000), machine("cpu"))
        >>> run.train().step, run.length, [type(view).__name__ for view in run.views]
        (2, 2000, ['SignalView', 'SpectrogramView'])
    """
    config.check()
    check_launched(place.count)
    check_enough(source.what, len(source), place)
    forms = config.forms(sound=source.sound)
    spec = fit_signal_spec(source)
    views = views_of(config, source, spec, [form.eats for form in forms])
    model = joint_embedding(config, forms, views, source.channels, encoders)  # soon: it says what is wrong
    ledger = Corrupt(config.max_corrupt, of=len(source))
    kept = gathered(source, room(place.device), ledger, threads(config.workers))
    rows = np.arange(len(source)) if kept is None else kept.rows
    check_enough(source.what, len(rows), place)
    source = source if len(rows) == len(source) else SignalSubset(source, rows)
    views = scaled(views, source, config.seed)
    views = views * (2 // len(views))  # one branch sees both
    labels = None if codes is None else torch.from_numpy(codes[rows]).to(place.device)
    batch = min(config.batch_size, len(rows) // place.count * place.count)  # as many on every process
    order = Order(full_batches(len(rows), batch), len(rows), config.seed)
    how = optimisation(config, config.steps_for(len(rows)), order.batches, batch, model)
    deal = Deal(order, place.rank, place.count, partners_of(source, config.views))
    feed: Feed
    if kept is not None:
        array, lengths = (torch.from_numpy(one).to(place.device) for one in (kept.array, kept.lengths))
        feed = ResidentSignals(array, lengths, views, deal, labels)
    else:
        feed = OpenedSignals(source, views, deal, how.steps, place.device, ledger, threads(config.workers), labels)
    state = start(model, place, how)
    both = (0, 1) if len({form.eats for form in forms}) == 2 else (0,)
    windows = windows_of(source, views[0].length)
    notes = (*rates_in_words(source), *faults_in_words(source), *short_in_words(source, views[0].length))
    objective = config.named()
    return SignalRun(state, feed, objective, how, place, views, spec, both, windows, order.batches, ledger, notes)


def view_length(config: SignalConfig, source: SignalSource) -> int:
    """Samples of a view: as configured, else 1 second of sounds or 2048 samples, or the median signal if shorter.

    Views as long as the longest signal would be silent for the most part, which is all that they then have in common:
    of spoken digits (of .42 seconds, 1.0 against .45 second) a linear probe after equal time gave .24 and .46.

    Raises:
        ValueError: Seconds of signals whose rate nobody knows.
        CorruptSignal: None of the signals looked at can be read.
    """
    if config.length is not None:
        return config.length
    seconds = config.seconds
    if seconds is not None and source.rate is None:
        raise ValueError(message("seconds", "be left out where the rate is unknown", seconds, "Give length."))
    if seconds is not None:
        return max(2, round(seconds * (source.rate or 0)))
    usual = round(SECONDS * source.rate) if source.sound and source.rate else LENGTH
    return max(2, min(usual, length_at(source, 0.5)))


def windows_of(source: SignalSource, length: int) -> int:
    """Crops that cover nine signals in ten, at most 8.

    Args:
        source: The signals.
        length: Samples of a crop.
    """
    return min(MOST_WINDOWS, -(-length_at(source, 0.9) // length))


def mel_of(config: SignalConfig, source: SignalSource) -> Mel:
    """How the spectrograms of these signals are made.

    Raises:
        ValueError: Their rate is unknown, or below 1000 a second.
    """
    rule, fix = "be wave for signals without a rate of 1000 a second at least", "Give their rate, if it is known."
    require((source.rate or 0) >= 1000, "branches", rule, f"{MEL} at {source.rate}", fix)
    return Mel.at(round(source.rate or 0), config.mels, config.hop_ms)


def views_of(
    config: SignalConfig, source: SignalSource, spec: SignalSpec, eats: Sequence[str]
) -> tuple[ViewOfSignal, ...]:
    """The views that the settings name; those of spectrograms are not :func:`scaled` yet.

    Args:
        config: The settings.
        source: The signals.
        spec: Their scale.
        eats: What each branch eats, "wave" or "mel".
    """
    usual = "sound" if source.sound else "series"
    name = usual if config.views in (None, SAME_FOLDER) else str(config.views)
    mel = mel_of(config, source) if MEL in eats else None
    return signal_views(name, view_length(config, source), eats, mel, spec.mean, spec.std)


def scaled(views: Sequence[ViewOfSignal], source: SignalSource, seed: int) -> tuple[ViewOfSignal, ...]:
    """The views with the mean and deviation that spectrograms have, of crops of some signals spread over the source.

    Args:
        views: Of the signals.
        source: Those that are learnt from.
        seed: Of the crops.
    """
    if not any(isinstance(view, SpectrogramView) for view in views):
        return tuple(views)
    crops = some_crops(views[0], source, Generator().manual_seed(seed_of(seed, 5)))
    return tuple(view.scaled(crops) if isinstance(view, SpectrogramView) else view for view in views)


def some_crops(view: ViewOfSignal, source: SignalSource, generator: Generator) -> Tensor:
    """A crop of each of some signals that are spread over the source, (b, channels, length).

    Raises:
        CorruptSignal: None of them can be read.
    """
    crops = []
    for opened in some_signals(source):
        start, length = view.span(opened.length, view.draw(1, generator)[0].tolist())
        try:
            crops.append(view.crop_one(opened.part(start, length), start))
        except CorruptImage:
            continue
    if not crops:
        source.read(0)  # says what is wrong with it
    return torch.stack(crops)


def joint_embedding(
    config: SignalConfig,
    forms: Sequence[SignalBranch],
    views: Sequence[ViewOfSignal],
    channels: int,
    encoders: Sequence[nn.Module] = (),
) -> JointEmbedding:
    """The networks at their start, drawn from the seed; encoders that are given keep their weights, in copies.

    Args:
        config: The settings.
        forms: Of the branches.
        views: What each branch sees.
        channels: Of the signals.
        encoders: As in :func:`signal_run`.
    """
    generator = Generator().manual_seed(config.seed)
    alike = len({form.eats for form in forms}) == 1
    rule = f"be one module for each of {len(forms)} branches" + (", or one for all" if alike else "")
    require(len(encoders) in {0, len(forms), 1 if alike else 0}, "encoder", rule, f"{len(encoders)} modules")
    inputs = [blank(view, channels) for view in views]
    if encoders:
        made: list[nn.Module] = [copy.deepcopy(encoders[k % len(encoders)]).cpu() for k in range(len(forms))]
    else:
        sizes = [min(x.shape[2:]) for x in inputs]
        made = [
            signal_encoder(form.encoder, channels, size, generator, config.width)
            for form, size in zip(forms, sizes, strict=True)
        ]
    widths = [output_width(encoder, x) for encoder, x in zip(made, inputs, strict=True)]
    usual = default_expander(max(widths)) if config.expander is None else config.expander
    layers = expander_layers([BranchForm(form.encoder, form.expander) for form in forms], widths, usual)
    return joined(made, layers, config.named().needs, generator)


def blank(view: ViewOfSignal, channels: int) -> Tensor:
    """What an encoder eats of two silent signals."""
    still = view.still()
    return still.finish(still.crop(torch.zeros(2, channels, view.length)))


def rates_in_words(source: SignalSource) -> list[str]:
    """A note on recordings of other rates than the common one, if some were met.

    Example:
        >>> from vicreg.data import GivenSignals
        >>> source = GivenSignals([np.zeros(9)], rate=8000)
        >>> source.rates = {8000: 3, 44100: 1}
        >>> rates_in_words(source)
        ['Resampled to 8,000 samples a second, as most have: of 4 recordings looked at, 1 has 44,100.']
    """
    others = {rate: count for rate, count in source.rates.items() if rate != source.rate}
    if not others:
        return []
    told = ", ".join(f"{count} {'has' if count == 1 else 'have'} {rate:,}" for rate, count in sorted(others.items()))
    of = f"of {sum(source.rates.values())} recordings looked at, {told}"
    return [f"Resampled to {source.rate:,.0f} samples a second, as most have: {of}."]


def faults_in_words(source: SignalSource) -> list[str]:
    """A note on signals that are constant, and recordings that are clipped or mixed, of some spread over the source.

    Example:
        >>> from vicreg.data import GivenSignals
        >>> faults_in_words(GivenSignals([np.zeros(9), np.ones(9), np.arange(9)]))
        ['Of 3 signals looked at, 2 are constant: there is nothing to learn from them.']
    """
    count = silent = clipped = 0
    others: Counter[int] = Counter()
    for opened in some_signals(source):
        try:
            samples = opened.part((opened.length - MOST_LOOKED_AT) // 2, MOST_LOOKED_AT)
        except CorruptImage:
            continue
        count += 1
        others[opened.own or source.channels] += 1
        constant = bool((samples == samples[:, :1]).all())
        silent += constant
        loud = np.abs(samples)
        scaled = opened.own is not None or float(loud.max()) <= 1.0  # numbers of one's own may have any scale
        clipped += source.sound and scaled and not constant and float((loud >= FULL_SCALE).mean()) > CLIPPED
    what, verb = f"Of {count} {source.what} looked at", {1: "is"}
    notes = []
    if silent:
        word = "silent" if source.sound else "constant"
        notes.append(f"{what}, {silent} {verb.get(silent, 'are')} {word}: there is nothing to learn from them.")
    if clipped:
        notes.append(f"{what}, {clipped} {verb.get(clipped, 'are')} clipped: over 1 % of the samples at full scale.")
    for channels, some in sorted(others.items()):
        if channels != source.channels:
            has = f"{some} {'has' if some == 1 else 'have'} {channels} channel{'s' if channels > 1 else ''}"
            notes.append(f"{what}, {has}: {'their mean is taken' if source.channels == 1 else 'it is repeated'}.")
    return notes


def short_in_words(source: SignalSource, length: int) -> list[str]:
    """A note on signals that are shorter than a view, of some spread over the source.

    Args:
        source: The signals.
        length: Samples of a view.

    Example:
        >>> from vicreg.data import GivenSignals
        >>> short_in_words(GivenSignals([np.arange(9), np.arange(4)]), 6)
        ['Of 2 signals looked at, 1 is shorter than a view of 6 samples: its mean surrounds it.']
    """
    lengths = [opened.length for opened in some_signals(source)]
    short = sum(own < length for own in lengths)
    if not short:
        return []
    are, means = ("is", "its mean surrounds it") if short == 1 else ("are", "their means surround them")
    what = f"Of {len(lengths)} {source.what} looked at, {short} {are} shorter than a view of {length:,} samples"
    return [f"{what}: {means}."]

"""What log-mel spectrograms cost beside PyTorch's own transform, and what a step costs beside the networks' own work.

    python benchmarks/signals.py [--what mel step] [--seconds 30] [--rounds 5] [--json FILE]

On one thread, in turn in one process; ratios are taken round by round and shown as median [quartiles].

- *mel*: clips per second of ``vicreg.views.log_mel`` over those of bare ``torch.stft`` (its squared magnitudes) and one
  matrix product with the filters, with equal settings; the asked-for share is at least .8.
- *step*: a step of the engine on signals in memory (batch, views, networks, objective, optimiser) over the bare forward
  and backward pass of both branches, encoder and expander, on views that lie ready; at most 1.15 is asked for. The
  share of the step that goes into its views is shown beside it.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import in_turn, ratios, summary

from vicreg.data import GivenSignals
from vicreg.training.engine import machine
from vicreg.training.signal import SignalRun, signal_run
from vicreg.training.signal_config import SignalConfig
from vicreg.views import Mel, log_mel
from vicreg.views.spectrogram import mel_filters

CPU = torch.device("cpu")
CLIPS = {
    "1 s at 8 kHz, 128 clips": (128, Mel.at(8000), 8000),
    "1 s at 16 kHz, 64 clips": (64, Mel.at(16000), 16000),
    "1 s at 16 kHz as BYOL-A's, 64 clips": (64, Mel(), 16000),
    "5 s at 44.1 kHz, 8 clips": (8, Mel.at(44100), 5 * 44100),
}
SOUNDS = SignalConfig(width=16, batch_size=128)
STEPS = {
    "wave,mel, ResNet-18 of width 16, 1 s at 8 kHz, batch 128": SOUNDS,
    "mel,mel, the same": replace(SOUNDS, branches=("mel", "mel")),
    "wave,mel, batch 256": replace(SOUNDS, batch_size=256),
    "wave,mel, ResNet-18 of width 64, batch 32": replace(SOUNDS, width=None, batch_size=32),
}
RATE = 8000
MEL_LEAST, STEP_MOST = 0.8, 1.15


def bare(x: torch.Tensor, mel: Mel, window: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """What anybody would write: PyTorch's transform, squared magnitudes, one product."""
    found = torch.stft(
        x, mel.n_fft, mel.hop, len(window), window, center=True, pad_mode="constant", return_complex=True
    )
    return filters @ (found.real.square() + found.imag.square())


def tell_mel(seconds: float, rounds: int) -> object:
    told = {}
    for name, (count, mel, length) in CLIPS.items():
        x = torch.randn(count, length, generator=torch.Generator().manual_seed(0))
        window = torch.hann_window(mel.window or mel.n_fft)
        filters = torch.from_numpy(mel_filters(mel).astype(np.float32))
        works = {
            "log_mel": partial(log_mel, x[:, None], mel),
            "bare": partial(bare, x, mel, window, filters),
        }
        took, _ = in_turn(works, seconds, rounds, CPU)
        gain = ratios(took["bare"], took["log_mel"])
        speeds = {work: count / summary(values)["median"] for work, values in took.items()}
        print(f"log-mel, {name} ({len(took['bare'])} rounds)")
        print(f"  {speeds['log_mel']:7.0f} clips a second, bare {speeds['bare']:7.0f}: {shown(gain)} (asked: .8)")
        told[name] = {"seconds": took, "gain": gain}
    return told


def prepared(config: SignalConfig) -> SignalRun:
    """A run on noise of half to one and a half seconds."""
    rng = np.random.default_rng(0)
    sounds = [rng.normal(0, 0.1, n).astype(np.float32) for n in rng.integers(RATE // 2, 3 * RATE // 2, 1024)]
    place = machine("cpu")
    return signal_run(replace(config, seconds=1.0, steps=1000, device="cpu"), GivenSignals(sounds, rate=RATE), place)


def works_of(config: SignalConfig) -> dict[str, Callable[[], object]]:
    run, apart = prepared(config), prepared(config)
    model = apart.state.model.train()
    drawn = apart.feed.draw(0)
    gradients = [torch.randn_like(z) for z in model(drawn.views).z]

    def networks() -> None:
        model.zero_grad()
        torch.autograd.backward(list(model(drawn.views).z), gradients)

    def step() -> None:
        run.state.steps = run.state.step + 1
        run.train()

    return {"networks": networks, "step": step, "views": lambda: apart.feed.draw(1)}


def tell_step(seconds: float, rounds: int) -> object:
    told = {}
    for name, config in STEPS.items():
        took, _ = in_turn(works_of(config), seconds, rounds, CPU)
        cost, share = ratios(took["step"], took["networks"]), ratios(took["views"], took["step"])
        print(f"step, {name} ({len(took['step'])} rounds)")
        milliseconds = 1000 * summary(took["step"])["median"]
        print(f"  {milliseconds:6.0f} ms, {shown(cost)} the networks' time (asked: 1.15); views {shown(share)} of it")
        told[name] = {"seconds": took, "cost": cost, "views": share}
    return told


def shown(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", default=["mel", "step"], choices=["mel", "step"])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each setting")
    parser.add_argument("--rounds", type=int, default=5, help="at least so many of each setting")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, 1 thread, {os.cpu_count()} cores with a load of {load:.1f}", flush=True)
    found: dict[str, object] = {"torch": torch.__version__, "cores": os.cpu_count(), "load": load}
    begun, busy = time.perf_counter(), time.process_time()
    for what, tell in (("mel", tell_mel), ("step", tell_step)):
        if what in options.what:
            found[what] = tell(options.seconds, options.rounds)
    found["cpu over wall"] = (time.process_time() - busy) / max(time.perf_counter() - begun, 1e-9)
    print(f"CPU over wall time: {found['cpu over wall']:.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

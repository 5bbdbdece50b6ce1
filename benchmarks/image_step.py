"""What pictures, views, loss and loop add to the networks' own work; and what a second process gains.

    python benchmarks/image_step.py [--settings 0 1 2] [--rounds 2] [--seconds 30] [--json FILE]

For each setting, in turn in one process, on one thread (median and quartiles over the rounds):

- *networks*: forward and backward pass of encoder and expander on two views that lie ready, with a gradient that does;
- *views*: the gather of a batch from pictures in memory, and both its views;
- *loss*: the objective of the embeddings and its gradient;
- *step*: a step of the engine, with all of these, the optimiser and what surrounds them (in the first setting, or in
  all with --whole).

Views and loss are given as a share of the networks' time, round by round. Then a step of two gloo processes, of half
the batch each, against a step of one process with the whole batch, one thread each. That speed-up needs two free cores:
beside it stands the same ratio of CPU time, of a step alone and of a step on each of the two, which is what free cores
would give but for waiting.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measure import in_turn, ratios, summary

from vicreg.data import GivenImages
from vicreg.objectives import Outputs
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Machine, machine
from vicreg.training.image import ImageRun, image_run

CPU = torch.device("cpu")
SETTINGS = {
    "ResNet-18 of width 16, 32 px, batch 256": (ImageConfig(width=16, image_size=32, views="paper"), 0.05),
    "ResNet-18, 224 px, batch 32": (ImageConfig(image_size=224, batch_size=32, views="paper"), 0.02),
    "ResNet-50, 224 px, batch 32": (
        ImageConfig(encoder="resnet50", image_size=224, batch_size=32, views="paper", optimizer="lars"),
        0.02,
    ),
}
AT_LEAST = 1.7
STEPS_AT_ONCE = 2


def prepared(config: ImageConfig, place: Machine, steps: int) -> ImageRun:
    """A run on noise, of pictures a little larger than large views."""
    side = config.image_size if config.image_size <= 64 else 256
    pictures = np.random.default_rng(0).integers(256, size=(2 * config.batch_size, side, side, 3), dtype=np.uint8)
    return image_run(replace(config, steps=steps, device="cpu"), GivenImages(pictures), place)


def further(run: ImageRun, steps: int) -> None:
    """So many more steps of a run; the end of a run, a look at whether all is finite, is among them."""
    run.state.steps = run.state.step + steps
    run.train()


def works_of(config: ImageConfig, whole: bool) -> dict[str, Callable[[], object]]:
    run, apart = (prepared(config, machine("cpu"), 1000) for _ in range(2))
    model = apart.state.model.train()
    drawn = run.feed.draw(0)
    joint = model(drawn.views)
    gradients = [torch.randn_like(z) for z in joint.z]
    leaves = tuple(z.detach().requires_grad_() for z in joint.z)
    outputs = Outputs(x=None, h=tuple(h.detach() for h in joint.h), z=leaves)
    del joint

    def networks() -> None:
        model.zero_grad()
        torch.autograd.backward(list(model(drawn.views).z), gradients)

    def loss() -> None:
        for leaf in leaves:
            leaf.grad = None
        run.objective(outputs)[0].backward()

    found = {"networks": networks, "views": lambda: run.feed.draw(1), "loss": loss}
    return found | {"step": lambda: further(run, 1)} if whole else found


def share(value: dict[str, float]) -> str:
    return f"{100 * value['median']:6.2f} % [{100 * value['low']:.2f}, {100 * value['high']:.2f}]"


def tell_setting(name: str, config: ImageConfig, most: float, whole: bool, seconds: float, rounds: int) -> object:
    took, _ = in_turn(works_of(config, whole), seconds, rounds, CPU)
    both = [views + loss for views, loss in zip(took["views"], took["loss"], strict=True)]
    below = took["networks"]
    shares = {part: ratios(values, below) for part, values in (*took.items(), ("views and loss", both))}
    print(f"{name} ({len(below)} rounds; networks {summary(below)['median']:.3f} s)", flush=True)
    for part in ("views", "loss", "views and loss", "step"):
        if part in shares:
            bound = f"   (to reach: at most {100 * most:.0f} %)" if part == "views and loss" else ""
            print(f"  {part:15} {share(shares[part])} of the networks' time{bound}", flush=True)
    return {"seconds": took, "shares": shares}


def serve(rank: int, world: int) -> None:
    """Steps on demand, one process of so many: for each line that comes in, seconds of a step and of CPU go out."""
    config, _ = next(iter(SETTINGS.values()))
    run = prepared(replace(config, devices=world), machine("cpu", devices=world), 1000)
    further(run, 1)
    print("ready", flush=True)
    for _ in sys.stdin:
        begun, busy = time.perf_counter(), time.process_time()
        further(run, STEPS_AT_ONCE)
        took = time.perf_counter() - begun, time.process_time() - busy
        print(*(seconds / STEPS_AT_ONCE for seconds in took), flush=True)


def started(world: int) -> list[subprocess.Popen[str]]:
    """So many processes that take steps on demand together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in range(world):
        environment = common | ({"LOCAL_RANK": str(rank), "NODE_RANK": "0"} if world > 1 else {})
        command = [sys.executable, __file__, "--serve", str(rank), str(world)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    return processes


def asked(processes: list[subprocess.Popen[str]]) -> tuple[float, float]:
    """Seconds of a step of theirs, and seconds of CPU: the most of any."""
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    wall, cpu = zip(*(map(float, process.stdout.readline().split()) for process in processes), strict=True)
    return max(wall), max(cpu)


def tell_processes(rounds: int) -> object:
    alone, pair = started(1), started(2)
    try:
        for process in (*alone, *pair):
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a process did not start; run it by hand with --serve to see why")
        took = [(asked(alone), asked(pair)) for _ in range(rounds)]
    finally:
        for process in (*alone, *pair):
            process.kill()
            process.wait()
    gain, by_cpu = (ratios([one[k] for one, _ in took], [two[k] for _, two in took]) for k in (0, 1))
    print(f"two processes, steps of one batch ({rounds} rounds; {next(iter(SETTINGS))})", flush=True)
    for what, found, bound in (("steps", gain, f"   (to reach: at least {AT_LEAST}x)"), ("by CPU time", by_cpu, "")):
        print(
            f"  {what:15} {found['median']:5.2f}x [{found['low']:.2f}, {found['high']:.2f}] those of one{bound}",
            flush=True,
        )
    return {"took": took, "gain": gain, "by CPU time": by_cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, nargs="*", default=range(len(SETTINGS)))
    parser.add_argument("--rounds", type=int, default=2, help="at least so many for each setting")
    parser.add_argument("--seconds", type=float, default=30.0, help="more rounds where they fit into these")
    parser.add_argument("--whole", action="store_true", help="the engine's step in every setting")
    parser.add_argument("--processes", type=int, default=4, help="rounds of one process and two; 0 leaves them out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.serve:
        serve(*options.serve)
        return
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, 1 thread, {os.cpu_count()} cores with a load of {load:.1f}", flush=True)
    found: dict[str, object] = {"torch": torch.__version__, "cores": os.cpu_count(), "load": load}
    begun, busy = time.perf_counter(), time.process_time()
    for index in options.settings:
        name, (config, most) = list(SETTINGS.items())[index]
        whole = options.whole or index == 0
        found[name] = tell_setting(name, config, most, whole, options.seconds, options.rounds)
    found["cpu over wall"] = (time.process_time() - busy) / max(time.perf_counter() - begun, 1e-9)
    print(f"CPU over wall time so far: {found['cpu over wall']:.2f}", flush=True)
    if options.processes:
        found["processes"] = tell_processes(options.processes)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

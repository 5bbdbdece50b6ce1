"""Time and memory of work that is to be compared: in turn, in one process."""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
Clock = Callable[[], float]

SAMPLE_SECONDS = 0.02
MOST_ROUNDS = 30
# A first round as long as this is a round like the others: what warms up, and what is recorded, takes milliseconds.
LONG_ROUND = 10.0


def finish(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, times: int, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Seconds for each of so many runs in a row, by this clock."""
    finish(device)
    begun = clock()
    for _ in range(times):
        work()
    finish(device)
    return (clock() - begun) / times


def first_run(work: Work, device: torch.device) -> tuple[float, int]:
    """Seconds of one run, and the most bytes of tensors at one time above those before it.

    What the work returns counts. On a CPU the bytes are from PyTorch's own record of every allocation: exact, and the
    same on every run. Scratch memory inside the libraries for matrix products is in no such record.
    """
    if device.type == "cuda":
        seconds(work, 1, device)  # the workspace of the library for matrix products is allocated once and stays
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        took = seconds(work, 1, device)
        return took, torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        begun = time.perf_counter()
        result = work()
        took = time.perf_counter() - begun
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event["name"] == "[memory]"]
    events.sort(key=lambda event: event["ts"])
    return took, int(np.cumsum([event["args"]["Bytes"] for event in events]).max(initial=0))


def in_turn(
    works: Mapping[str, Work], budget: float, least: int, device: torch.device, clock: Clock = time.perf_counter
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each work in each of several rounds, every round in another order; and the bytes of each.

    A sample of short work is the mean over a row of runs of 20 ms or more. The rounds are as many as fit into the
    budget in seconds, but at least ``least`` and at most 30.
    """
    first = {name: first_run(work, device) for name, work in works.items()}
    took: dict[str, list[float]] = {name: [] for name in works}
    times = dict.fromkeys(works, 1)
    a_round = sum(once for once, _ in first.values())
    if a_round >= LONG_ROUND:
        took = {name: [once] for name, (once, _) in first.items()}
    else:
        again = {name: seconds(work, 3, device, clock) for name, work in works.items()}
        times = {name: math.ceil(SAMPLE_SECONDS / once) for name, once in again.items()}
        a_round = sum(times[name] * once for name, once in again.items())
    rounds = min(MOST_ROUNDS, max(least, int(budget / a_round)))
    names = list(works)
    for i in range(len(took[names[0]]), rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            took[name].append(seconds(works[name], times[name], device, clock))
    return took, {name: most for name, (_, most) in first.items()}


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, high = np.quantile(values, [0.25, 0.75])
    return {"median": statistics.median(values), "low": float(low), "high": float(high)}


def ratios(above: list[float], below: list[float]) -> dict[str, float]:
    """Median and quartiles of the ratios, round by round."""
    return summary([a / b for a, b in zip(above, below, strict=True)])

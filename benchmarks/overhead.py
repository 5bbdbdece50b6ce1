"""What the house costs: fit against a bare loop, import, embedding new rows, and half a million rows.

    python benchmarks/overhead.py [--data FOLDER] [--threads 1] [--json FILE]

Every figure is a ratio of things measured in turn in one run: median, and in brackets the lowest and highest.
``--data`` (or VICREG_DATA) names a folder with pmlb_kddcup.parquet; without it the last part is left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from vicreg import VICReg, VICRegLoss
from vicreg.data import as_frame, fit_spec, read_table
from vicreg.inference import ROWS_AT_ONCE, Embedder
from vicreg.training.config import TableConfig
from vicreg.training.optim import one_cycle, parameter_groups
from vicreg.training.table import joint_embedding, resident, table_run
from vicreg.views import table_views

KDDCUP = "pmlb_kddcup.parquet"


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def ratio(ours: Callable[[], object], theirs: Callable[[], object], times: int) -> dict[str, float]:
    """Ours over theirs, pair by pair."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(times)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "ours_seconds": statistics.median(a for a, _ in pairs),
        "theirs_seconds": statistics.median(b for _, b in pairs),
    }


def bare_loop(x: np.ndarray, sources: np.ndarray, config: TableConfig, steps: int) -> None:
    """The same networks, views and loss in a plain PyTorch loop: no Fabric, no objective, no record."""
    views = table_views(config.views, config.view_rate)
    table = resident(x, sources, views, torch.device("cpu"))
    model = joint_embedding(config, x)
    loss = VICRegLoss(config.sim_coeff, config.std_coeff, config.cov_coeff, config.variance_target)
    projection, offset = model.decoder.projection, model.decoder.offset
    p, weight = x.shape[1], config.reconstruction * len(sources) / len(np.unique(sources))
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(0)
    permutation = torch.randperm(len(x), generator=generator)
    position = 0
    for step in range(steps):
        if position + config.batch_size > len(x):
            permutation, position = torch.randperm(len(x), generator=generator), 0
        batch = table.batch(permutation[position : position + config.batch_size])
        position += config.batch_size
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * one_cycle(step, steps)
        out = model([view(batch, generator) for view in views])
        total = loss(*out.z)
        wanted = torch.cat((batch.x, batch.x @ projection.T + offset), dim=1)
        for decoded in out.decoded:
            errors = (decoded - wanted).square().mean(dim=0)
            total = total + weight * errors[:p].mean() / 2 + config.anchor * errors[p:].mean() / 2
        optimizer.zero_grad()
        total.backward()
        optimizer.step()


def fit_against_bare_loop(times: int) -> dict[str, float]:
    frame = as_frame(load_digits().data)
    spec = fit_spec(frame)
    x, steps = spec.apply(frame), 300
    config = TableConfig(steps=steps, device="cpu")
    views = table_views(config.views, config.view_rate)
    return ratio(
        lambda: table_run(config, x, spec.sources, views).train(),
        lambda: bare_loop(x, spec.sources, config, steps),
        times,
    )


def import_beyond_torch(times: int) -> dict[str, float]:
    """Seconds of ``import vicreg`` after ``import torch``, in fresh processes."""
    code = "import time, torch; begun = time.perf_counter(); import vicreg; print(time.perf_counter() - begun)"
    took = sorted(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(times))
    return {"seconds": statistics.median(took), "lowest": took[0], "highest": took[-1]}


def embed_against_forward(times: int) -> dict[str, float]:
    """Rows per second of new rows of 64 numeric columns against the encoder's forward pass on a ready matrix."""
    rows = np.random.default_rng(0).normal(3, 2, (100_000, 64))
    model = VICReg(steps=2, random_state=0).fit(rows[:1000])
    embedder: Embedder = model.embedder_
    ready = torch.from_numpy(embedder.vectorise(rows))

    def forward() -> None:
        with torch.inference_mode():
            for chunk in ready.split(ROWS_AT_ONCE):
                embedder.encoder(chunk)

    embedder.transform(rows[:1000])
    return ratio(forward, lambda: embedder.transform(rows), times)


def large_table(data: Path, rows: int) -> dict[str, float]:
    """Seconds and memory of fitting and embedding so many rows of kddcup, in a process of its own."""
    done = subprocess.check_output([sys.executable, __file__, "--large", str(data / KDDCUP), "--rows", str(rows)])
    return json.loads(done)


def fit_and_embed(path: Path, rows: int) -> dict[str, float]:
    frame = read_table(path).drop(["target"])
    if rows < frame.n_rows:
        frame = frame.take(np.random.default_rng(0).permutation(frame.n_rows)[:rows])
    model = VICReg(random_state=0, device="cpu")
    fitted = seconds(lambda: model.fit(frame))
    embedded = seconds(lambda: model.transform(frame))
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": rows, "fit_seconds": fitted, "embed_seconds": embedded, "gigabytes": gigabytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--large", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.large:
        print(json.dumps(fit_and_embed(options.large, options.rows)))
        return
    found: dict[str, object] = {"torch": torch.__version__, "threads": options.threads}
    print(
        f"torch {torch.__version__}, {options.threads} threads, median of {options.times} [lowest, highest]", flush=True
    )

    def tell(name: str, what: str, bound: str, result: dict[str, float], key: str = "ratio") -> None:
        found[name] = result
        spread = f"[{result['lowest']:.3f}, {result['highest']:.3f}]"
        print(f"{what:60} {result[key]:.3f} {spread}   (to reach: {bound})", flush=True)

    tell(
        "import",
        "import vicreg beyond import torch, seconds",
        "at most 0.3",
        import_beyond_torch(options.times),
        "seconds",
    )
    tell("fit", "fit time / bare loop", "at most 1.1", fit_against_bare_loop(options.times))
    tell("embed", "embedding speed / forward pass", "at least 0.7", embed_against_forward(options.times))
    if options.data and (Path(options.data) / KDDCUP).exists():
        small, large = (large_table(Path(options.data), rows) for rows in (50_000, 494_020))
        took = [one["fit_seconds"] + one["embed_seconds"] for one in (small, large)]
        growth = took[1] / took[0] / (large["rows"] / small["rows"])
        found["large"] = {"small": small, "large": large, "growth": growth}
        print(f"kddcup, {small['rows']:,} rows: {took[0]:.1f} s, {small['gigabytes']:.2f} GiB", flush=True)
        print(f"kddcup, {large['rows']:,} rows: {took[1]:.1f} s, {large['gigabytes']:.2f} GiB   (to reach: below 6)")
        print(f"growth of time against linear growth{'':24} {growth:.3f}   (to reach: at most 1.2)")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

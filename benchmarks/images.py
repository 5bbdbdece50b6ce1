"""Pretraining on pictures: what it adds to a training step, how fast views and files are, and whether it helps.

    python benchmarks/images.py                               speed: a step, two processes, views, JPEG files
    python benchmarks/images.py --quick --data FOLDER         Fashion-MNIST on a CPU, 3 seeds, under 20 minutes
    python benchmarks/images.py --cifar --data FOLDER         CIFAR-10 by the recipe cifar10-resnet18, on a GPU

FOLDER (or VICREG_DATA) holds fashion_mnist.npz and cifar10_jpeg.parquet. The quick study learns from the 60,000
training pictures without their labels and judges raw pixels, PCA, the untrained encoder and the trained one on the test
pictures; its settings were chosen on training pictures alone. --cifar goes on where it stopped, so that it can be run
in pieces (--minutes); with --steps and --width it is a short run for a CPU, which shows the curve and is not judged.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from vicreg import __version__, workflows
from vicreg.data import GivenImages, Subset, read_images
from vicreg.evaluation import ProbeComparison, pca, weighted_knn
from vicreg.inference import ImageEmbedder
from vicreg.networks import ResNet, drawn
from vicreg.runs import Run
from vicreg.training.config import ImageConfig
from vicreg.training.engine import State, machine
from vicreg.training.image import image_run
from vicreg.training.recipes import CIFAR10_RESNET18
from vicreg.views import ImageView, evaluation_view
from vicreg.workflows import Interrupted

HERE = Path(__file__).parent
SPEED = ("image_step.py", "image_views.py", "image_decoding.py")
METRICS = ("knn20", "linear")

# Chosen on training pictures alone (docs/experiments.md). Grey pictures have no colours to jitter.
QUICK = ImageConfig(image_size=28, steps=1000, batch_size=256, precision="bf16-mixed", device="cpu")
QUICK_VIEW = ImageView(28, scale=(0.2, 1.0), grayscale=0.0, saturation=0.0, hue=0.0, blur=0.0)


def quick_encoder(seed: int) -> ResNet:
    return drawn(lambda: ResNet("basic", (1, 1, 1), 64, "imagenet"), torch.Generator().manual_seed(seed))


def one_seed(data: Path, seed: int, steps: int, out: Path) -> None:
    """Train from one seed, judge on the test pictures, write what was found."""
    torch.set_num_threads(1)
    with np.load(data / "fashion_mnist.npz") as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    encoder = quick_encoder(seed)
    config = replace(QUICK, seed=seed, steps=steps)
    run = image_run(config, GivenImages(x), machine("cpu", precision=config.precision), encoders=[encoder])
    run.feed.views = (QUICK_VIEW, QUICK_VIEW)
    begun = time.process_time()
    trained = run.train([say_now_and_then]).model.encoder
    seconds = time.process_time() - begun
    raw = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    axes = pca(raw[0][::6], encoder.width)
    sets = {"raw": raw, "pca": tuple(axes.transform(part).astype(np.float32) for part in raw)}
    for name, network in (("random", encoder.eval()), ("vicreg", trained)):
        embedder = ImageEmbedder(network, evaluation_view(28))
        sets[name] = (embedder.transform(x), embedder.transform(x_test))
    comparison = ProbeComparison(sets, y, y_test, epochs=20, random_state=seed)
    print(comparison.summary(), flush=True)
    scores = [[s.representation, s.metric, s.value] for s in comparison.scores]
    (out / f"quick-{seed}.json").write_text(json.dumps({"seed": seed, "cpu_seconds": seconds, "scores": scores}))


def say_now_and_then(state: State) -> None:
    if state.step % 100 == 0:
        terms = dict(zip(state.names, state.terms[state.step - 1].tolist(), strict=True))
        print(f"step {state.step}", {name: round(value, 3) for name, value in terms.items()}, flush=True)


def quick(data: Path, seeds: int, steps: int, out: Path) -> None:
    """All seeds, two processes of one thread at a time; then mean and spread of each score."""
    begun = time.monotonic()
    waiting = [seed for seed in range(seeds) if not (out / f"quick-{seed}.json").exists()]
    running: list[subprocess.Popen] = []
    while waiting or running:
        while waiting and len(running) < 2:
            command = [sys.executable, __file__, "--data", str(data), "--out", str(out), "--steps", str(steps)]
            with (out / f"quick-{waiting[0]}.log").open("w") as log:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                one = [*command, "--one-seed", str(waiting.pop(0))]
                running.append(subprocess.Popen(one, stdout=log, stderr=subprocess.STDOUT, env=environment))
        time.sleep(1)
        if any(process.poll() not in (None, 0) for process in running):
            sys.exit(f"a run failed; see {out}/quick-*.log")
        running = [process for process in running if process.poll() is None]
    found = [json.loads((out / f"quick-{seed}.json").read_text()) for seed in range(seeds)]
    print(f"Fashion-MNIST, {steps} steps, {seeds} seeds, {time.monotonic() - begun:.0f} s in all; {versions()}")
    names = dict.fromkeys(name for name, *_ in found[0]["scores"])
    values = {(n, m): [s[2] for one in found for s in one["scores"] if s[:2] == [n, m]] for n in names for m in METRICS}
    for metric in METRICS:
        least = min(values["vicreg", metric])
        for name in names:
            of = values[name, metric]
            beaten = "" if name == "vicreg" else f"   vicreg's worst seed less this one's best: {least - max(of):+.3f}"
            print(f"{metric:7} {name:7} {statistics.mean(of):.4f} +- {statistics.stdev(of):.4f}{beaten}")


def cifar(data: Path, steps: int | None, width: int | None, minutes: float, device: str, out: Path) -> None:
    """CIFAR-10 by the recipe, in pieces; judged on the test pictures by probes on the training ones."""
    parts = {name: out / f"cifar10-{name}.parquet" for name in ("train", "test")}
    if not all(path.exists() for path in parts.values()):
        table = pq.read_table(data / "cifar10_jpeg.parquet")
        for name, path in parts.items():
            pq.write_table(table.filter(pc.equal(table["split"], name)).select(["jpeg", "label"]), path)
    precision = "bf16-mixed"
    config = replace(CIFAR10_RESNET18, steps=steps, precision=precision, device=device, width=width)
    folder = out / f"cifar10-{'full' if steps is None else steps}"
    curve = Curve(parts["train"], folder, 500 if steps is None else max(1, steps // 10), minutes)
    run = Run(folder)
    try:
        if not run.finished():
            begin = workflows.resume_collection if run.exists() else workflows.fit_collection
            begin(str(parts["train"]), folder, workflows.Reading(), config, callbacks=[curve])
    except Interrupted as stop:
        print(f"{stop}; run the same command again to go on")
        return
    if steps is not None:
        return
    judged = workflows.evaluate_collection(folder, str(parts["train"]), workflows.Reading("label"), str(parts["test"]))
    print(f"{versions()}\n{judged.comparison.summary() if judged.comparison else judged.notes}")


class Curve:
    """Neighbours of 2,000 training pictures among 5,000 others, now and then; and an end to each piece of the run."""

    def __init__(self, path: Path, folder: Path, every: int, minutes: float) -> None:
        source = read_images(path, "label")
        rows = np.random.default_rng(0).permutation(len(source))
        self.bank, self.asked = (Subset(source, np.sort(part)) for part in (rows[:5_000], rows[5_000:7_000]))
        self.path, self.every = folder / "curve.csv", every
        self.until = time.monotonic() + 60 * minutes

    def __call__(self, state: State) -> None:
        """After every step."""
        if state.step % self.every == 0 or state.step in (1, state.steps):
            state.model.eval()
            embedder = ImageEmbedder(state.model.encoder, evaluation_view(32))
            codes = np.asarray(self.bank.labels).astype(int)
            k = weighted_knn(embedder.transform(self.bank), codes, embedder.transform(self.asked), 10, k=(20,))[20]
            state.model.train()
            right = float((np.asarray(k) == np.asarray(self.asked.labels).astype(int)).mean())
            total = float(state.terms[state.step - 1, -1])
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow([state.step, f"{total:.4f}", f"{right:.4f}", f"{time.time():.0f}"])
            print(f"step {state.step} of {state.steps}: total {total:.3f}, kNN {right:.3f}", flush=True)
        if time.monotonic() > self.until:
            self.until = float("inf")
            os.kill(os.getpid(), signal.SIGINT)


def speed() -> None:
    for script in SPEED:
        print(f"\n$ python benchmarks/{script}", flush=True)
        subprocess.run([sys.executable, str(HERE / script)], check=True)


def versions() -> str:
    return f"vicreg {__version__}, torch {torch.__version__}, numpy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cifar", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--out", type=Path, default=HERE / "out" / "images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--minutes", type=float, default=8.0, help="length of a piece of --cifar")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one-seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.data is None and (options.quick or options.cifar):
        parser.error("name the folder of the data by --data or VICREG_DATA")
    if options.one_seed is not None:
        one_seed(Path(options.data), options.one_seed, options.steps, options.out)
    elif options.quick:
        quick(Path(options.data), options.seeds, options.steps or QUICK.steps or 1000, options.out)
    elif options.cifar:
        cifar(Path(options.data), options.steps, options.width, options.minutes, options.device, options.out)
    else:
        speed()


if __name__ == "__main__":
    main()

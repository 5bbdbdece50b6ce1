"""Does covariance_estimator="unbiased" let small batches train like large ones? Plug-in against unbiased, held out.

    python benchmarks/unbiased.py [--data FILE.npz] [--seeds 5] [--json FILE.jsonl] [--page FILE.md]

``--data`` (or VICREG_DATA: the file, or a folder with fashion_mnist.npz) names Fashion-MNIST as ``x_train``,
``y_train``, ``x_test``, ``y_test`` in one .npz file; without it only the digits of scikit-learn are measured. A plain
loop: two random views of a picture, an encoder and an expander with layer or group norm (batch norm would see the size
of the batch as well), ``VICRegLoss``, AdamW, warm-up and cosine.

Primary: every batch size sees equally many samples, which costs the same and is how published tables of batch sizes
are made. Learning rate and cov_coeff are chosen for each batch size and each estimator from the same grid, by fits of
half the length from seeds of their own (three for digits, two for Fashion-MNIST) and the mean of 5-NN and linear probe
of h on validation rows. Test rows are looked at only by the fits that are reported: cov_coeff 1 with its best learning
rate, and the best of the whole grid ("tuned"). Secondary: equally many steps (those of the batch of 128), at the
settings tuned before. A seed (first weights, order, views) is shared by both estimators, and their difference is taken
seed by seed. Every finished fit is written at once and not done again when the command is.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import sklearn
import torch
from scipy.stats import t as student
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Generator, Tensor, nn

from vicreg import VICRegLoss
from vicreg.functional import covariance, noise_floor, rankme, standard_deviation

OUT = Path(__file__).parent / "out" / "unbiased.jsonl"
BATCHES = (32, 64, 128, 256)
ESTIMATORS = ("plugin", "unbiased")
WEIGHTS = (0.25, 1.0, 4.0)
SCORES = ("knn", "linear")


@dataclass(frozen=True)
class Problem:
    """Pictures (n, side, side) scaled to [0, 1], split once; how they are varied; the networks; samples of a fit."""

    name: str
    pictures: Tensor
    labels: np.ndarray
    rows: dict[str, np.ndarray]
    reach: int
    zoom: float
    flips: bool
    encoder: Callable[[], nn.Module]
    expander: Callable[[], nn.Module]
    rates: tuple[float, ...]
    tuning_seeds: range
    samples: int


def digits() -> Problem:
    x, y = load_digits(return_X_y=True)
    rest, test = train_test_split(np.arange(len(y)), test_size=500, random_state=0, stratify=y)
    train, valid = train_test_split(rest, test_size=300, random_state=0, stratify=y[rest])
    pictures = torch.from_numpy(x.astype(np.float32) / 16).reshape(-1, 8, 8)
    rows = {"train": train, "valid": valid, "test": test}
    encoder = partial(perceptron, 64, 128, 8)
    expander = partial(perceptron, 8, 256, 256)
    return Problem(
        "digits", pictures, y, rows, 1, 0.0, False, encoder, expander, (1e-3, 3e-3, 1e-2), range(1000, 1003), 96_000
    )


def fashion(path: Path) -> Problem:
    with np.load(path) as file:
        draw = np.random.default_rng(0).permutation(len(file["y_train"]))[:12_000]
        x = np.concatenate([file["x_train"][draw], file["x_test"]])
        y = np.concatenate([file["y_train"][draw], file["y_test"]])
    train, valid, test = np.split(np.arange(len(y)), [10_000, 12_000])
    pictures = torch.from_numpy(x.astype(np.float32) / 255)
    rows = {"train": train, "valid": valid, "test": test}
    expander = partial(perceptron, 32, 256, 512)
    return Problem(
        "fashion",
        pictures,
        y,
        rows,
        2,
        0.3,
        True,
        convolutions,
        expander,
        (3e-4, 1e-3, 3e-3),
        range(1000, 1002),
        64_000,
    )


def perceptron(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths[:-1]):
        layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(*widths[-2:]))


def convolutions() -> nn.Module:
    first = [nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU()]
    second = [nn.Conv2d(8, 16, 3, 2, 1), nn.GroupNorm(1, 16), nn.ReLU()]
    third = [nn.Conv2d(16, 32, 3, 2, 1), nn.GroupNorm(1, 32), nn.ReLU()]
    return nn.Sequential(*first, *second, *third, nn.Flatten(), nn.Linear(512, 32))


def varied(pictures: Tensor, problem: Problem, generator: Generator) -> Tensor:
    """Each picture shifted, enlarged, perhaps mirrored, of another contrast, with noise."""
    n, side, _ = pictures.shape
    reach, middle = problem.reach, (side - 1) / 2

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    signs = torch.ones(2, n, 1)
    signs[1] -= 2.0 * (problem.flips & (uniform(n, 1) < 0.5))
    places = (torch.arange(side) - middle) * signs * (1 - problem.zoom * uniform(2, n, 1)) + middle
    shifts = torch.randint(2 * reach + 1, (2, n, 1), generator=generator)
    down, across = places.round().long() + shifts
    padded = nn.functional.pad(pictures, (reach,) * 4)
    moved = padded[torch.arange(n)[:, None, None], down[:, :, None], across[:, None, :]]
    noise = torch.randn(moved.shape, generator=generator)
    return moved * (0.7 + 0.6 * uniform(n, 1, 1)) + 0.1 * noise


@dataclass(frozen=True)
class Fit:
    """What is asked of one fit, and what tells it from the others in the file."""

    dataset: str
    judged: str
    batch: int
    steps: int
    estimator: str
    rate: float
    weight: float
    seed: int


def warm_up_and_cosine(step: int, steps: int) -> float:
    """Share of the learning rate: a tenth of the steps up, the others down."""
    up = max(1, steps // 10)
    return (step + 1) / up if step < up else 0.5 + 0.5 * math.cos(math.pi * (step - up) / max(1, steps - up))


def trained(problem: Problem, fit: Fit) -> tuple[nn.Module, nn.Module]:
    """Encoder and expander after the fit's steps."""
    torch.manual_seed(fit.seed)
    encoder, expander = problem.encoder(), problem.expander()
    loss = VICRegLoss(cov_coeff=fit.weight, covariance_estimator=fit.estimator)
    parameters = [*encoder.parameters(), *expander.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=fit.rate, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warm_up_and_cosine, steps=fit.steps))
    generator = Generator().manual_seed(fit.seed)
    pictures = problem.pictures[problem.rows["train"]]
    order = torch.empty(0, dtype=torch.long)
    for _ in range(fit.steps):
        if len(order) < fit.batch:
            order = torch.randperm(len(pictures), generator=generator)
        rows, order = order[: fit.batch], order[fit.batch :]
        both = torch.cat([varied(pictures[rows], problem, generator) for _ in range(2)])
        z_a, z_b = expander(encoder(both)).chunk(2)
        optimizer.zero_grad()
        loss(z_a, z_b).backward()
        optimizer.step()
        schedule.step()
    return encoder.eval(), expander.eval()


@torch.no_grad()
def judged(problem: Problem, fit: Fit, encoder: nn.Module, expander: nn.Module) -> dict[str, float]:
    """5-NN and linear probe of h; and how the embeddings of fresh views of training rows spread and correlate."""
    rows = problem.rows[fit.judged]
    h, unseen = encoder(problem.pictures[problem.rows["train"]]).numpy(), encoder(problem.pictures[rows]).numpy()
    if not np.isfinite(h).all():
        return dict.fromkeys(SCORES, 0.0)
    labels, wanted = problem.labels[problem.rows["train"]], problem.labels[rows]
    scale = StandardScaler().fit(h)
    neighbours = KNeighborsClassifier(5, algorithm="brute").fit(h, labels)
    probe = LogisticRegression(max_iter=2000, tol=1e-3).fit(scale.transform(h), labels)
    z = expander(encoder(varied(problem.pictures[problem.rows["train"][:4000]], problem, Generator().manual_seed(0))))
    spread = standard_deviation(z)
    return {
        "knn": float(neighbours.score(unseen, wanted)),
        "linear": float(probe.score(scale.transform(unseen), wanted)),
        "rank_h": rankme(torch.from_numpy(h[:4000])).item(),
        "rank_z": rankme(z).item(),
        "deviation": spread.mean().item(),
        "covariance": covariance(z, "unbiased").item(),
        "floor": noise_floor(spread.square(), fit.batch).item(),
    }


class Book:
    """Finished fits, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.found: dict[Fit, dict[str, float]] = {}
        for line in lines:
            row = json.loads(line)
            self.found[Fit(**row["fit"])] = row["result"]

    def result(self, problem: Problem, fit: Fit) -> dict[str, float]:
        """The fit's scores and readings, after training it if it is not there yet."""
        if fit not in self.found:
            begun = time.perf_counter()
            networks = trained(problem, fit)
            seconds = time.perf_counter() - begun
            self.found[fit] = judged(problem, fit, *networks) | {"seconds": seconds}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps({"fit": vars(fit), "result": self.found[fit]}) + "\n")
            said = "  ".join(f"{name} {value:.3f}" for name, value in self.found[fit].items())
            print(" ".join(str(value) for value in vars(fit).values()), "|", said, flush=True)
        return self.found[fit]


def score(result: dict[str, float]) -> float:
    return statistics.mean(result[name] for name in SCORES)


def chosen(book: Book, problem: Problem, batch: int, estimator: str) -> dict[str, tuple[float, float]]:
    """Learning rate and cov_coeff by validation rows: with cov_coeff 1, and of the whole grid."""
    steps = problem.samples // 2 // batch
    tried = {
        (rate, weight): statistics.mean(
            score(book.result(problem, Fit(problem.name, "valid", batch, steps, estimator, rate, weight, seed)))
            for seed in problem.tuning_seeds
        )
        for rate, weight in product(problem.rates, WEIGHTS)
    }
    at_one = {setting: value for setting, value in tried.items() if setting[1] == 1}
    return {"cov_coeff 1": max(at_one, key=at_one.__getitem__), "tuned": max(tried, key=tried.__getitem__)}


Cell = tuple[str, str, int, str]  # how compared, dataset, batch size, estimator


def measured(book: Book, problems: list[Problem], seeds: int) -> tuple[dict[Cell, list], dict[Cell, tuple]]:
    """The results of every cell by seed, and its learning rate and cov_coeff."""
    results: dict[Cell, list[dict[str, float]]] = {}
    settings: dict[Cell, tuple[float, float]] = {}
    for equal_steps, problem in product((False, True), problems):
        for batch, estimator in product(BATCHES, ESTIMATORS):
            steps = problem.samples // (128 if equal_steps else batch)
            for name, setting in chosen(book, problem, batch, estimator).items():
                if equal_steps and name != "tuned":
                    continue
                cell = (f"equal {'steps' if equal_steps else 'samples'}, {name}", problem.name, batch, estimator)
                settings[cell] = setting
                results[cell] = [
                    book.result(problem, Fit(problem.name, "test", batch, steps, estimator, *setting, seed))
                    for seed in range(seeds)
                ]
    return results, settings


def interval(differences: list[float]) -> str:
    """Mean in points, with the 95 % t-interval over the seeds."""
    mean = 100 * statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    reach = 100 * student.ppf(0.975, len(differences) - 1) * statistics.stdev(differences)
    return f"{mean:+.1f} ± {reach / math.sqrt(len(differences)):.1f}"


def page(results: dict[Cell, list], settings: dict[Cell, tuple]) -> Iterator[str]:
    """Tables: scores, differences by seed in points, settings, readings."""

    def differences(one: Cell, other: Cell, name: str) -> str:
        return interval([a[name] - b[name] for a, b in zip(results[one], results[other], strict=True)])

    def mean(cell: Cell, name: str) -> float:
        return statistics.mean(result[name] for result in results[cell])

    for how, dataset in dict.fromkeys(cell[:2] for cell in results):
        yield f"\n{dataset}, {how}\n"
        heading = " | ".join(f"{title} {part}" for title in ("5-NN", "linear") for part in (*ESTIMATORS, "difference"))
        yield f"| batch | {heading} | difference of the mean of both |\n|---|{'---|' * 7}"
        for batch in BATCHES:
            plugin, unbiased = ((how, dataset, batch, estimator) for estimator in ESTIMATORS)
            said = [
                part
                for name in SCORES
                for part in (
                    f"{100 * mean(plugin, name):.1f}",
                    f"{100 * mean(unbiased, name):.1f}",
                    differences(unbiased, plugin, name),
                )
            ]
            gaps = [score(a) - score(b) for a, b in zip(results[unbiased], results[plugin], strict=True)]
            yield f"| {batch} | {' | '.join([*said, interval(gaps)])} |"
        titles = ["batch", "estimator", "learning rate", "cov_coeff", "5-NN against plug-in at 256", "linear"]
        titles += ["deviation of z", "covariance of z", "noise floor", "RankMe of z", "RankMe of h"]
        yield f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}"
        for batch, estimator in product(BATCHES, ESTIMATORS):
            cell = (how, dataset, batch, estimator)
            large = (how, dataset, BATCHES[-1], ESTIMATORS[0])
            gaps = [differences(cell, large, name) if cell != large else "" for name in SCORES]
            rate, weight = settings[cell]
            read = [f"{mean(cell, name):.2f}" for name in ("deviation", "covariance", "floor")]
            read += [f"{mean(cell, name):.1f}" for name in ("rank_z", "rank_h")]
            yield f"| {' | '.join([str(batch), estimator, f'{rate:g}', f'{weight:g}', *gaps, *read])} |"


def same_settings(book: Book) -> Iterator[str]:
    """On validation rows, unbiased less plug-in in points at the same settings: mean over learning rates and seeds."""
    gaps: dict[tuple[str, int, float], list[float]] = {}
    for fit, result in book.found.items():
        if fit.judged == "valid" and fit.estimator == "unbiased":
            other = book.found.get(replace(fit, estimator="plugin"))
            if other:
                gaps.setdefault((fit.dataset, fit.batch, fit.weight), []).append(score(result) - score(other))
    yield f"\nvalidation rows, same settings\n\n| dataset | batch | {' | '.join(f'cov_coeff {w:g}' for w in WEIGHTS)} |"
    yield f"|---|---|{'---|' * len(WEIGHTS)}"
    for dataset, batch in dict.fromkeys(key[:2] for key in gaps):
        means = [f"{100 * statistics.mean(gaps[dataset, batch, weight]):+.1f}" for weight in WEIGHTS]
        yield f"| {dataset} | {batch} | {' | '.join(means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=OUT)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problems = [digits()]
    if options.data:
        path = Path(options.data)
        problems.append(fashion(path / "fashion_mnist.npz" if path.is_dir() else path))
    book = Book(options.json)
    results, settings = measured(book, problems, options.seeds)
    lines = [f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, one thread, {options.seeds} seeds."]
    lines += [*page(results, settings), *same_settings(book)]
    print("\n".join(lines))
    if options.page:
        options.page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

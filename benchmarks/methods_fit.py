"""One fit of the comparison of objectives: data split once, networks, training, and what is read off afterwards."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq
import tables
import torch
from PIL import Image
from sklearn.model_selection import train_test_split
from torch import Generator, nn

from vicreg.data import GivenImages, fit_spec
from vicreg.diagnostics import Finding
from vicreg.diagnostics.failures import LEAST_DEVIATION, fewest_directions
from vicreg.evaluation import knn, linear_probe, pca
from vicreg.functional import participation_ratio, rankme, standard_deviation
from vicreg.inference import Embedder, ImageEmbedder
from vicreg.networks import ResNet, drawn
from vicreg.objectives import Objective, objective_of, simclr, vicreg
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.engine import Diverged, machine, start
from vicreg.training.image import ImageRun, image_run
from vicreg.training.momentum import rising
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.training.table import TableRun, joint_embedding, table_run
from vicreg.views import ImageView, evaluation_view, image_views, table_views

REFERENCES = ("PCA", "untrained")
LENGTHS = {"digits": (400, 256), "satimage": (400, 256), "fashion": (200, 128), "cifar10": (10_000, 256)}
"""Steps of a fit and rows of a step."""


@dataclass(frozen=True)
class Method:
    """An objective and what is tuned of it beside the learning rate.

    Attributes:
        knob: In words.
        values: Of the knob, the library's default first; as many for every method that has one.
        terms: The terms whose weights the value multiplies; where there are none it is the temperature or the momentum.
    """

    knob: str
    values: tuple[float, ...]
    terms: tuple[str, ...] = ()

    def objective(self, name: str, value: float) -> Objective:
        """The objective of this name, at a value of the knob."""
        if self.knob == "temperature":
            return simclr(value)
        named = objective_of(name)
        return named | {term: replace(named[term], weight=named[term].weight * value) for term in self.terms}


QUARTERS, TENTHS = (1.0, 0.25, 4.0), (1.0, 0.1, 10.0)
METHODS = {
    "vicreg": Method("weight of the covariance", QUARTERS, ("covariance",)),
    "barlow_twins": Method("weight off the diagonal", QUARTERS, ("off_diagonal",)),
    "simclr": Method("temperature", (0.1, 0.2, 0.5)),
    "byol": Method("momentum", (0.99, 0.9, 0.996)),
    "simsiam": Method("", (1.0,)),
    "vibcreg": Method("weight of the correlation", QUARTERS, ("correlation",)),
    "vicregl": Method("weight of the local terms", QUARTERS, ("local", "located")),
    "sigreg": Method("weight of the Gaussian term", QUARTERS, ("sigreg",)),
    "visreg": Method("weight of scale, shape, centre", QUARTERS, ("scale", "shape", "centre")),
    "byol+variance": Method("weight of the variance", TENTHS, ("variance",)),
    "simsiam+variance": Method("weight of the variance", TENTHS, ("variance",)),
    "simsiam+variance+covariance": Method("weight of variance and covariance", TENTHS, ("variance", "covariance")),
    "vicreg+sigreg": Method("weight of the Gaussian term", QUARTERS, ("sigreg",)),
}


@dataclass(frozen=True)
class Fit:
    """What is asked of one fit, and what tells it from the others in the file.

    Attributes:
        data: Name of the data set.
        judged: On which rows: valid or test; it learns from all other training rows.
        method: A name in ``METHODS`` or ``REFERENCES``.
        value: Of the method's knob.
        rate: The highest learning rate.
        seed: Of networks, order and views.
        steps: Optimiser steps.
        batch: Rows of a step.
        expander: Widths of its layers.
        norm: Whether there is batch norm anywhere.
        coefficients: VICReg's three, in place of the knob.
    """

    data: str
    judged: str
    method: str
    value: float
    rate: float
    seed: int
    steps: int
    batch: int
    expander: tuple[int, ...] = (256, 256)
    norm: bool = True
    coefficients: tuple[float, ...] = ()

    def objective(self) -> Objective:
        """What is trained."""
        if self.coefficients:
            return vicreg(*self.coefficients)
        return METHODS[self.method].objective(self.method, self.value)

    def momentum(self) -> Callable[[int, int], float]:
        """Of an averaged target."""
        tuned = self.method in METHODS and METHODS[self.method].knob == "momentum"
        return partial(rising, base=self.value) if tuned else rising


class Problem(Protocol):
    """A data set, split once: ``rows`` has fit, valid and test, of which the first two are the training rows."""

    labels: np.ndarray
    rows: dict[str, np.ndarray]

    def run(self, fit: Fit, rows: np.ndarray) -> TableRun | ImageRun:
        """A run on these rows, ready to go."""

    def embed(self, encoder: nn.Module) -> np.ndarray:
        """Representations of all rows."""

    def flat(self) -> np.ndarray:
        """All rows as plain numbers."""


class Columns:
    """A table: its own view (neighbour swap), an encoder of 16 outputs without linear path, no reconstruction."""

    def __init__(self, name: str, folder: Path | None) -> None:
        frame, self.labels = tables.sources(folder)[name]()
        train, test = tables.split(self.labels, by_class=True)
        fit, valid = train_test_split(train, test_size=0.25, random_state=0, stratify=self.labels[train])
        self.rows = {"fit": fit, "valid": valid, "test": test}
        self.spec = fit_spec(frame.take(train))
        self.x = self.spec.apply(frame)

    def run(self, fit: Fit, rows: np.ndarray) -> TableRun:
        """A run on these rows, ready to go."""
        config = TableConfig(
            steps=max(1, fit.steps),
            batch_size=fit.batch,
            learning_rate=fit.rate,
            expander=fit.expander,
            linear_path=False,
            reconstruction=0.0,
            device="cpu",
            seed=fit.seed,
        )
        objective = fit.objective()
        run = table_run(config, self.x[rows], self.spec.sources, table_views(config.views), chosen=objective)
        how = replace(run.how, momentum=fit.momentum())
        if fit.norm:
            return replace(run, how=how)
        model = without_norms(joint_embedding(config, self.x[rows], chosen=objective))
        return replace(run, how=how, state=start(model, run.place, how))

    def embed(self, encoder: nn.Module) -> np.ndarray:
        """Representations of all rows."""
        return Embedder(encoder, self.spec).encode(self.x)

    def flat(self) -> np.ndarray:
        """The features that the networks get."""
        return self.x


@dataclass
class Pictures:
    """Pictures: crops, flips and colours, a ResNet, AdamW with warm-up and cosine."""

    x: np.ndarray
    labels: np.ndarray
    rows: dict[str, np.ndarray]
    view: ImageView
    blocks: tuple[int, ...]
    width: int
    stem: str
    device: str = "cpu"

    def run(self, fit: Fit, rows: np.ndarray) -> ImageRun:
        """A run on these rows, ready to go."""
        config = ImageConfig(
            objective="vicreg" if fit.coefficients else fit.method,
            image_size=self.view.size,
            optimizer="adamw",
            steps=max(1, fit.steps),
            batch_size=fit.batch,
            learning_rate=fit.rate * 256 / fit.batch,
            expander=fit.expander,
            device=self.device,
            seed=fit.seed,
        )
        generator = Generator().manual_seed(fit.seed)
        encoder = drawn(lambda: ResNet("basic", self.blocks, self.width, self.stem), generator)
        run = image_run(config, GivenImages(self.x[rows]), machine(self.device), encoders=[encoder])
        run.feed.views = (self.view, self.view)
        return replace(run, objective=fit.objective(), how=replace(run.how, momentum=fit.momentum()))

    def embed(self, encoder: nn.Module) -> np.ndarray:
        """Representations of all rows."""
        return ImageEmbedder(encoder, evaluation_view(self.view.size)).transform(self.x)

    def flat(self) -> np.ndarray:
        """Pixels."""
        return self.x.reshape(len(self.x), -1).astype(np.float32) / 255


def fashion(folder: Path) -> Pictures:
    """5,000 training and 5,000 test pictures; a tiny encoder, two stages of one block, maps of 4 x 4."""
    with np.load(folder / "fashion_mnist.npz") as file:
        x, y = (np.concatenate([file[f"{kind}_train"][:5000], file[f"{kind}_test"][:5000]]) for kind in "xy")
    view = ImageView(28, scale=(0.2, 1.0), grayscale=0.0, saturation=0.0, hue=0.0, blur=0.0)
    return Pictures(x, y.astype(int), numbered(5000), view, (1, 1), 16, "imagenet")


def cifar(folder: Path) -> Pictures:
    """All of CIFAR-10 and a ResNet-18: for a GPU."""
    file = pq.read_table(folder / "cifar10_jpeg.parquet").sort_by([("split", "descending")])
    x = np.stack([np.asarray(Image.open(io.BytesIO(jpeg.as_py()))) for jpeg in file["jpeg"]])
    y = file["label"].to_numpy().astype(int)
    view = image_views("cifar", 32)[0]
    return Pictures(x, y, numbered(50_000, len(x)), view, (2, 2, 2, 2), 64, "small", device="auto")


def numbered(train: int, count: int = 10_000) -> dict[str, np.ndarray]:
    """Splits of rows in random order, of which the first are the training rows."""
    fit, valid, test = np.split(np.arange(count), [train * 4 // 5, train])
    return {"fit": fit, "valid": valid, "test": test}


PROBLEMS: dict[str, Callable[[Path | None], Problem]] = {
    "digits": partial(Columns, "digits"),
    "satimage": partial(Columns, "satimage"),
    "fashion": fashion,
    "cifar10": cifar,
}


def without_norms(model: nn.Module) -> nn.Module:
    """The same networks with a bias in place of each batch norm."""
    for part in model.modules():
        if isinstance(part, nn.Sequential):
            for i in range(1, len(part)):
                if isinstance(part[i], nn.BatchNorm1d):
                    before = part[i - 1]
                    before.bias = nn.Parameter(torch.zeros(before.out_features), before.weight.requires_grad)
                    part[i] = nn.Identity()
    return model


def outcome(problem: Problem, fit: Fit) -> dict[str, object]:
    """Train and judge; a run that diverges has scores of 0 and no readings."""
    train = problem.rows["fit"]
    if fit.judged == "test":
        train = np.concatenate([train, problem.rows["valid"]])
    if fit.method == "PCA":
        h, seconds, findings = pca(problem.flat()[train], fit.expander[0]).transform(problem.flat()), 0.0, []
    else:
        try:
            encoder, seconds, findings = trained(problem, fit, train)
        except Diverged:
            return {"linear": 0.0, "knn": 0.0, "diverged": True}
        h = problem.embed(encoder)
    scores = judged(np.asarray(h, dtype=np.float64), problem.labels, train, problem.rows[fit.judged])
    return {**scores, "seconds": seconds, "findings": [one.failure for one in findings]}


def trained(problem: Problem, fit: Fit, rows: np.ndarray) -> tuple[nn.Module, float, list[Finding]]:
    """The encoder, seconds of CPU, and what the monitor named; one that is no method's stays as it was drawn."""
    begun = time.process_time()
    findings: list[Finding] = []
    if fit.method not in METHODS:
        return problem.run(replace(fit, method="vicreg"), rows).state.model.encoder.eval(), 0.0, findings
    run = problem.run(fit, rows)
    run.train([monitored(monitor_of(run.objective, findings.append), run.objective)])
    return run.state.model.encoder, time.process_time() - begun, findings


def judged(h: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Scores of a representation, and its readings on the held-out rows."""
    sides = h[train], labels[train], h[test], labels[test]
    readings = {name: read(torch.from_numpy(h[test])) for name, read in READINGS.items()}
    scores = {"linear": linear_probe, "knn": knn}
    return {name: float(score(*sides, task="classification").mean()) for name, score in scores.items()} | readings


def squared_correlation(h: torch.Tensor) -> float:
    """Mean squared correlation of different columns; about 1 / n for independent ones, and a constant has none."""
    x = standardised(h)
    d = x.shape[1]
    squares = (x.T @ x / (len(x) - 1)).square()
    return ((squares.sum() - squares.trace()) / (d * (d - 1))).item()


def standardised(h: torch.Tensor) -> torch.Tensor:
    """Columns of mean 0 and deviation 1; constant ones are 0."""
    spread = standard_deviation(h)
    return (h - h.mean(0)) / torch.where(spread > 0, spread, 1)


READINGS: dict[str, Callable[[torch.Tensor], float]] = {
    "rankme": lambda h: rankme(h).item(),
    "correlation": squared_correlation,
    "deviation": lambda h: (standard_deviation(h).mean() / h.square().mean().sqrt().clamp_min(1e-30)).item(),
    "directions": lambda h: participation_ratio(standardised(h)).item(),
    "width": lambda h: float(h.shape[1]),
}
"""The last three tell a collapse: deviation over the size of the entries, directions that the columns vary along."""


def collapsed(result: dict[str, object]) -> bool:
    """Whether the representation has collapsed, by the limits of the library's monitor; a diverged run has."""
    if result.get("diverged"):
        return True
    return result["deviation"] < LEAST_DEVIATION or result["directions"] < fewest_directions(int(result["width"]))

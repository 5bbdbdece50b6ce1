"""One branch, two branches of one form, two that differ: what VICReg, Barlow Twins and SimCLR lose."""

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from branches_store import Key, Row
from sklearn.datasets import load_digits
from torch import Generator, nn

from vicreg.data import GivenImages
from vicreg.evaluation import knn, linear_probe
from vicreg.inference import ImageEmbedder
from vicreg.networks import ResNet, ViT, drawn
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.engine import machine
from vicreg.training.image import image_run
from vicreg.training.table import table_run
from vicreg.views import ImageView, evaluation_view, table_views

FORMS = ("shared", "separate", "different")
OBJECTIVES = ("vicreg", "barlow_twins", "simclr")
SETS = ("digits", "fashion")

# Digits are a table of 64 pixels here, learnt as the paper has it: no reconstruction, no linear path.
DIGITS = TableConfig(
    n_components=32,
    reconstruction=0.0,
    linear_path=False,
    encoder=(128, 128),
    expander=(256, 256, 256),
    steps=1000,
    batch_size=256,
    device="cpu",
)
BRANCHES = {"shared": ("128-128",) * 2, "separate": ("128-128",) * 2, "different": ("128-128", "256")}

FASHION = ImageConfig(
    image_size=28,
    expander=(512, 512),
    steps=200,
    batch_size=256,
    optimizer="adamw",
    weight_decay=1e-2,
    warmup_epochs=2,
    device="cpu",
)
FASHION_VIEW = ImageView(28, scale=(0.2, 1.0), grayscale=0.0, saturation=0.0, hue=0.0, blur=0.0)
ROWS = 5000

# The rates that had the best mean of 5-NN and linear probe for each method with one shared branch, among RATES, on rows
# held out of the training rows: `--part rates` tells.
RATES = {"digits": (3e-4, 1e-3, 3e-3), "fashion": (3e-4, 1e-3, 3e-3)}
CHOSEN = {
    ("digits", "vicreg"): 1e-3,
    ("digits", "barlow_twins"): 3e-3,
    ("digits", "simclr"): 3e-3,
    ("fashion", "vicreg"): 3e-3,
    ("fashion", "barlow_twins"): 3e-3,
    ("fashion", "simclr"): 3e-3,
}


def keys(seeds: int, steps: int | None) -> list[Key]:
    """The study's runs: those of one seed for every cell before those of the next."""
    return [
        {"part": "weights", "data": data, "objective": objective, "form": form, "seed": seed,
         "steps": steps or steps_of(data), "rate": CHOSEN[data, objective]}
        for seed, data, objective, form in product(range(seeds), SETS, OBJECTIVES, FORMS)
    ]  # fmt: skip


def rate_keys(seeds: int, steps: int | None) -> list[Key]:
    """The runs that the learning rates are chosen by: of a shared branch, judged on held-out training rows."""
    return [
        {"part": "rates", "data": data, "objective": objective, "form": "shared", "seed": 1000,
         "steps": steps or steps_of(data), "rate": rate}
        for data, objective in product(SETS, OBJECTIVES) for rate in RATES[data]
    ]  # fmt: skip


def steps_of(data: str) -> int:
    return (DIGITS if data == "digits" else FASHION).steps or 0


@cache
def rows_of(data: str, folder: Path | None, validation: bool) -> tuple[Any, ...]:
    """Training rows and their labels, then those to judge on: of the training rows themselves for a validation."""
    if data == "digits":
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(x))
        train, test = order[:1300], order[1300:]
        x = (x - x[train].mean(0)) / np.where(x[train].std(0) > 0, x[train].std(0), 1.0)
        x, judged, y_judged = x.astype(np.float32), test, y
    else:
        if folder is None:
            raise SystemExit("name the folder of fashion_mnist.npz by --data or VICREG_DATA")
        with np.load(folder / "fashion_mnist.npz") as file:
            pictures, labels = file["x_train"], file["y_train"]
            order = np.random.default_rng(0).permutation(len(pictures))[:ROWS]
            x = np.concatenate((pictures[order], file["x_test"][:ROWS]))
            y_judged = np.concatenate((labels[order], file["y_test"][:ROWS]))
        train, judged = np.arange(len(order)), np.arange(len(order), len(x))
    if validation:
        cut = len(train) * 4 // 5
        train, judged = train[:cut], train[cut:]
    return x[train], y_judged[train], x[judged], y_judged[judged]


def run(key: Key, folder: Path | None) -> Row:
    """Train as the key says; 5-NN and linear probe of the first branch's encoder, and of the second's if there is."""
    x, y, x_test, y_test = rows_of(key["data"], folder, key["part"] == "rates")
    encoders = trained(key, x)
    found: Row = {}
    for prefix, encode in zip(("", "second_"), encoders, strict=False):
        z, z_test = encode(x), encode(x_test)
        for name, score in (("knn", knn), ("linear", linear_probe)):
            found[prefix + name] = float(score(z, y, z_test, y_test, task="classification").mean())
    return found


def trained(key: Key, x: np.ndarray) -> list[Any]:
    """Functions from rows to the representations of each branch."""
    shared = key["form"] == "shared"
    settings = {name: key[name] for name in ("objective", "seed", "steps")} | {"learning_rate": key["rate"]}
    if key["data"] == "digits":
        config = replace(DIGITS, branches=BRANCHES[key["form"]], shared=shared, **settings)
        model = table_run(config, x, np.arange(x.shape[1]), table_views("neighbors")).train().model
        return [encoder_of(branch.encoder) for branch in model.eval().branches]
    config = replace(FASHION, shared=shared, **settings)
    prepared = image_run(config, GivenImages(x), machine("cpu"), encoders=fashion_encoders(key["form"], key["seed"]))
    prepared.feed.views = (FASHION_VIEW, FASHION_VIEW)
    model = prepared.train().model.eval()
    return [ImageEmbedder(branch.encoder, evaluation_view(28)).transform for branch in model.branches]


def encoder_of(encoder: nn.Module) -> Any:
    def encode(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return encoder(torch.from_numpy(x)).numpy()

    return encode


def fashion_encoders(form: str, seed: int) -> list[nn.Module]:
    """A small ResNet for each branch; with branches that differ, the second is a small vision transformer."""
    generator = Generator().manual_seed(seed)
    count = 1 if form == "shared" else 2
    made: list[nn.Module] = [drawn(lambda: ResNet("basic", (1, 1, 1), 32, "imagenet"), generator) for _ in range(count)]
    if form == "different":
        made[1] = drawn(lambda: ViT(28, 7, 96, depth=4, heads=3), generator)
    return made

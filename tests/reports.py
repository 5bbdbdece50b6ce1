"""Folders of runs for the tests of the report, made after the files' description and without any fit; a browser."""

import csv
import io
import json
import os
import shutil
import wave
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from vicreg import runs

HOSTILE = "<script>alert(1)</script>"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTEFACTS = Path(os.environ.get("VICREG_ARTEFACTS", Path(__file__).parent / "artefacts"))
"""Screenshots; ignored by git."""


def make_run(folder, n=400, *, kind="table", steps=60, seed=0, columns=5, finished=True, media=None, label="kind"):
    """A whole run of n rows in three groups; returns what its map is made of."""
    rng = np.random.default_rng(seed)
    portrait = folder / "portrait"
    portrait.mkdir(parents=True)
    _config(folder, kind, n, steps, label)
    _curves(folder, portrait, rng, steps)
    group = rng.integers(0, 3, n)
    h = rng.normal(size=(n, 4)) + 3 * np.eye(3, 4)[group]
    raw = rng.normal(size=(n, 6)) + 2 * np.eye(3, 6)[group]
    for name, step, scale in (("start", 1, 0.4), ("end", steps, 1.0)):
        parts = {"representation": scale * h, "embedding a": scale * raw, "embedding b": scale * raw}
        _snapshot(portrait / f"{name}.safetensors", step, parts)
    if not finished:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "last.safetensors").write_bytes(b"")
        return None
    colours = {label: np.array(["round", "square", HOSTILE])[group], HOSTILE: rng.normal(size=n)}
    colours |= {f"column {k}": rng.normal(size=n) for k in range(columns - 2)}
    neighbors = np.stack([nearest(h), nearest(raw)]) if n <= 2000 else rng.integers(0, n, (2, n, 10))
    places = {"pca": h[:, :2], "other" if kind == "pair" else "raw": raw[:, :2]}
    items = [f"item {k}" for k in range(n)]
    items[3] = HOSTILE
    write_map(portrait, items, rng.random(n) < 0.2, places, colours)
    runs.write_array(portrait / "neighbors.npy", neighbors.astype(np.int32))
    if media:
        write_media(portrait, min(n, 40), media)
    if kind == "table":
        names = [HOSTILE, *(f"column {k}" for k in range(columns - 1))]
        shares = rng.dirichlet(np.ones(len(names)), 6).T
        header = ["column", "permutation", "jacobian", *(f"component {k}" for k in range(4))]
        runs.write_csv(
            portrait / "influence.csv", header, [[a, *b] for a, b in zip(names, shares.tolist(), strict=True)]
        )
    if kind == "pair":
        write_pair(folder, rng, n)
    write_scores(folder / ("scores-a.csv" if kind == "pair" else "scores.csv"))
    words = (
        "The winner is vicreg: with 4 numbers per row, vicreg predicts the labels of 80 held-out rows better than pca."
    )
    facts = {"words": [words], "notes": ["A note."], "wall_seconds": 12.5, "began": "2026-01-01T00:00:00+00:00"}
    facts |= {"device": "cpu", "resumed_at": [steps // 2], "command": "vicreg fit things.csv", "kind": kind}
    runs.write_json(portrait / "facts.json", facts)
    (folder / "encoder.safetensors").write_bytes(b"not read by a report")
    return {"h": h, "raw": raw, "items": items, "neighbors": neighbors, "group": group}


def nearest(x, k=10):
    """The k nearest other rows, by all distances."""
    distance = ((x[:, None] - x[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, :k]


def _config(folder, kind, n, steps, label):
    config = {"kind": kind, "source": "things.csv", "rows": n, "pictures": n, "signals": n, "pairs": n, "labels": label}
    config |= {
        "settings": {"objective": "vicreg", "steps": steps, "encoder": [128, 128]},
        "versions": {"vicreg": "0.1.0"},
    }
    if kind == "pair":
        config |= {"left": {"source": "left.csv"}, "right": {"source": "right.csv"}, "key": "id"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def _curves(folder, portrait, rng, steps):
    step = np.arange(1, steps + 1)
    names = ["invariance", "variance_a", "variance_b", "covariance_a", "covariance_b", "total"]
    values = rng.random((steps, len(names))) + 10 / step[:, None]
    runs.write_csv(folder / "metrics.csv", ["step", *names], np.column_stack((step, values)).tolist())
    looks = ["step", "seconds", "learning_rate", "rows_per_second", "deviation representation", "rankme representation"]
    looks += ["covariance representation", "floor representation", "share invariance", "share variance"]
    lines = [[at, at / 10, 0.001, 1000, 0.9, 3.5, 0.5, 0.1, 0.4, 0.6] for at in range(1, steps + 1, 10)]
    lines[0][-2:] = ["", ""]
    runs.write_csv(portrait / "looks.csv", looks, lines)


def _snapshot(path, step, parts):
    tensors = {}
    for name, x in parts.items():
        covariance = np.cov(x.T)
        edges = np.linspace(x.min(), x.max(), 41)
        found = {
            "eigenvalues": np.linalg.eigvalsh(covariance)[::-1].copy(),
            "covariance": covariance,
            "deviation": x.std(0, ddof=1),
            "edges": edges,
            "histograms": np.stack([np.histogram(column, edges)[0] for column in x.T]),
        }
        tensors |= {f"{name}/{key}": torch.tensor(value).float() for key, value in found.items()}
    runs.write_tensors(path, tensors, {"step": step, "parts": list(parts)})


def write_map(portrait, items, held_out, places, colours, plain=None):
    """The map as a fit leaves it."""
    columns = {"item": items, "row": np.arange(len(items)), "held_out": held_out}
    for name, xy in places.items():
        columns |= {f"{name}_{axis}": xy[:, k].astype(np.float32) for k, axis in enumerate("xy")}
    columns |= {f"colour {name}": values for name, values in colours.items()}
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    plain = plain or {
        "two_dimensional": False,
        "explained": [0.5, 0.25],
        "raw_explained": [0.3, 0.2],
        "total": len(items),
    }
    table = table.replace_schema_metadata({"vicreg": json.dumps({"what_raw": "the columns", **plain})})
    pq.write_table(table, portrait / "map.parquet")


def write_media(portrait, count, what):
    """Thumbnails or sounds of the first items."""
    mime, content = ("image/jpeg", _picture) if what == "pictures" else ("audio/wav", _sound)
    table = pa.table(
        {
            "position": pa.array(range(count), pa.int32()),
            "mime": pa.array([mime] * count),
            "content": pa.array([content(k) for k in range(count)], pa.binary()),
        }
    )
    pq.write_table(table, portrait / "media.parquet")


def _picture(k):
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (5 * k % 255, 90, 200)).save(file, "JPEG", quality=60)
    return file.getvalue()


def _sound(k):
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(bytes((128 + 40 * np.sin(np.arange(400) * (k + 1) / 20)).astype(np.uint8)))
    return file.getvalue()


def write_pair(folder, rng, n):
    """What only pairs have."""
    examples = [
        {
            "query_side": side,
            "query": k,
            "found": [k if right else (k + 1) % n, *range(20, 24)],
            "rank": 1 if right else 9,
        }
        for side in "ab"
        for k in range(4)
        for right in (True, False)
    ]
    runs.write_json(folder / "portrait" / "retrieval.json", {"n": n, "held_out": True, "examples": examples})
    runs.write_array(folder / "portrait" / "cross.npy", np.eye(4, dtype=np.float32))
    rows = [
        [who, way, "recall@1", value] for who, value in (("cca", 0.5), ("vicreg", 0.75)) for way in ("both", "a to b")
    ]
    runs.write_csv(folder / "scores-retrieval.csv", ["representation", "direction", "metric", "value"], rows)


def write_scores(path):
    """Scores of three representations."""
    header = ["representation", "width", "task", "metric", "value", "low", "high", "rows"]
    rows = []
    for name, width, value in (("raw", 6, 0.9), ("pca", 4, 0.85), ("vicreg", 4, 0.95)):
        rows.append([name, width, "classification", "knn", value, value - 0.03, value + 0.02, 80])
        rows.append([name, width, "classification", "ari", value / 2, "", "", 80])
    runs.write_csv(path, header, rows)


def text_table(path):
    """A CSV file as rows of text."""
    return list(csv.reader(Path(path).read_text(encoding="utf-8").splitlines()))


def chromium():
    """Where a Chromium is; the test is skipped where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("VICREG_CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("No Chromium: install Debian's package chromium, or name one by VICREG_CHROMIUM.")
    return found


@contextmanager
def browser():
    """A Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield opened
        finally:
            opened.close()


class Visit:
    """A page in a browser, with all that it asked of networks and said to the console."""

    def __init__(self, opened, url, *, width=1280, height=900, drawn=True, **options):
        self.context = opened.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.said, self.asked, self.dialogs = [], [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        if drawn:
            self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)

    def js(self, expression):
        """The value of an expression in the page."""
        return self.page.evaluate(expression)

    def until(self, expression, value, seconds=60):
        """Wait until an expression has a value; the page's policy forbids Playwright's own way."""
        for _ in range(seconds * 5):
            if self.js(expression) == value:
                return True
            self.page.wait_for_timeout(200)
        return False

    def shot(self, name, **options):
        """Keep a picture of it."""
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", **options)

    def wide(self):
        """By how much it is wider than the window."""
        return self.js("document.documentElement.scrollWidth - innerWidth")

    def point(self, item, panel=0):
        """Where an item of the map is in the window."""
        self.page.locator(".stage").nth(panel).scroll_into_view_if_needed()
        where = f"vicreg.map.panels[{panel}]"
        box = self.js(f"(() => {{ const b = {where}.over.getBoundingClientRect(); return [b.left, b.top]; }})()")
        x, y = self.js(f"{where}.to({item})")
        return box[0] + x, box[1] + y

    def quiet(self):
        """Whether nothing was said, nothing asked of a network, and no dialog opened."""
        outside = [url for url in self.asked if not url.startswith(("file:", "blob:", "data:"))]
        return (self.said, outside, self.dialogs) == ([], [], [])

"""Sounds and series for the tests of the command line, and the flags as people type them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
from pyarrow import parquet

RATE = 4000
TINY = ["--width", "4", "--expander", "16", "--batch-size", "8", "--device", "cpu"]


def tones(count, seed=0):
    """Tones of three pitches in noise, of .2 to .3 seconds, and which pitch each has."""
    draw = np.random.default_rng(seed)
    kinds = np.arange(count) % 3
    found = []
    for kind in kinds:
        time = np.arange(int(draw.integers(800, 1200))) / RATE
        wave = np.sin(2 * np.pi * (300 * 2**kind * time + draw.random()))
        found.append((0.3 * wave + 0.05 * draw.normal(size=len(time))).astype(np.float32))
    return found, kinds


def tree(path, count=30):
    """Recordings in three folders; one of them is damaged."""
    for index, (sound, kind) in enumerate(zip(*tones(count), strict=True)):
        file = Path(path, f"kind{kind}", f"{index:03}.wav")
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, sound, RATE)
    Path(path, "kind0", "000.wav").write_bytes(b"no recording")


def series(count, channels=2, time=60, seed=0):
    """Series of two kinds, which drift up or down, (count, channels, time), and their kinds."""
    draw = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    drift = np.linspace(-1, 1, time) * np.where(kinds, 1, -1)[:, None]
    return (drift[:, None] + draw.normal(size=(count, channels, time)) * 0.2).astype(np.float32), kinds


def long_table(path, count=30, **more):
    """Series as a long table, in a CSV or Parquet file."""
    x, kinds = series(count, **more)
    count, _, time = x.shape
    columns = {
        "walk": np.repeat([f"w{index}" for index in range(count)], time),
        "t": np.tile(np.arange(time) / 50, count),
        "kind": np.repeat(np.where(kinds, "up", "down"), time),
        "x": x[:, 0].reshape(-1),
        "y": x[:, 1].reshape(-1),
    }
    table = pa.table(columns)
    if Path(path).suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        table.to_pandas().to_csv(path, index=False)

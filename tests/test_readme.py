"""The README's blocks run, and those of pages that have some."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)  # noqa: S102  # our own README
    out = capsys.readouterr().out
    assert "vicreg" in out
    assert namespace["Z"].shape == namespace["Z_again"].shape == (89, 4)


@pytest.mark.parametrize("page", ["accumulate.md", "diagnostics.md", "images.md", "pairs.md", "signals.md"])
def test_python_blocks_of_a_page_run_in_order(page):
    namespace: dict[str, object] = {}
    found = blocks("python", (ROOT / "docs" / page).read_text())
    assert len(found) > 0
    for block in found:
        exec(compile(block, page, "exec"), namespace)  # noqa: S102  # our own pages


def shell_lines():
    return [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_make_targets_exist():
    targets = [line.removeprefix("make ") for line in shell_lines() if line.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr


@pytest.mark.slow
def test_shell_blocks_run_in_order(tmp_path):
    draw = np.random.default_rng(0)
    for name, rows in (("people.csv", 300), ("new.csv", 20), ("labelled.csv", 60)):
        income = draw.integers(0, 2, rows)
        frame = pd.DataFrame({"age": draw.normal(40 + 9 * income, 9), "city": draw.choice(["Bonn", "Lyon"], rows)})
        (frame if name == "new.csv" else frame.assign(income=income)).to_csv(tmp_path / name, index=False)
    vicreg = [sys.executable, "-c", "from vicreg.cli import main; main()"]
    for name in ("photos", "new", "train", "test"):
        for index in range(40):
            file = tmp_path / name / f"kind{index % 2}" / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(256, size=(9, 12, 3), dtype=np.uint8)).save(file)
    for name in ("sounds", "more"):
        for index in range(40):
            file = tmp_path / name / f"voice{index % 2}" / f"{index}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, 0.1 * draw.normal(size=4000), 8000)
    walks = pd.DataFrame({"walk": np.repeat(np.arange(30), 40), "t": np.tile(np.arange(40), 30)})
    walks.assign(who=walks.walk % 2, x=draw.normal(size=1200), y=draw.normal(size=1200)).to_csv(
        tmp_path / "steps.csv", index=False
    )
    left = pd.DataFrame(draw.normal(size=(200, 4)), columns=list("abcd")).rename_axis("id").reset_index()
    left.to_csv(tmp_path / "upper.csv", index=False)
    left.to_csv(tmp_path / "upper-new.csv", index=False)
    left.assign(e=draw.normal(size=200)).to_parquet(tmp_path / "lower.parquet")
    np.save(tmp_path / "embeddings.npy", draw.normal(size=(300, 8)))
    commands = [line for line in shell_lines() if line.startswith("vicreg ")]
    assert len(commands) >= 3
    for command in commands:
        tiny = re.match(r"vicreg fit (photos/|sounds/|steps.csv)", command)
        short = re.match(r"vicreg (fit|tune) (people|upper).csv", command)
        small = ["--width", "16", "--steps", "2"] if tiny else ["--steps", "20"] if short else []
        words = command.replace("--trials 40", "--trials 2").split()[1:]
        done = subprocess.run([*vicreg, *words, *small], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "new.parquet").exists()
    assert (tmp_path / "encoder.onnx").exists()
    shutil.rmtree(tmp_path)

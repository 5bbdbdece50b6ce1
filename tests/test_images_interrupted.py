"""Runs on pictures that are stopped or killed on their way, and gone on with: bit-identical to uninterrupted ones."""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import assert_same_files, run
from images import TINY, array, shards, tree

from vicreg import runs
from vicreg.training import progress
from vicreg.workflows import checkpoints

COMMANDS = {
    "array": ["array.npz", "--labels", "labels", *TINY, "--epochs", "10"],
    "tree": ["tree", "--labels", "folder", *TINY, "--epochs", "10"],
    "unlabelled": ["tree", *TINY, "--epochs", "10"],
    "shards": ["shards", *TINY, "--steps", "30", "--epochs", "10"],
}
STEPS = 30
EVERY_MOMENT = """
from vicreg.workflows import checkpoints
checkpoints.SECONDS_BETWEEN_CHECKPOINTS = {seconds}
checkpoints.SAVING_TAKES_ONE_IN = 0
from vicreg.cli import main
main()
"""
LAST = Path("run/checkpoint/last.safetensors")


def sources(folder):
    array(folder / "array.npz")
    tree(folder / "tree")
    shards(folder / "shards")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs, made when first asked for, in a folder beside their sources."""
    folder = tmp_path_factory.mktemp("whole")
    sources(folder)
    words = {
        name: [str(folder / one) if one in ("array.npz", "tree", "shards") else one for one in command]
        for name, command in COMMANDS.items()
    }

    def made(name):
        out = folder / f"run-{name}"
        if not out.exists():
            assert run("fit", *words[name], "--out", out) == 0
        return out

    return made


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources(tmp_path)


def epochs(folder):
    """What was found at each epoch, but for the time it took."""
    with (folder / "epochs.csv").open() as file:
        return [
            {name: value for name, value in row.items() if name != "pictures_per_second"}
            for row in csv.DictReader(file)
        ]


def assert_same(one, other):
    assert_same_files(one, other)
    assert epochs(one) == epochs(other)
    assert [float(row["step"]) for row in epochs(one)] == [3.0 * k for k in range(1, 11)]


def raised_at(step, number):
    """In place of progress: somebody who sends this process a signal."""
    return lambda state: signal.raise_signal(number) if state.step == step else None


QUICK, JUDGED = ["unlabelled", "shards"], ["array", "tree"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in JUDGED)])
def test_stopped_saves_and_resumed_is_bit_identical(whole, capsys, monkeypatch, name):
    uninterrupted = whole(name)
    capsys.readouterr()
    more = []
    for step, number, status in ((7, signal.SIGTERM, 143), (19, signal.SIGINT, 130)):
        with monkeypatch.context() as patch:
            patch.setattr(progress, "_line_per_tenth", raised_at(step, number))
            assert run("fit", *COMMANDS[name], "--out", "run", *more) == status
        said = f"vicreg: stopped and saved at step {step} of {STEPS}; the same command with --resume goes on.\n"
        assert capsys.readouterr().err == said
        more = ["--resume"]
    assert run("fit", *COMMANDS[name], "--out", "run", "--resume") == 0
    shown = capsys.readouterr()
    assert "Going on from step 19 of 30." in shown.out
    assert "epoch 6:" not in shown.out
    assert "epoch 7:" in shown.out
    assert_same(Path("run"), uninterrupted)
    assert run("fit", *COMMANDS[name], "--out", "run", "--resume") == 2
    assert "must be an unfinished run; got a finished one." in capsys.readouterr().err


class Killed(BaseException):
    """Nobody is asked, and nothing is written after it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["array", "shards"])
def test_killed_before_or_after_any_file_is_written(whole, monkeypatch, name):
    uninterrupted = whole(name)
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(checkpoints, "SAVING_TAKES_ONE_IN", 0)
    write, draw, more = runs.write_atomically, random.Random(0), []
    for _ in range(6):
        moments = iter(range(draw.randint(4, 40)))  # before and after each file

        def writes(path, *content, moments=moments):
            if next(moments, None) is None:
                raise Killed
            write(path, *content)
            if next(moments, None) is None:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(runs, "write_atomically", writes)
            with pytest.raises(Killed):
                run("fit", *COMMANDS[name], "--out", "run", *more)
        more = ["--resume"]
    assert 0 < runs.read_tensors(LAST)[1]["step"] < STEPS
    assert run("fit", *COMMANDS[name], "--out", "run", "--resume") == 0
    assert_same(Path("run"), uninterrupted)


def started(*words, seconds):
    """A fit in a process of its own, with a checkpoint every so often."""
    command = [sys.executable, "-c", EVERY_MOMENT.format(seconds=seconds), "fit", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def changed(path):
    """When a file was last written."""
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tree", "shards"])
def test_killed_at_random_moments_resumes_bit_identically(whole, name):
    uninterrupted = whole(name)
    draw, more = random.Random(0), []
    for _ in range(3):
        before = changed(LAST)
        process = started(*COMMANDS[name], "--out", "run", *more, seconds=0.0)
        wait_for(lambda before=before: changed(LAST) != before, process)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.communicate()
        more = ["--resume"]
    assert 0 < runs.read_tensors(LAST)[1]["step"] <= STEPS
    assert run("fit", *COMMANDS[name], "--out", "run", "--resume") == 0
    assert_same(Path("run"), uninterrupted)


@pytest.mark.slow
def test_two_processes_are_stopped_or_killed_together_and_go_on():
    Path("start.py").write_text(EVERY_MOMENT.format(seconds=0.0))
    fit = [sys.executable, "start.py", "fit", *COMMANDS["unlabelled"], "--devices", "2"]
    whole = subprocess.run([*fit, "--out", "whole"], capture_output=True, text=True, timeout=300)
    assert whole.returncode == 0, whole.stderr
    more = []
    for which, number, status in (
        ("first", signal.SIGTERM, 143),
        ("first", signal.SIGKILL, -9),
        ("second", signal.SIGKILL, None),
    ):
        before = changed(LAST)
        command = [*fit, "--out", "run", *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_for(lambda before=before: changed(LAST) != before, process)
        (other,) = children(process.pid)
        os.kill(process.pid if which == "first" else other, number)
        _, err = process.communicate(timeout=60)  # ends when both have let go of the pipe
        assert process.returncode in ((2, -9) if status is None else (status,)), err
        assert "Traceback" not in err
        if number == signal.SIGTERM:
            assert err.count("the same command with --resume goes on.") == 1
        more = ["--resume"]
    assert 0 < runs.read_tensors(LAST)[1]["step"] < STEPS
    last = subprocess.run([*fit, "--out", "run", "--resume"], capture_output=True, text=True, timeout=300)
    assert last.returncode == 0, last.stderr
    assert_same(Path("run"), Path("whole"))


def children(pid):
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found

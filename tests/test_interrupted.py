"""Runs that are stopped, killed or damaged on their way, and gone on with."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import QUICK, ROWS, assert_same_files, people, run
from safetensors.torch import load_file, save_file

from vicreg import runs
from vicreg.training import progress
from vicreg.workflows import fitting

LONG = ["people.csv", "--labels", "kind", "--exclude", "secret", *QUICK, "--steps", "400"]
UNLABELLED = ["people.csv", "--exclude", "secret", "kind", *QUICK, "--steps", "400"]
LEFT = ("encoder.safetensors", "encoder.json", "embeddings.parquet", "metrics.csv", "split.npy", "seen.npy")
EVERY_MOMENT = """
from vicreg.workflows import checkpoints
checkpoints.SECONDS_BETWEEN_CHECKPOINTS = {seconds}
from vicreg.cli import main
main()
"""
LAST, SECOND = Path("runs/people/checkpoint/last.safetensors"), Path("runs/people/checkpoint/second.safetensors")


def started(*words, seconds=10.0):
    """A fit in a process of its own, with a checkpoint every so often."""
    command = [sys.executable, "-c", EVERY_MOMENT.format(seconds=seconds), "fit", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people(ROWS).to_csv("people.csv", index=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs, with labels and without."""
    folder = tmp_path_factory.mktemp("whole")
    people(ROWS).to_csv(folder / "people.csv", index=False)
    for name, words in (("labelled", LONG), ("unlabelled", UNLABELLED)):
        assert run("fit", folder / "people.csv", *words[1:], "--out", folder / name) == 0
    return folder


def assert_same(whole, name, *more):
    for file in (*LEFT, *more):
        assert Path("runs/people", file).read_bytes() == (whole / name / file).read_bytes(), file
    assert_same_files("runs/people", whole / name)


def raised_at(step, number):
    """In place of progress: somebody who sends this process a signal."""
    return lambda state: signal.raise_signal(number) if state.step == step else None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_saves_and_resumed_is_bit_identical(whole, capsys, monkeypatch, number, status):
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_line_per_tenth", raised_at(123, number))
        assert run("fit", *LONG) == status
    said = "vicreg: stopped and saved at step 123 of 400; the same command with --resume goes on.\n"
    assert capsys.readouterr().err == said
    assert run("fit", *LONG, "--resume", "--learning-rate", "0.5") == 2
    assert run("fit", "people.csv", "--resume", "--labels", "city") == 2
    assert runs.read_tensors(LAST)[1]["step"] == 123
    assert run("fit", *LONG, "--resume") == 0
    assert "Going on from step 123 of 400." in capsys.readouterr().out
    assert_same(whole, "labelled", "scores.csv")
    assert run("fit", *LONG, "--resume") == 2


@pytest.mark.slow
def test_killed_at_random_moments_resumes_bit_identically(whole):
    draw = random.Random(0)
    process = started(*LONG)
    wait_for(Path("runs/people/config.yaml").exists, process)
    for moment in range(3):
        process.kill()
        process.communicate()
        assert LAST.exists() == (moment > 0)
        if moment < 2:
            before = changed(LAST)
            process = started(*LONG, "--resume", seconds=0.02)
            wait_for(lambda before=before: changed(LAST) != before, process)
            time.sleep(draw.uniform(0, 0.2))
    assert 0 < runs.read_tensors(LAST)[1]["step"] < 400
    for folder in (Path("runs/people"), LAST.parent):  # as a kill within a write does
        (folder / ".metrics.csv.0123abcd").write_text("half")
    assert run("fit", *LONG, "--resume") == 0
    assert_same(whole, "labelled", "scores.csv")


def changed(path):
    """When a file was last written."""
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.slow
def test_without_labels_the_second_fit_can_be_stopped_and_killed_too(whole, capsys):
    process = started(*UNLABELLED, seconds=0.02)
    wait_for(SECOND.exists, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "of 400; the same command with --resume goes on" in err
    assert run("embed", "runs/people", "people.csv", "--out", "early.parquet") == 0
    assert run("evaluate", "runs/people") == 2
    assert (
        "must hold readings to show without labels; got none. Finish the run with --resume." in capsys.readouterr().err
    )
    process = started(*UNLABELLED, "--resume", seconds=0.02)
    before = changed(SECOND)
    wait_for(lambda: changed(SECOND) != before, process)
    process.kill()
    process.communicate()
    assert run("fit", *UNLABELLED, "--resume") == 0
    assert "Going on from step 400 of 400." in capsys.readouterr().out
    assert_same(whole, "unlabelled", "readings.json")
    assert run("fit", *UNLABELLED, "--resume") == 2
    assert "must be an unfinished run; got a finished one" in capsys.readouterr().err


def test_the_second_fit_shows_its_progress(capsys):
    assert run("fit", *UNLABELLED, "--steps", "10") == 0
    assert capsys.readouterr().err.count("step 10/10") == 2


@pytest.mark.slow
def test_stopped_between_two_fits_goes_on(whole, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "judge_without_labels", stopped)
        assert run("fit", *UNLABELLED) == 130
    assert "vicreg: stopped; the same command with --resume goes on." in capsys.readouterr().err
    assert run("fit", *UNLABELLED, "--resume") == 0
    assert_same(whole, "unlabelled", "readings.json")


def test_stopped_while_reading_says_so(capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "read_table", stopped)
    assert run("fit", *LONG) == 130
    assert capsys.readouterr().err == "vicreg: stopped.\n"
    assert not Path("runs").exists()


def test_a_second_fit_that_fails_leaves_the_other_readings(capsys, monkeypatch):
    trained = fitting.train

    def diverging(table_run, checkpoint, *more):
        if checkpoint.name == "second.safetensors":
            raise ValueError("training must stay finite; got NaN at step 2.")
        return trained(table_run, checkpoint, *more)

    monkeypatch.setattr(fitting, "train", diverging)
    assert run("fit", *UNLABELLED, "--steps", "4") == 0
    said = capsys.readouterr().out
    assert "The stability cannot be told because training must stay finite; got NaN at step 2." in said
    assert "Trustworthiness" in said
    assert "stability" not in json.loads(Path("runs/people/readings.json").read_text())["readings"]


@pytest.fixture
def interrupted(monkeypatch):
    """The checkpoint of a run that was stopped at its second step."""
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_line_per_tenth", raised_at(2, signal.SIGINT))
        assert run("fit", *LONG, "--steps", "4") == 130
    return LAST


def resumed(capsys):
    """What a failing --resume says."""
    capsys.readouterr()
    assert run("fit", "people.csv", "--resume") == 2
    return capsys.readouterr().err


def test_a_damaged_checkpoint_is_named(interrupted, capsys):
    whole = interrupted.read_bytes()
    for content, said in (
        (whole[:100], "a damaged safetensors file"),
        (b"", "a damaged safetensors file"),
        (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], "content of another digest"),
    ):
        interrupted.write_bytes(content)
        said_of = f"checkpoint/last.safetensors' must be as vicreg wrote it; got {said}. Restore"
        assert said_of in resumed(capsys)


def test_tensors_renamed_or_missing_in_a_checkpoint_are_noticed(interrupted, capsys):
    tensors, plain = runs.read_tensors(interrupted)
    header = json.loads(interrupted.read_bytes()[8 : 8 + int.from_bytes(interrupted.read_bytes()[:8], "little")])
    for name in ("terms", "optimizer.0.exp_avg", sorted(tensors)[0]):
        less = load_file(interrupted)
        less["other." + name] = less.pop(name)
        damaged = interrupted.with_name("damaged.safetensors")
        save_file(less, damaged, header["__metadata__"])
        with pytest.raises(ValueError, match="content of another digest"):
            runs.read_tensors(damaged)
    for name in ("terms",):
        runs.write_tensors(interrupted, {key: tensors[key] for key in tensors if key != name}, plain)
        assert f"got a checkpoint that does not fit (KeyError('{name}'))." in resumed(capsys)
    for broken in ({}, {"step": 2}, plain | {"steps": "4"}, plain | {"names": 5}):
        runs.write_tensors(interrupted, tensors, broken)
        assert "got a checkpoint that does not fit (" in resumed(capsys)


def test_a_damaged_configuration_is_named(interrupted, capsys):
    config = interrupted.parent.parent / "config.yaml"
    whole = config.read_text()
    for old, new, said in (
        ("labels: kind", "labels: 5", "labels: 5"),
        ("- secret", "- 5", "exclude: [5]"),
        ("settings:", "nothing:", "a file without 'settings'"),
        ("  steps: 4", "  steps: four", "settings of which steps must be of type int; got 'four'. Restore"),
        ("  steps: 4", "  steps: !!int ''", "damaged YAML"),
        ("  steps: 4", "  stesp: 4", "settings of which a setting must be one of"),
    ):
        assert old in whole
        config.write_text(whole.replace(old, new))
        assert f"config.yaml' must be as vicreg wrote it; got {said}" in resumed(capsys)

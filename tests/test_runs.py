"""The run folder's files: whole or not at all, and never executed."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vicreg import runs
from vicreg.runs import Run


def test_tensors_and_json_come_back(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
    digest = runs.write_tensors(tmp_path / "x.safetensors", tensors, {"step": 7})
    again, plain = runs.read_tensors(tmp_path / "x.safetensors", expected=digest)
    assert plain == {"step": 7}
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "kept.json"
    runs.write_json(target, {"a": 1})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"'.*kept.json' must be writable; got 'No space left on device'. Free space"):
        runs.write_json(target, {"a": 2})
    assert runs.read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_an_unwritable_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be writable"):
        runs.write_json(tmp_path / "file" / "x.json", {})


@given(st.binary(max_size=200))
def test_damaged_files_are_value_errors(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, reader in (
            ("x.json", runs.read_json),
            ("x.yaml", runs.read_yaml),
            ("x.npy", runs.read_array),
            ("x.safetensors", runs.read_tensors),
        ):
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                reader(path)
            except ValueError as error:
                assert "must" in str(error)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_flipped_byte_of_the_tensors_is_noticed(position, change):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        digest = runs.write_tensors(path, {"a": torch.arange(100.0)}, {})
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= change
        path.write_bytes(bytes(content))
        with pytest.raises(ValueError, match="content of another digest"):
            runs.read_tensors(path, expected=digest)


def test_a_pickled_array_is_not_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="a damaged array"):
        runs.read_array(tmp_path / "x.npy")


def test_a_later_format_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="must have format 1; got 99. Use the newer vicreg"):
        runs.read_json(tmp_path / "x.json")


def test_a_run_is_never_begun_over_another(tmp_path):
    run = Run(tmp_path / "run")
    run.check_free()
    run.begin({"source": "x.csv"})
    assert run.read_config() == {"source": "x.csv"}
    with pytest.raises(ValueError, match="must hold no run yet; got an existing run. Go on with --resume"):
        run.check_free()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("")
    with pytest.raises(ValueError, match="must be a new or empty folder; got other files"):
        Run(tmp_path / "other").check_free()
    with pytest.raises(ValueError, match="must be the folder of a run; got no such folder"):
        Run(tmp_path / "nowhere").read_config()

"""The run folder's files: whole or not at all, and never executed."""

import contextlib
import errno
import functools
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vicreg import runs
from vicreg.data import as_frame, fit_spec
from vicreg.inference import Embedder, load
from vicreg.networks import TableEncoder
from vicreg.runs import Run


def test_tensors_and_json_come_back(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
    tensors |= {"none": torch.zeros(0, 3), "half": torch.ones(2, dtype=torch.bfloat16), "flags": torch.tensor([True])}
    plain = {"step": 7, "name": "ü\udc80", "share": 0.1, "names": ("a", "b")}
    runs.write_tensors(tmp_path / "x.safetensors", tensors, plain)
    again, found = runs.read_tensors(tmp_path / "x.safetensors")
    assert found == plain | {"names": ["a", "b"]}
    assert all(torch.equal(again[name], value) and again[name].dtype == value.dtype for name, value in tensors.items())


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


READERS = {
    "x.json": runs.read_json,
    "config.yaml": runs.read_yaml,
    "x.npy": runs.read_array,
    "x.safetensors": runs.read_tensors,
}


@functools.cache
def valid():
    """The content of a file of each kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.write_json(folder / "x.json", {"readings": {"width": 2.0}, "names": ["a", None, True]})
        Run(folder).begin({"source": "/data/x.csv", "labels": None, "exclude": ["a", "b"], "settings": {"steps": 4}})
        runs.write_array(folder / "x.npy", np.arange(9, dtype=np.uint64))
        runs.write_tensors(folder / "x.safetensors", {"a": torch.arange(20.0), "b": torch.tensor(3)}, {"step": 7})
        return {name: (folder / name).read_bytes() for name in READERS}


def read_or_refused(name, content):
    """A damaged file is read, or refused with an error of ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            READERS[name](path)
        except ValueError as error:
            assert f"'{path}' must " in str(error)


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_value_errors(name, data):
    whole = valid()[name]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 8, len(whole))))
    read_or_refused(name, whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:])


@given(st.binary(max_size=60))
@pytest.mark.parametrize(
    "start", [b"", b"{", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"!!timestamp ", b"\x08\0\0\0\0\0\0\0{"]
)
def test_any_bytes_are_read_or_refused_in_the_one_form(start, content):
    for name in READERS:
        read_or_refused(name, start + content)


@pytest.mark.parametrize(
    "content", ["!!int ''", "!!bool x", "!!timestamp x", "!!float ''", "2020-99-99", "a: " + "[" * 5000]
)
def test_what_yaml_stumbles_over_is_a_value_error(tmp_path, content):
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"x.yaml' must be as vicreg wrote it; got damaged YAML\. Restore"):
        runs.read_yaml(tmp_path / "x.yaml")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_every_flipped_byte_of_the_tensors_is_noticed(position, change):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        tensors, plain = {"a": torch.arange(100.0), "b": torch.ones(3)}, {"step": 7}
        runs.write_tensors(path, tensors, plain)
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= change
        path.write_bytes(bytes(content))
        try:
            found, again = runs.read_tensors(path)
        except ValueError as error:
            assert "content of another digest" in str(error) or "a damaged safetensors file" in str(error)
        else:  # one blank for another between the header's words
            assert again == plain
            assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_of_fits_that_begin_together_one_does(tmp_path):
    run = Run(tmp_path / "run")

    def begin(number):
        with contextlib.suppress(ValueError):
            run.begin({"number": number})
            return number

    with ThreadPoolExecutor(8) as threads:
        begun = [number for number in threads.map(begin, range(40)) if number is not None]
    assert [run.read_config()["number"]] == begun
    assert [path.name for path in run.folder.iterdir()] == ["config.yaml"]
    with pytest.raises(ValueError, match="must hold no run yet; got an existing run. Go on with --resume, or name"):
        run.begin({})


def test_a_run_begins_without_hard_links_too(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    run = Run(tmp_path)
    run.begin({"number": 1})
    assert run.read_config() == {"number": 1}
    with pytest.raises(ValueError, match="must hold no run yet; got an existing run"):
        run.begin({"number": 2})
    assert run.read_config() == {"number": 1}


@pytest.mark.parametrize("written", [0, 1])
def test_an_interrupted_save_leaves_an_encoder_that_loads(tmp_path, monkeypatch, written):
    rows = np.random.default_rng(0).normal(size=(20, 3))
    embedders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        embedders.append(Embedder(TableEncoder(3, 2, (4,), False).eval(), fit_spec(as_frame(rows + seed))))
    embedders[0].save(tmp_path)
    replaced = []
    replace = os.replace

    def interrupted(beside, target):
        if len(replaced) == written:
            raise KeyboardInterrupt
        replaced.append(target)
        replace(beside, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedders[1].save(tmp_path)
    monkeypatch.undo()
    np.testing.assert_array_equal(load(tmp_path).transform(rows), embedders[0].transform(rows))
    embedders[1].save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).transform(rows), embedders[1].transform(rows))


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

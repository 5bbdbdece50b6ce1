"""The run folder: what a run leaves behind, written so that a kill at any moment leaves the last good file.

Nothing here is ever read by executing it: tensors are safetensors, arrays are ``.npy`` without objects, the rest is
YAML, JSON and CSV.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from vicreg._checks import message, require

FORMAT = 1
"""Version of the files' layout; a later one is refused, not guessed at."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole or not at all.

    Raises:
        OSError: The folder cannot be written to or the disk is full; what was there before is untouched.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as failure:
        raise unwritable(path, failure) from failure
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def unwritable(path: Path, failure: OSError) -> OSError:
    """The error for a path that could not be written, in the package's form."""
    got = failure.strerror or str(failure)
    return OSError(message(f"{str(path)!r}", "be writable", f"'{got}'", "Free space or choose another place."))


def damaged(path: Path, why: str) -> ValueError:
    """The error for a file of a run that cannot be read."""
    return ValueError(
        message(f"{str(path)!r}", "be as vicreg wrote it", why, "Restore the folder from a copy, or fit again.")
    )


def read(path: Path) -> bytes:
    """A file of a run.

    Raises:
        ValueError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as missing:
        raise damaged(path, "no such file") from missing
    except OSError as failure:
        raise damaged(path, f"'{failure.strerror}'") from failure


def write_tensors(path: Path, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> str:
    """Tensors and JSON in one safetensors file, so that they can never be of different moments.

    Returns:
        A digest of the file, for files that belong to it.
    """
    content = tensors_to_bytes(dict(tensors), {"json": json.dumps({"format": FORMAT, **plain})})
    write_atomically(path, content)
    return digest(content)


def digest(content: bytes) -> str:
    """A short digest that tells files apart."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_tensors(path: Path, expected: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write_tensors` wrote.

    Args:
        path: The file.
        expected: The digest that it must have.

    Raises:
        ValueError: The file is missing, damaged, of another digest or of a later format.
    """
    content = read(path)
    if expected is not None and digest(content) != expected:
        raise damaged(path, "content of another digest")
    try:
        tensors = tensors_from_bytes(content)
        length = int.from_bytes(content[:8], "little")
        plain = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["json"])
    except (SafetensorError, KeyError, ValueError, TypeError) as failure:
        raise damaged(path, "a damaged safetensors file") from failure
    return tensors, _of_this_format(path, plain)


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """A mapping as JSON."""
    write_atomically(path, json.dumps({"format": FORMAT, **plain}, indent=1, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """What :func:`write_json` wrote.

    Raises:
        ValueError: The file is missing, damaged or of a later format.
    """
    content = read(path)
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as failure:
        raise damaged(path, "damaged JSON") from failure
    return _of_this_format(path, plain)


def _of_this_format(path: Path, plain: object) -> dict[str, Any]:
    if not isinstance(plain, dict) or not isinstance(plain.get("format"), int):
        raise damaged(path, "a file without a format")
    require(
        plain["format"] == FORMAT, repr(str(path)), f"have format {FORMAT}", plain["format"], "Use the newer vicreg."
    )
    return {name: value for name, value in plain.items() if name != "format"}


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from YAML, of plain values only.

    Raises:
        ValueError: The file is missing, no YAML, or no mapping.
    """
    content = read(path)
    try:
        plain = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as failure:
        raise damaged(path, "damaged YAML") from failure
    if not isinstance(plain, dict):
        raise damaged(path, "YAML that is no mapping")
    return plain


def write_array(path: Path, array: NDArray[Any]) -> None:
    """An array of numbers or booleans as ``.npy``."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def read_array(path: Path) -> NDArray[Any]:
    """What :func:`write_array` wrote.

    Raises:
        ValueError: The file is missing or damaged.
    """
    content = read(path)
    try:
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    except (ValueError, EOFError, OSError) as failure:
        raise damaged(path, "a damaged array") from failure


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under a header, as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


@dataclass(frozen=True)
class Run:
    """A run's folder and the names of the files in it."""

    folder: Path

    @property
    def config(self) -> Path:
        """All that is needed to run again: source, options, versions, fingerprint of the data."""
        return self.folder / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """Where the run stands, for resuming: one safetensors file with JSON in its header."""
        return self.folder / "checkpoint" / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """The terms by step."""
        return self.folder / "metrics.csv"

    @property
    def split(self) -> Path:
        """Which rows of the source were held out, (n,) booleans."""
        return self.folder / "split.npy"

    @property
    def seen(self) -> Path:
        """Hashes of the rows that the fit saw, sorted."""
        return self.folder / "seen.npy"

    @property
    def scores(self) -> Path:
        """What the judging found."""
        return self.folder / "scores.csv"

    @property
    def baseline(self) -> Path:
        """PCA on the rows of the fit, to judge against."""
        return self.folder / "baseline.safetensors"

    @property
    def embeddings(self) -> Path:
        """The embedding of every row of the source, with the id columns."""
        return self.folder / "embeddings.parquet"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config.exists()

    def finished(self) -> bool:
        """Whether the run ended in an encoder."""
        return (self.folder / "encoder.json").exists()

    def check_free(self) -> None:
        """Refuse a folder in which a run or anything else is already.

        Raises:
            ValueError: There is.
        """
        where = repr(str(self.folder))
        fix = "Go on with --resume, or name another --out."
        require(not self.exists(), where, "hold no run yet", "an existing run", fix)
        occupied = self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))
        require(not occupied, where, "be a new or empty folder", "other files", "Name another --out.")

    def begin(self, config: Mapping[str, Any]) -> None:
        """Start a run: write what is needed to run it again.

        Raises:
            OSError: The folder cannot be written to.
        """
        write_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration of a run that was begun.

        Raises:
            ValueError: There is none, or it is damaged.
        """
        require(
            self.folder.is_dir(), repr(str(self.folder)), "be the folder of a run", "no such folder", "Fit one first."
        )
        require(self.exists(), repr(str(self.folder)), "be the folder of a run", "a folder without config.yaml")
        return read_yaml(self.config)

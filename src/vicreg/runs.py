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
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from vicreg._checks import message, require

FORMAT = 1
"""Version of the files' layout; a later one is refused, not guessed at."""

ENCODER, DESCRIPTION = "encoder.safetensors", "encoder.json"
"""What one keeps of a run, whole in the first; the second is what of it people can read, and is read by nobody else."""


HALF_WRITTEN = re.compile(r"\.[\w-]+\.\w+\.[0-9a-f]{8}")
"""The names of files that are being written."""


def write_atomically(path: Path, content: bytes, place: Callable[[Path, Path], object] = Path.replace) -> None:
    """Put a file in place whole or not at all.

    Args:
        path: The file.
        content: What it shall hold.
        place: Gives the finished file its name; the default replaces what is there.

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
        place(beside, path)
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


def write_tensors(path: Path, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Tensors and JSON in one safetensors file, so that they can never be of different moments."""
    header = json.dumps({"format": FORMAT, "digest": _digest(tensors, plain), **plain})
    write_atomically(path, tensors_to_bytes(dict(tensors), {"json": header}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write_tensors` wrote.

    Raises:
        ValueError: The file is missing, damaged (even by one bit) or of a later format.
    """
    content = read(path)
    with _decoding(path, "a damaged safetensors file"):
        tensors = tensors_from_bytes(content)
        length = int.from_bytes(content[:8], "little")
        plain = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["json"])
    plain = _of_this_format(path, plain)
    if plain.pop("digest", None) != _digest(tensors, plain):
        raise damaged(path, "content of another digest")
    return tensors, plain


def _digest(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> str:
    """A short digest of names, types, shapes and values; not of the file, whose layout belongs to safetensors."""
    found = hashlib.blake2b(json.dumps(plain).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode("utf-8", "backslashreplace"))
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@contextmanager
def _decoding(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a decoder says of damaged bytes into one error.

    Fed with arbitrary bytes they raise nearly anything (PyYAML an IndexError for ``!!int ''``), hence the wide net;
    only their calls stand inside.
    """
    try:
        yield
    except Exception as failure:
        raise damaged(path, what) from failure


def write_json(path: Path, plain: Mapping[str, Any]) -> None:
    """A mapping as JSON."""
    write_atomically(path, json.dumps({"format": FORMAT, **plain}, indent=1, ensure_ascii=False).encode())


def read_json(path: Path) -> dict[str, Any]:
    """What :func:`write_json` wrote.

    Raises:
        ValueError: The file is missing, damaged or of a later format.
    """
    content = read(path)
    with _decoding(path, "damaged JSON"):
        plain = json.loads(content)
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
    with _decoding(path, "damaged YAML"):
        plain = yaml.safe_load(content)
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
    with _decoding(path, "a damaged array"):
        return np.asarray(np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))


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
    def second_checkpoint(self) -> Path:
        """Where the fit from another seed stands, from which a run without labels tells its stability."""
        return self.folder / "checkpoint" / "second.safetensors"

    @property
    def encoder(self) -> Path:
        """What one keeps: the encoder with its preprocessing."""
        return self.folder / ENCODER

    @property
    def metrics(self) -> Path:
        """The terms by step."""
        return self.folder / "metrics.csv"

    @property
    def epochs(self) -> Path:
        """What was found at the end of every epoch."""
        return self.folder / "epochs.csv"

    @property
    def warnings(self) -> Path:
        """What went wrong in the run, by step, and what helps; only of a run in which something did."""
        return self.folder / "warnings.json"

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
        """What judging on the held-out rows found."""
        return self.folder / "scores.csv"

    def scores_on(self, name: str) -> Path:
        """What a later judging found: on other rows, or by other labels."""
        return self.folder / f"scores-{re.sub('[^A-Za-z0-9_.-]', '_', name)[:100]}.csv"

    @property
    def readings(self) -> Path:
        """What can be said of a run without labels."""
        return self.folder / "readings.json"

    @property
    def baseline(self) -> Path:
        """PCA on the rows of the fit, to judge against."""
        return self.folder / "baseline.safetensors"

    @property
    def embeddings(self) -> Path:
        """The embedding of every row of the source, with the id columns."""
        return self.folder / "embeddings.parquet"

    @property
    def portrait(self) -> Path:
        """The folder of what the report shows and nothing else needs (:mod:`vicreg.portrait` names its files)."""
        return self.folder / "portrait"

    @property
    def report(self) -> Path:
        """The page that shows the run."""
        return self.folder / "report.html"

    @property
    def logs(self) -> Path:
        """What a logger that was asked for wrote."""
        return self.folder / "logs"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config.exists()

    def finished(self) -> bool:
        """Whether the run ended in an encoder, and in all that was to be found out about it."""
        return self.encoder.exists() and not self.checkpoint.exists()

    def finish(self) -> None:
        """Leave no checkpoint, since there is nothing to go on with, nor what kills left of files half written."""
        self.checkpoint.unlink(missing_ok=True)  # alone decides on whether the run is finished
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)
        for folder in (self.folder, self.portrait):
            for path in folder.iterdir() if folder.is_dir() else ():
                if HALF_WRITTEN.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def check_free(self) -> None:
        """Refuse a folder in which a run or anything else is already.

        Raises:
            ValueError: There is.
        """
        where = repr(str(self.folder))
        if self.exists():
            raise self._taken()
        occupied = self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))
        require(not occupied, where, "be a new or empty folder", "other files", "Name another --out.")

    def begin(self, config: Mapping[str, Any]) -> None:
        """Start a run: write what is needed to run it again. Of several that start at once, one does.

        Raises:
            ValueError: Another run was begun here in the meantime.
            OSError: The folder cannot be written to.
        """
        content = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode()
        write_atomically(self.config, content, self._place_new)

    def _place_new(self, beside: Path, path: Path) -> None:
        """Give a finished file a name that nothing has yet."""
        try:
            try:
                path.hardlink_to(beside)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                with path.open("xb") as file:
                    file.write(beside.read_bytes())
        except FileExistsError as taken:
            raise self._taken() from taken

    def _taken(self) -> ValueError:
        fix = "Go on with --resume, or name another --out."
        return ValueError(message(repr(str(self.folder)), "hold no run yet", "an existing run", fix))

    def withdraw(self) -> None:
        """Take back what a fit wrote that failed before there was an encoder."""
        if self.encoder.exists():
            return
        self.finish()
        for path in (self.config, self.split, self.seen, self.metrics, self.epochs, self.warnings, self.report):
            path.unlink(missing_ok=True)
        for folder in (self.portrait, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

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

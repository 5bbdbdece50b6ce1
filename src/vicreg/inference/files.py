"""The file that holds an encoder, or several, and all that is needed to make them again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vicreg import runs
from vicreg._checks import check_choice, message, require
from vicreg.networks import ENCODERS

FOREIGN = "module"
"""What an encoder is called whose class is the user's own."""
PARTS = "parts"
"""Where several encoders are described."""


def write_encoder(folder: str | Path, encoder: nn.Module, preprocessing: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors``: all that reading it needs, and no sample of the fit.

    It is replaced in one step, so an interrupted save leaves the one or the other encoder. ``encoder.json`` beside it
    says in words what it holds; it is for people, and not read again.

    Args:
        folder: Where.
        encoder: Of a module of the user's own only the tensors are kept: its code is the user's to keep.
        preprocessing: What else the embedder needs, as JSON can hold it.

    Raises:
        OSError: The folder cannot be written to.
    """
    _write(Path(folder), _tensors(encoder), {**_described(encoder), **preprocessing})


def write_encoders(folder: str | Path, encoders: Mapping[str, nn.Module], preprocessing: Mapping[str, Any]) -> None:
    """Write several encoders that belong together, as :func:`write_encoder` does one.

    Args:
        folder: Where.
        encoders: By the names that stand in front of those of their weights.
        preprocessing: What else the embedder needs, as JSON can hold it.

    Raises:
        OSError: The folder cannot be written to.
    """
    tensors = {f"{part}.{name}": one for part, each in encoders.items() for name, one in _tensors(each).items()}
    parts = {part: _described(encoder) for part, encoder in encoders.items()}
    _write(Path(folder), tensors, {PARTS: parts, **preprocessing})


def _described(encoder: nn.Module) -> dict[str, Any]:
    """What makes an encoder again."""
    own = next((name for name, kind in ENCODERS.items() if type(encoder) is kind), None)
    if own is None:
        return {"encoder": FOREIGN, "class": type(encoder).__qualname__}
    return {"encoder": own, "settings": encoder.settings}


def _tensors(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}


def _write(folder: Path, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    runs.write_json(folder / runs.DESCRIPTION, {"copy_of": runs.ENCODER, **plain})
    runs.write_tensors(folder / runs.ENCODER, tensors, plain)


def read_encoders(folder: str | Path, given: Sequence[nn.Module] = ()) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """What :func:`write_encoder` or :func:`write_encoders` wrote; nothing in the folder is executed.

    Args:
        folder: Where.
        given: Modules of the user's own classes, in order, whose weights are replaced in copies.

    Returns:
        The encoders in evaluation mode by the names that they were written with, "" for one alone; and all that was
        kept beside them.

    Raises:
        ValueError: There is no encoder, its file is damaged, or it is of the user's own class and none is given.
    """
    folder = Path(folder)
    where = repr(str(folder))
    require(folder.is_dir(), where, "be the folder of a run", "no such folder", "Fit one first.")
    path = folder / runs.ENCODER
    fix = "An unfinished run goes on with --resume."
    require(path.exists(), where, "hold an encoder", f"no {runs.ENCODER}", fix)
    tensors, plain = runs.read_tensors(path)
    parts = _parts(path, plain)
    foreign = [part for part, described in parts.items() if described.get("encoder") == FOREIGN]
    _check_given(parts, foreign, given)
    found = {}
    for part, described in parts.items():
        begin = f"{part}." if part else ""
        own = {name.removeprefix(begin): one for name, one in tensors.items() if name.startswith(begin)}
        module = given[foreign.index(part)] if part in foreign else None
        try:
            found[part] = _made(described, own, module)
        except (KeyError, TypeError, RuntimeError, ValueError) as failure:
            raise runs.damaged(path, f"a description that does not fit ({failure})") from failure
    return found, plain


def foreign_among(folder: str | Path, modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Which of the modules that a run was fitted with its encoders are to be loaded into.

    Args:
        folder: What :func:`read_encoders` reads.
        modules: Of the branches, in order, or one for all of them; the first ones are kept.

    Raises:
        ValueError: There is no encoder, or its file is damaged.
    """
    path = Path(folder) / runs.ENCODER
    kept = _parts(path, runs.read_tensors(path)[1]).values()
    return [module for module, described in zip(modules, kept, strict=False) if described.get("encoder") == FOREIGN]


def _parts(path: Path, plain: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What describes each encoder, by the names that they were written with."""
    parts = plain.get(PARTS, {"": plain})
    if not isinstance(parts, dict) or not parts or not all(isinstance(one, dict) for one in parts.values()):
        raise runs.damaged(path, "parts that are none")
    return parts


def _check_given(parts: dict[str, dict[str, Any]], foreign: list[str], given: Sequence[nn.Module]) -> None:
    """As many modules of the user's own are given as the run has."""
    if len(given) < len(foreign):
        got = f"one of your own class {parts[foreign[len(given)]].get('class')}"
        several = ", ".join(["..."] * len(foreign))
        fix = f"Pass one by load(folder, encoder={several if len(foreign) == 1 else f'[{several}]'})."
        raise ValueError(message("the encoder", "be one of vicreg's own to be made from a file alone", got, fix))
    names = ", ".join(str(one.get("encoder")) for one in parts.values())
    rule, got = f"be as many modules as the run kept of your own class, {len(foreign)}", str(len(given))
    if not foreign:
        rule, got = "be left out", f"one, where the run's is vicreg's own ({names})"
    require(len(given) <= len(foreign), "encoder", rule, got)


def _made(described: dict[str, Any], tensors: dict[str, Tensor], given: nn.Module | None) -> nn.Module:
    name = described.get("encoder")
    encoder = copy.deepcopy(given) or ENCODERS[check_choice("encoder", name, ENCODERS)](**described["settings"])
    encoder.load_state_dict(tensors)
    return encoder.eval()

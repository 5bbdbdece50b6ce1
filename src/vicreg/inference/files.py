"""The file that holds an encoder, and all that is needed to make it again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vicreg import runs
from vicreg._checks import check_choice, message, require
from vicreg.networks import ENCODERS

FOREIGN = "module"
"""What an encoder is called whose class is the user's own."""


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
    folder = Path(folder)
    own = next((name for name, kind in ENCODERS.items() if type(encoder) is kind), None)
    described = {"encoder": FOREIGN, "class": type(encoder).__qualname__}
    if own is not None:
        described = {"encoder": own, "settings": encoder.settings}  # type: ignore[dict-item]  # each of ours has them
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    plain = {**described, **preprocessing}
    runs.write_json(folder / runs.DESCRIPTION, {"copy_of": runs.ENCODER, **plain})
    runs.write_tensors(folder / runs.ENCODER, tensors, plain)


def read_encoder(folder: str | Path, given: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """What :func:`write_encoder` wrote; nothing in the folder is executed.

    Args:
        folder: Where.
        given: A module of the user's own class, whose weights are replaced in a copy.

    Returns:
        The encoder in evaluation mode, and all that was kept beside it.

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
    name = plain.get("encoder")
    if name == FOREIGN and given is None:
        got, fix = f"one of your own class {plain.get('class')}", "Pass one by load(folder, encoder=...)."
        raise ValueError(message("the encoder", "be one of vicreg's own to be made from a file alone", got, fix))
    if name != FOREIGN and given is not None:
        raise ValueError(message("encoder", "be left out", f"one, where the run's is vicreg's own ({name})"))
    try:
        encoder = copy.deepcopy(given) or ENCODERS[check_choice("encoder", name, ENCODERS)](**plain["settings"])
        encoder.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as failure:
        raise runs.damaged(path, f"a description that does not fit ({failure})") from failure
    return encoder.eval(), plain

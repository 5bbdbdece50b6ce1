"""Taking an encoder out of a run, for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vicreg import runs
from vicreg._checks import require
from vicreg.inference import load_as
from vicreg.workflows.embedding import check_apart
from vicreg.workflows.kinds import kind_of_run
from vicreg.workflows.media import MEDIA

FIX = "vicreg.load(RUN) embeds in Python."


def export(folder: Path, format: str, out: Path, say: Callable[[str], None] = print) -> None:
    """Write a run's encoder in a form that other programs read.

    Args:
        folder: A finished run on pictures or signals.
        format: torchvision (a PyTorch state dict), safetensors or onnx (checked in onnxruntime); of signals only
            safetensors.
        out: The file to write.
        say: Told in words what to know about it.

    Raises:
        ValueError: No such run or format, or an encoder that the format has no room for.
        ImportError: onnx is not installed.
        OSError: The file cannot be written.
    """
    check_apart(out, folder, folder)
    kind = kind_of_run(folder)
    require(kind in MEDIA, repr(str(folder)), "be a run on pictures or signals", f"one on a {kind}", FIX)
    medium = MEDIA[kind]
    found = medium.exported(load_as(medium.embedder, folder), format)
    runs.write_atomically(out, found.content)
    for note in found.notes:
        say(note)
    say(f"Wrote {len(found.content) / 2**20:.1f} MiB to {out}.")

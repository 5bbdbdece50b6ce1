"""Taking an encoder out of a run, for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vicreg import runs
from vicreg.inference import ImageEmbedder, load_as
from vicreg.networks.export import exported
from vicreg.workflows.embedding import check_apart


def export(folder: Path, format: str, out: Path, say: Callable[[str], None] = print) -> None:
    """Write a run's encoder in a form that other programs read.

    Args:
        folder: A finished run on pictures.
        format: torchvision (a PyTorch state dict), safetensors or onnx (checked in onnxruntime).
        out: The file to write.
        say: Told in words what to know about it.

    Raises:
        ValueError: No such run or format, or an encoder that the format has no room for.
        ImportError: onnx is not installed.
        OSError: The file cannot be written.
    """
    check_apart(out, folder, folder)
    embedder = load_as(ImageEmbedder, folder)
    view = embedder.view
    found = exported(embedder.encoder, format, mean=view.mean, std=view.std, size=view.size)
    runs.write_atomically(out, found.content)
    for note in found.notes:
        say(note)
    say(f"Wrote {len(found.content) / 2**20:.1f} MiB to {out}.")

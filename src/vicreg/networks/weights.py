"""Weights from a file into an encoder: published ones, timm's and torchvision's, or a run's own."""

from __future__ import annotations

import io
import pickle
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor, nn

from vicreg._checks import listed, message, require, shown
from vicreg.networks.foreign import TimmEncoder
from vicreg.networks.recognise import ResNetTraits, traits
from vicreg.networks.vit import ViT, resampled

WRAPPERS = ("state_dict", "model_state_dict", "model", "backbone", "encoder", "teacher")
"""Under which of its keys a checkpoint may keep the weights, in the order they are looked for."""

HEADS = frozenset(
    {"fc", "head", "heads", "classifier", "online_classifier", "projector", "projection_head", "expander", "predictor"}
)
"""Parts that are thrown away after pretraining, or that a classifier has and an encoder has not."""

COUNTER = "num_batches_tracked"
"""Batch norm's; files from before PyTorch 0.4.1 lack it, and the encoder does not need it."""


def load_weights(encoder: nn.Module, path: str | Path) -> list[str]:
    """Give the encoder the weights in a file: to go on from them, or to use them as they are.

    The file may hold more than the encoder: a checkpoint's wrapper, a prefix such as ``module.backbone.``, and heads
    are left aside. Everything else must fit, or the encoder stays as it was. Nothing in the file is executed.

    Args:
        encoder: One of ours or any module; changed in place, wherever it is.
        path: A safetensors file (a run's ``encoder.safetensors`` too) or a state dict saved by ``torch.save``, named as
            torchvision's, timm's or the official VICReg code's.

    Returns:
        What a user should know: which parts were left aside, whether position embeddings were interpolated.

    Raises:
        ValueError: The file is missing, holds no weights, those of another architecture, or values that are not finite.

    Example:
        >>> import tempfile
        >>> from vicreg.networks.resnet import ResNet
        >>> encoder, other = (ResNet("basic", (1, 1), width=16) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "weights.pth"
        ...     torch.save({"model": {f"module.{name}": one for name, one in encoder.state_dict().items()}}, file)
        ...     load_weights(other, file)
        []
        >>> torch.equal(encoder.conv1.weight, other.conv1.weight)
        True
    """
    path = Path(path)
    every = _read(path)
    inner = encoder.model if isinstance(encoder, TimmEncoder) else encoder
    wanted = inner.state_dict()
    prefix = _prefix(every, wanted)
    found = {name.removeprefix(prefix): tensor for name, tensor in every.items() if name.startswith(prefix)}
    aside = [name for name in every if not name.startswith(prefix)]
    heads = [name for name in found if name not in wanted and name.partition(".")[0] in HEADS]
    found = {name: tensor for name, tensor in found.items() if name not in heads}
    notes = [f"left aside: {listed(_parts([*aside, *(prefix + name for name in heads)]), 8)}"] if aside or heads else []
    if isinstance(inner, ViT) and _other_grid(found, wanted):
        notes.append(f"position embeddings interpolated from {found['pos_embed'].shape[1] - 1} patches")
        side = inner.settings["image_size"] // inner.patch
        found["pos_embed"] = resampled(found["pos_embed"], (side, side))
    complaint = _misfit(found, wanted)
    if complaint:
        raise _another(path, inner, every, complaint)
    broken = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor).all())]
    require(not broken, repr(str(path)), "hold finite weights", f"NaN or infinity in {listed(broken)}")
    counters = {name: torch.zeros_like(one) for name, one in wanted.items() if name.endswith(COUNTER)}
    inner.load_state_dict({**counters, **found})
    return notes


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors in a file, by name."""
    where = repr(str(path))
    fix = "Name a safetensors file, or a state dict saved by torch.save."
    require(not path.is_dir(), where, "be a file of weights", "a folder", "A run's is its encoder.safetensors.")
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise ValueError(message(where, "be a file of weights", f"'{failure.strerror}'")) from failure
    try:  # fed with arbitrary bytes, the decoders raise nearly anything
        loaded = tensors_from_bytes(content) if _is_safetensors(content) else _unpickled(content)
    except pickle.UnpicklingError as failure:
        code = "Unsupported global" in str(failure) or "Unsupported class" in str(failure)
        got = "more than tensors, which only code could restore" if code else "no such thing"
        fix = "Save the weights alone: torch.save(model.state_dict(), FILE)." if code else fix
        raise ValueError(message(where, "hold weights", got, fix)) from failure
    except Exception as failure:
        raise ValueError(message(where, "hold weights", f"no such thing ({type(failure).__name__})", fix)) from failure
    while isinstance(loaded, Mapping) and (inside := next(_wrapped(loaded), None)) is not None:
        loaded = inside
    tensors = loaded if isinstance(loaded, Mapping) else {}
    tensors = {name: one for name, one in tensors.items() if isinstance(name, str) and isinstance(one, Tensor)}
    require(bool(tensors), where, "hold weights", "no tensors by name", fix)
    return tensors


def _is_safetensors(content: bytes) -> bool:
    """Whether a file begins with the length of a JSON header, and with one."""
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8


def _unpickled(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript archives, which are refused in the next line
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _wrapped(loaded: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    return (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping))


def _prefix(names: Iterable[str], wanted: Mapping[str, Tensor]) -> str:
    """What stands in front of most of the names that are wanted."""
    counts: Counter[str] = Counter()
    for name in names:
        starts = [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    return max(counts, key=counts.__getitem__, default="")


def _parts(names: Iterable[str]) -> list[str]:
    """The parts that tensors belong to, each once: the first word of their names, or two after DDP's ``module``."""
    words = (name.split(".") for name in names)
    return list(dict.fromkeys(".".join(word[: 2 if word[0] == "module" else 1]) for word in words))


def _other_grid(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether the position embeddings differ in nothing but the number of patches of a square."""
    ours, theirs = wanted["pos_embed"], found.get("pos_embed")
    if theirs is None or theirs.ndim != 3 or theirs.shape == ours.shape or theirs.shape[::2] != ours.shape[::2]:
        return False
    patches = theirs.shape[1] - 1
    return theirs.is_floating_point() and patches > 0 and int(patches**0.5) ** 2 == patches


def _misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What does not fit, in words; nothing if everything does."""
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    unexpected = [name for name in found if name not in wanted]
    shapes = [
        f"{shown(name)} {tuple(found[name].shape)} instead of {tuple(one.shape)}"
        for name, one in wanted.items()
        if name in found and found[name].shape != one.shape
    ]
    kinds = [name for name, one in wanted.items() if name in found and _kind(found[name]) != _kind(one)]
    parts = [
        f"no {listed(missing, 3)}" if missing else "",
        f"unknown {listed(unexpected, 3)}" if unexpected else "",
        f"{shapes[0]}{f' and {len(shapes) - 1} more such shapes' * (len(shapes) > 1)}" if shapes else "",
        f"{listed(kinds, 3)} of another type" if kinds else "",
    ]
    return "; ".join(part for part in parts if part)


def _kind(tensor: Tensor) -> tuple[bool, torch.layout]:
    """What copying one tensor into another would not convert as it should."""
    return tensor.is_floating_point(), tensor.layout


def _another(path: Path, inner: nn.Module, every: Mapping[str, Tensor], complaint: str) -> ValueError:
    """The error for weights of another architecture, with its name where that can be told."""
    ours, theirs = traits(inner.state_dict()), traits(every)
    rule = f"hold the weights of {ours or type(inner).__name__}"
    if theirs is None or ours is None or str(ours) == str(theirs):
        return ValueError(message(repr(str(path)), rule, complaint))
    fix = "Choose the encoder that the file is of."
    if isinstance(ours, ResNetTraits) and isinstance(theirs, ResNetTraits) and ours.differs_in_stem(theirs):
        fix = "The stem follows from --image-size: the small one up to 64 pixels, the ImageNet one above."
    return ValueError(message(repr(str(path)), rule, f"those of {theirs}", fix))

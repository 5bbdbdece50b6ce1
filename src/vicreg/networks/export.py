"""An encoder as a file for other programs. The one file that needs onnx, onnxscript and onnxruntime."""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from vicreg._checks import check_choice, check_integer, check_number, message, require
from vicreg.networks.foreign import TimmEncoder
from vicreg.networks.recognise import ResNetTraits, traits

FORMATS = ("torchvision", "safetensors", "onnx")

TOLERANCE = 1e-4
"""How far onnxruntime may be from PyTorch, relative to the largest value. Measured are some 1e-7, which is float32's
rounding; a wrong operator is off by far more."""

TORCHVISION = ("resnet18", "resnet34", "resnet50")


class Exported(NamedTuple):
    """What the file shall hold, and what its reader should know."""

    content: bytes
    notes: tuple[str, ...]


def exported(encoder: nn.Module, format: str, *, mean: Sequence[float], std: Sequence[float], size: int) -> Exported:
    """The encoder in another program's format; it is left as it was.

    Every format holds the encoder for pictures that are already normalised: float32, (n, 3, size, size), red, green
    and blue in [0, 1] less ``mean``, divided by ``std``. These three stand in the file where it has a place for them.

    - "torchvision": a state dict by ``torch.save`` that ``torchvision.models.resnet50().load_state_dict(...,
      strict=False)`` takes, as do timm's ResNets; for ResNets of torchvision's widths.
    - "safetensors": every weight by its name, with ``architecture``, ``mean``, ``std`` and ``size`` as JSON in the
      metadata. For any encoder.
    - "onnx": a graph from ``images`` to ``representations`` with any number of pictures, checked against the encoder
      in onnxruntime on random pictures, with ``mean``, ``std`` and ``size`` in its metadata. For any encoder that
      PyTorch can trace.

    Args:
        encoder: On any device, in any mode; it is copied, and the copy is exported in evaluation mode.
        format: "torchvision", "safetensors" or "onnx".
        mean: Of every channel.
        std: Of every channel, above 0.
        size: Height and width of a picture.

    Returns:
        The file's content, and notes for its reader.

    Raises:
        ValueError: The format is unknown, or cannot hold this encoder.
        ImportError: "onnx" without ``vicreg[export]``.
        RuntimeError: onnxruntime gives something else than the encoder; the message says by how much.

    Example:
        >>> from vicreg.networks.resnet import ResNet
        >>> encoder = ResNet("basic", (1, 1), width=16)
        >>> whole = exported(encoder, "safetensors", mean=(0.5,) * 3, std=(0.25,) * 3, size=224)
        >>> from safetensors.torch import load
        >>> sorted(load(whole.content)) == sorted(encoder.state_dict())
        True
    """
    check_choice("format", format, FORMATS)
    check_integer("size", size, 1)
    means = [check_number("each value of mean", value) for value in mean]
    stds = [check_number("each value of std", value, 0, open_low=True) for value in std]
    require(len(means) == len(stds) > 0, "mean and std", "be of one length", f"{len(means)} and {len(stds)}")
    plain = {"mean": json.dumps(means), "std": json.dumps(stds), "size": json.dumps(size)}
    inner = encoder.model if isinstance(encoder, TimmEncoder) else encoder
    if format == "onnx":
        return _onnx(encoder, (2, len(means), size, size), plain)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in inner.state_dict().items()}
    if format == "safetensors":
        settings = getattr(encoder, "settings", None)
        described = {"format": "pt", **({"architecture": json.dumps(settings)} if settings else {}), **plain}
        return Exported(tensors_to_bytes(tensors, described), ())
    return _torchvision(tensors, f"pictures are to be normalised by mean {means} and std {stds}")


def _torchvision(tensors: Mapping[str, Tensor], normalised: str) -> Exported:
    found = traits(tensors)
    usual = isinstance(found, ResNetTraits) and (found.width, found.dims, found.in_channels) == (64, 2, 3)
    if not isinstance(found, ResNetTraits) or not usual or found.name not in TORCHVISION:
        rule = f"be one of {', '.join(TORCHVISION)} at its usual width for --format torchvision"
        raise ValueError(message("the encoder", rule, found or "another architecture", "Use safetensors or onnx."))
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    lines = [f"torchvision.models.{found.name}().load_state_dict(..., strict=False) lacks only fc", normalised]
    if found.kernel == 3:
        lines.append(
            "this is the small stem: before loading, set model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)"
            " and model.maxpool = torch.nn.Identity()"
        )
    return Exported(buffer.getvalue(), tuple(lines))


def _onnx(encoder: nn.Module, shape: tuple[int, ...], plain: Mapping[str, str]) -> Exported:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise ImportError("--format onnx needs onnx, onnxscript and onnxruntime: pip install 'vicreg[export]'.")
    import onnxruntime

    network = copy.deepcopy(encoder).cpu().float().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                network,
                (torch.randn(shape, generator=generator),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=["images"],
                output_names=["representations"],
                external_data=False,
                verbose=False,
            )
        except Exception as failure:  # whatever a user's own module may do
            reason = str(failure).strip().partition("\n")[0]
            got = f"{type(failure).__name__} ('{reason}')"
            raise ValueError(message("the encoder", "be a module that PyTorch can export to ONNX", got)) from failure
    graph = program.model.graph
    for part in [program.model, graph, *graph, *graph.initializers.values()]:
        part.metadata_props.clear()  # the exporter notes the paths of this machine's source files there
    program.model.metadata_props.update(plain)
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for n in (1, 3):  # not the two of the export
        images = torch.randn((n, *shape[1:]), generator=generator)
        with torch.inference_mode():
            expected = network(images).numpy()
        worst = max(worst, _deviation(session.run(["representations"], {"images": images.numpy()})[0], expected))
    rule = f"give what the encoder gives, up to {TOLERANCE:g} of its largest value"
    require(worst <= TOLERANCE, "the ONNX graph", rule, f"{worst:.2g} in onnxruntime", error=RuntimeError)
    by = f"checked against onnxruntime {onnxruntime.__version__}"
    return Exported(content, (f"{by}: largest deviation {worst:.1e} of the largest value",))


def _deviation(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference relative to the largest value; infinite if one of them is not finite or of another shape."""
    if got.shape != expected.shape or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return math.inf
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what is the exporter's own affair.

    It warns of a deprecated name that it uses itself, and that torchvision, which no encoder of ours uses, is missing.
    """
    talker = logging.getLogger("torch.onnx._internal.exporter._registration")
    before, talker.disabled = talker.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        talker.disabled = before

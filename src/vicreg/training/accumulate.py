"""The exact gradient of a large batch at the memory of a micro-batch: gradient caching.

A loss such as VICReg's is no mean over rows: its variances and covariances are those of the whole batch, so adding up
the gradients of small batches gives the gradient of another loss. But it sees the network through its outputs alone,
and those are small. So the outputs of all micro-batches are computed first, without a graph; then the loss of all of
them together and its gradient with respect to each; then the micro-batches pass through the network a second time,
one after another, and each hands its part of that gradient on to the parameters (the chain rule, in two steps).

Source: Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
arXiv:2101.06983, there for contrastive losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from vicreg._checks import require, shown

Result = TypeVar("Result")


def accumulate(
    model: nn.Module,
    micro_batches: Iterable[Any],
    loss: Callable[[Any], Result],
    *,
    forward: Callable[[Any], Any] | None = None,
    backward: Callable[[Tensor], object] = Tensor.backward,
    generators: Sequence[Generator] = (),
) -> Result:
    """Add the gradient of the whole batch's loss to the parameters' ``grad``, one micro-batch in memory at a time.

    It takes the place of ``loss(model(batch)).backward()``. Value and gradient are those of the whole batch for every
    network whose output for a row does not depend on the rows beside it. Batch norm does: its statistics are those of
    a micro-batch, and its running statistics are updated once for each micro-batch, as are all buffers.

    Every micro-batch passes through the network twice, the first time without a graph. Both times it meets the same
    buffers and random numbers, so that dropout drops the same units, and afterwards the random generators stand where
    one pass over the batch and its loss would have left them. That holds for PyTorch's global generators, on the CPU
    and on the devices of ``model``, and for ``generators``. What else the forward pass draws from or remembers (NumPy,
    attributes that are no buffers) must not change its output.

    In ``DistributedDataParallel``, also as Fabric sets it up, gradients are exchanged once, with the last micro-batch.

    Under ``torch.autocast`` both passes and the loss are computed as it says, and the backward passes outside of it.

    Args:
        model: The network, wrapped or not; several are one ``nn.ModuleList``.
        micro_batches: The parts of the batch, at least one, of any sizes; whatever ``forward`` takes. All are held.
        loss: Takes what ``forward`` gives, for all rows: in place of each tensor the micro-batches' tensors, joined
            along their first dimension. Returns a scalar, or a tuple that begins with one. Parameters of its own
            get their gradient as well.
        forward: From a micro-batch to a tensor, or a tuple, list, dict or dataclass of tensors (nested, or None), each
            with its rows first, (n, ...); ``model`` itself if left out. Every floating tensor is differentiated, so
            what needs no gradient is better left to ``loss`` to know.
        backward: What the loop would call on the loss in place of ``Tensor.backward``: ``fabric.backward``, or ``lambda
            value: scaler.scale(value).backward()``. It is called on the loss and on one scalar for each micro-batch.
        generators: Those that ``forward`` draws from, beside the global ones.

    Returns:
        What ``loss`` returned, the scalar detached.

    Raises:
        TypeError: ``model`` is no module, ``micro_batches`` a tensor, ``generators`` no generators, or an output
            neither a tensor nor a collection of them.
        ValueError: There is no micro-batch; an output has no rows, differs from those of the other micro-batches in
            more than its rows, or is of another shape the second time; none needs a gradient; or the loss is no
            scalar or does not depend on the outputs.

    Example:
        >>> from vicreg import VICRegLoss
        >>> x_a, x_b = torch.randn(2, 64, 5)
        >>> model = nn.Linear(5, 8)
        >>> value = accumulate(
        ...     model,
        ...     list(zip(x_a.split(16), x_b.split(16))),
        ...     lambda z: VICRegLoss()(*z),
        ...     forward=lambda pair: (model(pair[0]), model(pair[1])),
        ... )
        >>> gradient = model.weight.grad.clone()
        >>> model.zero_grad()
        >>> VICRegLoss()(model(x_a), model(x_b)).backward()
        >>> torch.allclose(gradient, model.weight.grad, rtol=1e-4)
        True
    """
    batches = _checked(model, micro_batches, generators)
    forward = model if forward is None else forward
    devices = {one.device for one in chain(model.parameters(), model.buffers()) if one.device.type != "cpu"}
    draws = _Draws(sorted(devices, key=str), generators)

    def propagate(scalar: Tensor) -> None:
        with _without_autocast({"cpu", *(device.type for device in devices)}):
            backward(scalar)

    whole, states = _first_pass(model, batches, forward, draws)
    result, value, gradients = _loss_of(whole, loss, propagate)
    del whole  # the gradient is all that is still needed of the outputs
    afterwards = draws.states()
    for index, batch in enumerate(batches):
        draws.restore(states[index])
        with _unsynchronised(model) if index < len(batches) - 1 else nullcontext():
            # No name holds on to the outputs: the graph of one micro-batch must be gone before the next one's.
            propagate(_aimed(forward(batch), gradients[index], value))
    draws.restore(afterwards)
    return result


class _Whole(NamedTuple):
    """The outputs of all micro-batches."""

    form: Any
    """The outputs of one, to be filled with others."""
    tensors: list[Tensor]
    """Each of its tensors, joined over the micro-batches."""
    rows: list[list[int]]
    """How many rows of each tensor are of which micro-batch."""


def _first_pass(
    model: nn.Module, batches: Sequence[Any], forward: Callable[[Any], Any], draws: _Draws
) -> tuple[_Whole, list[list[Tensor]]]:
    """All outputs, without a graph, and the random states that each micro-batch met."""
    states, outputs = [], []
    with torch.no_grad(), _unchanged(model):
        for batch in batches:
            states.append(draws.states())
            outputs.append(forward(batch))
    found = [list(_tensors(one)) for one in outputs]
    kinds = [[(tuple(one.shape[1:]), one.dtype) for one in each] for each in found]
    other = next((kind for kind in kinds if kind != kinds[0]), None)
    require(other is None, "outputs", "be alike for all micro-batches but for their rows", f"{kinds[0]} and {other}")
    require(len(found[0]) > 0, "forward", "give at least one tensor", "none")
    joined = [torch.cat(same) for same in zip(*found, strict=True)]
    rows = [[len(one) for one in same] for same in zip(*found, strict=True)]
    return _Whole(outputs[0], joined, rows), states


def _loss_of(
    whole: _Whole, loss: Callable[[Any], Result], propagate: Callable[[Tensor], None]
) -> tuple[Result, Tensor, list[list[Tensor | None]]]:
    """What the loss returns, its scalar, and its gradient with respect to every output, by micro-batch."""
    for one in whole.tensors:
        one.requires_grad_(one.is_floating_point() or one.is_complex())
    result: Any = loss(_filled(whole.form, iter(whole.tensors)))
    value, rest = (result[0], result[1:]) if isinstance(result, tuple) and result else (result, None)
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    fix = "Reduce it, as with .mean()."
    require(isinstance(value, Tensor) and value.ndim == 0, "loss", "return a 0-dimensional tensor", got, fix)
    fix = "Compute it from what it is called with, where gradients are on."
    require(value.requires_grad, "loss", "depend on the outputs", "a value without a graph", fix)
    propagate(value)
    value = value.detach()
    parts = [
        [None] * len(rows) if one.grad is None else torch.split(one.grad, rows)
        for one, rows in zip(whole.tensors, whole.rows, strict=True)
    ]
    by_batch = [list(each) for each in zip(*parts, strict=True)]
    return cast(Result, value if rest is None else (value, *rest)), value, by_batch


def _aimed(outputs: Any, gradients: Sequence[Tensor | None], value: Tensor) -> Tensor:
    """A scalar whose backward pass gives each output of a micro-batch its part of the loss's gradient."""
    tensors = list(_tensors(outputs))
    require(len(tensors) == len(gradients), "forward", "give the same outputs both times", f"{len(tensors)} tensors")
    known = [(one, gradient) for one, gradient in zip(tensors, gradients, strict=True) if gradient is not None]
    for one, gradient in known:
        shapes = f"shapes {tuple(gradient.shape)} and {tuple(one.shape)}"
        require(one.shape == gradient.shape, "forward", "give the same outputs both times", shapes)
    needed = [(one, gradient) for one, gradient in known if one.requires_grad]
    fix = "Unfreeze a part of it, or turn gradients on."
    require(len(needed) > 0, "model", "give the loss an output that needs a gradient", "none", fix)
    gradients = [gradient for _, gradient in needed]
    scalar: Tensor = _Aim.apply(gradients, value, *(one for one, _ in needed))  # type: ignore[no-untyped-call]  # torch's
    return scalar


class _Aim(torch.autograd.Function):
    """Gradients that are known already, as those of a scalar.

    What comes in for the scalar is left aside: all that a loop's own ``backward`` multiplies a loss by, such as a loss
    scale, is in the gradients already, and where they are float16 it has to be.
    """

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], value: Tensor, *outputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.gradients


@dataclass(frozen=True)
class _Draws:
    """The random generators of a forward pass: the CPU's, those of other devices, and those of the caller."""

    devices: Sequence[torch.device]
    generators: Sequence[Generator]

    def states(self) -> list[Tensor]:
        """Where each stands."""
        own = [torch.get_device_module(device).get_rng_state(device) for device in self.devices]
        return [torch.get_rng_state(), *own, *(one.get_state() for one in self.generators)]

    def restore(self, states: Sequence[Tensor]) -> None:
        """Put each back."""
        remaining = iter(states)
        torch.set_rng_state(next(remaining))
        for device in self.devices:
            torch.get_device_module(device).set_rng_state(next(remaining), device)
        for one in self.generators:
            one.set_state(next(remaining))


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """What forward passes inside leave behind in the model is undone: its buffers, and what DDP has exchanged."""
    named = [(module, dict(module._buffers)) for module in model.modules()]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers() if not _expanded(buffer)]
    # DDP hands the first process's buffers round once in a step, before a forward pass. What is received here is undone
    # with the rest, so the second pass has to receive it as well.
    wrappers = [(one, one.require_forward_param_sync) for one in _distributed(model)]
    try:
        yield
    finally:
        for module, buffers in named:
            module._buffers.update(buffers)
        for buffer, values in kept:
            # By way of .data, as a graph from before may hold on to it: for that one, nothing has changed.
            buffer.data.copy_(values)
        for wrapper, due in wrappers:
            wrapper.require_forward_param_sync = due


def _expanded(tensor: Tensor) -> bool:
    """Whether several of its entries are one in memory: then nobody can write to it."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


@contextmanager
def _unsynchronised(model: nn.Module) -> Iterator[None]:
    """Gradients formed inside are not exchanged between processes."""
    with ExitStack() as stack:
        for wrapper in _distributed(model):
            stack.enter_context(wrapper.no_sync())
        yield


def _distributed(model: nn.Module) -> list[DistributedDataParallel]:
    """The wrappers in it that exchange gradients."""
    return [one for one in model.modules() if isinstance(one, DistributedDataParallel)]


@contextmanager
def _without_autocast(kinds: Iterable[str]) -> Iterator[None]:
    """As backward passes are to run: autocast would cast anew what the forward pass kept out of it."""
    with ExitStack() as stack:
        for kind in kinds:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """The tensors in a collection, in its order."""
    if isinstance(outputs, Tensor):
        require(outputs.ndim > 0, "each output", "have its rows first, (n, ...)", "a 0-dimensional tensor")
        yield outputs
    elif outputs is not None:
        for one in _parts(outputs).values():
            yield from _tensors(one)


def _filled(form: Any, tensors: Iterator[Tensor]) -> Any:
    """A collection with other tensors in place of its own."""
    if isinstance(form, Tensor):
        return next(tensors)
    if form is None:
        return None
    parts = {name: _filled(one, tensors) for name, one in _parts(form).items()}
    if is_dataclass(form) and not isinstance(form, type):
        return replace(form, **parts)
    if isinstance(form, Mapping):
        return parts
    return type(form)(*parts.values()) if hasattr(form, "_fields") else type(form)(parts.values())


def _parts(outputs: Any) -> Mapping[Any, Any]:
    """What a collection holds, by name, key or place."""
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return {field.name: getattr(outputs, field.name) for field in fields(outputs)}
    if isinstance(outputs, Mapping):
        return outputs
    rule = "be a tensor, or a tuple, list, dict or dataclass of tensors"
    require(isinstance(outputs, tuple | list), "each output", rule, type(outputs).__name__, error=TypeError)
    return dict(enumerate(outputs))


def _checked(model: object, micro_batches: Any, generators: Any) -> list[Any]:
    fix = "Pass the network, and the function as forward."
    require(isinstance(model, nn.Module), "model", "be an nn.Module", shown(model), fix, TypeError)
    fix = "Cut it, as with x.split(64)."
    cut = not isinstance(micro_batches, Tensor)
    require(cut, "micro_batches", "be the parts of a batch", "a tensor", fix, TypeError)
    several = isinstance(generators, tuple | list) and all(isinstance(one, Generator) for one in generators)
    require(several, "generators", "be a tuple of torch.Generator", shown(generators), error=TypeError)
    batches = list(micro_batches)
    require(len(batches) > 0, "micro_batches", "hold at least one", 0)
    return batches

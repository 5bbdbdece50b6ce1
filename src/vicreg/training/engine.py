"""The one training loop, on Lightning Fabric; the only file that knows Fabric."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.optim import AdamW, Optimizer

from vicreg._checks import message, require, shown
from vicreg.networks import Joint, JointEmbedding
from vicreg.objectives import Objective, Outputs
from vicreg.training.accumulate import accumulate
from vicreg.training.config import Precision, check_device
from vicreg.training.optim import one_cycle, parameter_groups


class Source(Protocol):
    """Samples that live on the device; a batch is a gather of their indices."""

    @property
    def x(self) -> Tensor:
        """All samples, (n, ...)."""

    def batch(self, rows: Tensor) -> Any:
        """The samples with these indices."""


View = Callable[[Any, Generator], Tensor]


class Order:
    """Row indices in shuffled epochs, each cut into batches at the same places.

    Args:
        cuts: From 0, where the batches of an epoch begin, and where the last one ends: rows beyond it wait for the
            next shuffle.
        n_rows: Rows in all.
        generator: Shuffles, on its device.
    """

    def __init__(self, cuts: Sequence[int], n_rows: int, generator: Generator) -> None:
        self.cuts = tuple(cuts)
        self.n_rows = n_rows
        self.generator = generator
        self.position = len(self.cuts) - 1
        self.permutation = torch.empty(0, dtype=torch.long, device=generator.device)

    def next(self) -> Tensor:
        """Indices of the next batch, (b,)."""
        if self.position == len(self.cuts) - 1:
            self.permutation = torch.randperm(self.n_rows, generator=self.generator, device=self.generator.device)
            self.position = 0
        self.position += 1
        return self.permutation[self.cuts[self.position - 1] : self.cuts[self.position]]


def full_batches(n_rows: int, batch_size: int) -> Sequence[int]:
    """Cuts into batches of one size; all rows where there are fewer.

    Example:
        >>> list(full_batches(10, 4)), list(full_batches(3, 4))
        ([0, 4, 8], [0, 3])
    """
    batch_size = min(batch_size, n_rows)
    return range(0, n_rows + 1, batch_size)


def every_row(n_rows: int, batch_size: int) -> Sequence[int]:
    """Cuts into batches of nearly one size that leave no row out: as few as will do, each of two rows at least.

    Example:
        >>> every_row(10, 4), every_row(3, 2)
        ([0, 3, 6, 10], [0, 3])
    """
    count = max(1, min(-(-n_rows // batch_size), n_rows // 2))
    return [n_rows * index // count for index in range(count + 1)]


@dataclass(eq=False)
class State:
    """A run at some step: all that is needed to go on from there, bit by bit.

    Attributes:
        model: The branches, with their current weights.
        optimizer: AdamW with its moments.
        generator: Draws the order of rows and the views.
        order: Where the run stands in its epoch.
        terms: (at least step, terms) the objective's terms and total at each step so far, on the device.
        names: The columns of ``terms``.
        step: Steps done.
        steps: Steps in all.
    """

    model: JointEmbedding
    optimizer: Optimizer
    generator: Generator
    order: Order
    terms: Tensor
    names: tuple[str, ...]
    step: int
    steps: int

    def history(self) -> dict[str, list[float]]:
        """Each term and the total by step."""
        rows = self.terms[: self.step].T.tolist()
        return dict(zip(self.names, rows, strict=False))

    def copied(self) -> State:
        """The same run at the same step, to go on with apart from this one."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))  # together: the optimizer knows the weights
        generator = Generator(self.generator.device)
        generator.set_state(self.generator.get_state())
        order = copy.copy(self.order)
        order.generator = generator
        return replace(self, model=model, optimizer=optimizer, generator=generator, order=order)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by name, for a checkpoint."""
        saved = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            saved |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        saved["generator"] = self.generator.get_state()
        saved["order"] = self.order.permutation
        saved["terms"] = self.terms[: self.step]
        return {name: value.detach().cpu().contiguous() for name, value in saved.items()}

    def plain(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it."""
        return {"step": self.step, "steps": self.steps, "position": self.order.position, "names": list(self.names)}

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go back to a checkpoint of the same run.

        Raises:
            ValueError: It is of a run with other networks or another length.
        """
        require(plain["steps"] == self.steps, "checkpoint", f"be of a run of {self.steps} steps", plain["steps"])
        try:
            self.model.load_state_dict(_under("model.", tensors))
        except RuntimeError as mismatch:
            raise ValueError(
                message("checkpoint", "fit the run's networks", "other tensors", "Start a new run.")
            ) from mismatch
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.generator.set_state(tensors["generator"])
        self.order.permutation = tensors["order"].to(self.generator.device)
        self.order.position = plain["position"]
        self.step = plain["step"]
        self.names = tuple(plain["names"])
        self.terms = torch.zeros(self.steps, len(self.names), device=self.generator.device)
        self.terms[: self.step] = tensors["terms"]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


Callback = Callable[[State], None]

STEPS_BETWEEN_CHECKS = 100
"""Each look at whether the run is finite waits for the device."""


@dataclass(frozen=True)
class Optimisation:
    """How the loop steps: how often, on how many samples, how fast, in which arithmetic, from which seed.

    ``accumulate`` micro-batches make up a batch; fewer where that would leave one less than two samples.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: Precision
    seed: int
    schedule: Callable[[int, int], float] = one_cycle
    accumulate: int = 1


def device_of(name: str) -> torch.device:
    """The device that a run asks for by name; ``auto`` is the first GPU, else the CPU.

    Raises:
        ValueError: There is no such device, or not on this machine.
    """
    if check_device(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as missing:
        raise ValueError(
            message("device", "be auto or a device of this machine", shown(name), "Try device='cpu'.")
        ) from missing
    return device


def start(model: JointEmbedding, source: Source, how: Optimisation) -> State:
    """A run at step 0 on the source's device.

    Raises:
        ValueError: The precision is none that the device has.
    """
    device = source.x.device
    possible = how.precision != "16-mixed" or device.type != "cpu"
    require(possible, "precision", "be '32-true' or 'bf16-mixed' on the CPU", shown(how.precision))
    model.to(device)
    generator = Generator(device).manual_seed(how.seed)
    optimizer = AdamW(parameter_groups(model, how.weight_decay), lr=how.learning_rate, fused=device.type != "mps")
    order = Order(full_batches(len(source.x), how.batch_size), len(source.x), generator)
    return State(model, optimizer, generator, order, torch.empty(0), (), 0, how.steps)


def train(
    state: State,
    source: Source,
    views: Sequence[View],
    objective: Objective,
    how: Optimisation,
    callbacks: Sequence[Callback] = (),
) -> State:
    """Step until the run is done; each callback sees the state after every step.

    Args:
        state: Where the run stands; changed in place.
        source: The samples.
        views: One view of a batch for each branch.
        objective: Total and terms of the branches' outputs.
        how: Steps, batch size, learning rate, precision.
        callbacks: Called after every step with the state; one that raises ends the run.

    Returns:
        The same state, at its last step, with the model in evaluation mode.

    Raises:
        ValueError: The total or a weight is no longer finite.

    Example:
        >>> from vicreg.networks import Branch
        >>> from vicreg.objectives import vicreg
        >>> from vicreg.views import Identity, Noise, Table
        >>> table = Table(torch.eye(8), torch.arange(8))
        >>> how = Optimisation(steps=5, batch_size=4, learning_rate=0.01, weight_decay=0.0, precision="32-true", seed=0)
        >>> model = JointEmbedding([Branch(torch.nn.Linear(8, 2), torch.nn.Linear(2, 16))])
        >>> state = train(start(model, table, how), table, (Identity(), Noise()), vicreg(), how)
        >>> state.step, len(state.history()["total"])
        (5, 5)
    """
    device = source.x.device
    devices = [device.index or 0] if device.type == "cuda" else 1
    fabric = Fabric(accelerator=device.type, devices=devices, precision=how.precision)
    module, optimizer = fabric.setup(state.model, state.optimizer)
    module.train()
    while state.step < state.steps:
        batch = source.batch(state.order.next())
        for group in optimizer.param_groups:
            group["lr"] = how.learning_rate * how.schedule(state.step, state.steps)
        optimizer.zero_grad(set_to_none=True)
        drawn = [view(batch, state.generator) for view in views]
        total, terms = _learn_from(batch.x, drawn, fabric, module, objective, how.accumulate)
        optimizer.step()
        _record(state, {**terms, "total": total.detach()})
        if state.step % STEPS_BETWEEN_CHECKS == 0 or state.step == state.steps:
            _check_finite(state)
        for callback in callbacks:
            callback(state)
    state.model.eval()
    return state


def _learn_from(
    x: Tensor, drawn: Sequence[Tensor], fabric: Fabric, module: nn.Module, objective: Objective, count: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective's total and terms for a batch, whose gradient the weights have afterwards."""

    def loss(joint: Joint) -> tuple[Tensor, dict[str, Tensor]]:
        return objective(Outputs(x=(x,) * len(drawn), h=joint.h, z=joint.z, decoded=joint.decoded))

    count = min(count, len(x) // 2)
    if count > 1:
        # The views were drawn for the whole batch and are cut now: once, not in both passes, and the same ones as
        # without micro-batches, so that cutting changes nothing but what batch norm sees. The price is the memory of
        # the inputs, which is small beside that of a network's graph.
        micro_batches = list(zip(*(view.tensor_split(count) for view in drawn), strict=True))
        return accumulate(module, micro_batches, loss, backward=fabric.backward)
    total, terms = loss(module(drawn))
    fabric.backward(total)
    return total, terms


def _record(state: State, terms: dict[str, Tensor]) -> None:
    if not state.names:
        state.names = tuple(terms)
        state.terms = torch.zeros(state.steps, len(terms), device=state.generator.device)
    if state.step >= len(state.terms):
        state.terms = torch.cat((state.terms, torch.zeros_like(state.terms)))
    state.terms[state.step] = torch.stack(list(terms.values()))
    state.step += 1


def _check_finite(state: State) -> None:
    """Raise if the run has diverged: its last total or, at its end, a weight is no longer finite.

    Not every total is asked for: under loss scaling a run leaves out a step that overflows, and recovers.
    """
    totals = state.terms[: state.step, -1]
    weights = [one for one in state.model.state_dict().values() if one.is_floating_point()]
    ended = state.step == state.steps
    if not totals[-1].isfinite() or (ended and not all(bool(one.isfinite().all()) for one in weights)):
        broken = [*torch.nonzero(~totals.isfinite()).flatten().tolist(), state.step - 1][0]
        got = f"{'infinity' if totals[broken].isinf() else 'NaN'} at step {broken + 1}"
        raise ValueError(message("training", "stay finite", got, "Lower learning_rate."))

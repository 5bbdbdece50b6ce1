"""The one training loop, on Lightning Fabric; with ``loggers.py`` the only files that know Fabric."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from vicreg._checks import message, require, shown
from vicreg.networks import Joint, JointEmbedding
from vicreg.objectives import Objective, Outputs
from vicreg.training.accumulate import accumulate
from vicreg.training.feed import Drawn, Feed, seed_of
from vicreg.training.momentum import rising
from vicreg.training.optim import adamw, one_cycle, parameter_groups
from vicreg.training.settings import Precision, check_device


@dataclass(frozen=True, eq=False)
class Machine:
    """Where a run runs: a device, or one of several processes that share it, each with a device of its own.

    Attributes:
        fabric: Launched.
        device: This process's.
        rank: Which of the processes this is; the first one writes files and speaks.
        count: How many there are.
    """

    fabric: Fabric
    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


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


def machine(device: str = "auto", devices: int = 1, nodes: int = 1, precision: Precision = "32-true") -> Machine:
    """The machine that a run asks for; with several devices or nodes, its processes are started.

    Under ``torchrun`` or SLURM the processes are there already, and are joined. Otherwise this command is started again
    for each further device.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        devices: Processes on each node, each with a device of its own.
        nodes: Machines.
        precision: Arithmetic of the networks.

    Raises:
        ValueError: There are fewer devices, the device cannot do the precision, or ``torchrun`` has started another
            number of processes.

    Example:
        >>> alone = machine("cpu")
        >>> alone.device.type, alone.count, alone.first
        ('cpu', 1, True)
    """
    together = devices * nodes > 1
    if together:
        check_launched(devices * nodes)
    chosen = device_of(device)
    possible = precision != "16-mixed" or chosen.type != "cpu"
    require(possible, "precision", "be '32-true' or 'bf16-mixed' on the CPU", shown(precision))
    require(chosen.type != "mps" or not together, "devices * nodes", "be 1 on mps", devices * nodes)
    there, what = (torch.cuda.device_count(), "GPUs") if chosen.type == "cuda" else (os.cpu_count() or 1, "cores")
    require(devices <= there, "devices", f"be at most the {there} {what} of this machine", devices)
    numbered = chosen.index is not None and together
    require(not numbered, "device", "have no number where there are several", device, f"Try device='{chosen.type}'.")
    which: Any = [chosen.index or 0] if chosen.type == "cuda" and devices == 1 else devices
    fabric = Fabric(
        accelerator=chosen.type,
        devices=which,
        num_nodes=nodes,
        strategy="ddp" if together else "auto",
        precision=precision,
    )
    if together:
        fabric.launch()
    return Machine(fabric, fabric.device if together else chosen, fabric.global_rank, fabric.world_size)


def check_launched(processes: int, fix: str = "Try devices={}.") -> None:
    """Each process that ``torchrun`` started takes part: otherwise all would train the same, into the same files.

    Args:
        processes: So many take part.
        fix: What to do if others were started, of how many.

    Raises:
        ValueError: It has started another number.
    """
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        started = int(os.environ.get("WORLD_SIZE", "1"))
        rule = f"be the {started} processes that torchrun started"
        require(processes == started, "devices * nodes", rule, processes, fix.format(started))


@dataclass(eq=False)
class State:
    """A run at some step: all that is needed to go on from there, bit by bit.

    Attributes:
        model: The branches, with their current weights.
        optimizer: With its moments.
        terms: (at least step, terms) the objective's terms and total at each step so far, on the device.
        names: The columns of ``terms``.
        step: Steps done.
        steps: Steps in all.
        feed: The source's place, where the step does not decide it (:meth:`vicreg.training.feed.Feed.position`).
        joint: What the branches made of the last step's views, detached.
        drawn: The last step's samples.
    """

    model: JointEmbedding
    optimizer: Optimizer
    terms: Tensor
    names: tuple[str, ...]
    step: int
    steps: int
    feed: dict[str, Any] = field(default_factory=dict)
    joint: Joint | None = None
    drawn: Drawn | None = None

    @property
    def device(self) -> torch.device:
        """Where the run is."""
        return self.terms.device

    def history(self) -> dict[str, list[float]]:
        """Each term and the total by step."""
        rows = self.terms[: self.step].T.tolist()
        return dict(zip(self.names, rows, strict=False))

    def copied(self) -> State:
        """The same run at the same step, to go on with apart from this one."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))  # together: the optimizer knows the weights
        return replace(self, model=model, optimizer=optimizer, joint=None, drawn=None)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, by name, for a checkpoint."""
        saved = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            saved |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        saved["terms"] = self.terms[: self.step]
        return {name: value.detach().cpu().contiguous() for name, value in saved.items()}

    def plain(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it."""
        return {"step": self.step, "steps": self.steps, "names": list(self.names), "feed": self.feed}

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
        weights = [one for group in self.optimizer.param_groups for one in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = _laid_out_as(weights[int(index)], value)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.step = plain["step"]
        self.names = tuple(plain["names"])
        self.feed = plain["feed"]
        terms = torch.zeros(self.steps, len(self.names), device=self.device)
        terms[: self.step] = tensors["terms"]
        self.terms = terms


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _laid_out_as(weight: Tensor, moment: Tensor) -> Tensor:
    """A moment in its weight's layout: fused optimisers read both as they lie in memory."""
    return torch.empty_like(weight, dtype=moment.dtype).copy_(moment) if moment.shape == weight.shape else moment


Callback = Callable[[State], None]


class Diverged(ValueError):  # noqa: N818  # what it did
    """A run whose total or weights are no longer finite: going on would only meet it again."""


STEPS_BETWEEN_CHECKS = 100
"""Each look at whether the run is finite waits for the device."""


@dataclass(frozen=True)
class Optimisation:
    """How the loop steps: how often, how fast, from which seed.

    Attributes:
        steps: In all.
        learning_rate: The highest.
        weight_decay: Of matrices; vectors have none.
        seed: Of everything random within a step.
        schedule: Share of the highest learning rate at a step of so many.
        accumulate: Micro-batches that make up a batch; fewer where that would leave one less than two samples.
        optimizer: Makes the optimiser from parameter groups and a learning rate.
        channels_last: Whether pictures and the networks' weights lie in memory channel by channel.
        compiled: Whether ``torch.compile`` compiles the networks.
        momentum: Of the averaged target branches, where there are any, at a step of so many.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    seed: int
    schedule: Callable[[int, int], float] = one_cycle
    accumulate: int = 1
    optimizer: Callable[..., Optimizer] = adamw
    channels_last: bool = False
    compiled: bool = False
    momentum: Callable[[int, int], float] = rising


def start(model: JointEmbedding, place: Machine, how: Optimisation) -> State:
    """A run at step 0 on its device; over several GPUs, batch norm takes its statistics from all of them."""
    device = place.device
    if place.count > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch's
    model.to(device)
    if how.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stub
    optimizer = how.optimizer(parameter_groups(model, how.weight_decay), lr=how.learning_rate)
    return State(model, optimizer, torch.empty(0, device=device), (), 0, how.steps)


def train(
    state: State,
    feed: Feed,
    objective: Objective,
    how: Optimisation,
    place: Machine,
    callbacks: Sequence[Callback] = (),
) -> State:
    """Step until the run is done; each callback sees the state after every step.

    Args:
        state: Where the run stands; changed in place.
        feed: The samples of each step; this process's share of them, where there are several.
        objective: Total and terms of the branches' outputs.
        how: How to step.
        place: The machine.
        callbacks: Called after every step with the state; one that raises ends the run.

    Returns:
        The same state, at its last step, with the model in evaluation mode.

    Raises:
        Diverged: The total or a weight is no longer finite.

    Example:
        >>> from vicreg.networks import Branch
        >>> from vicreg.objectives import vicreg
        >>> from vicreg.training.feed import Order, Resident, full_batches
        >>> from vicreg.views import Identity, Noise, Table
        >>> table = Table(torch.eye(8), torch.arange(8))
        >>> feed = Resident(table.batch, (Identity(), Noise()), Order(full_batches(8, 4), 8, seed=0), seed=0)
        >>> how = Optimisation(steps=5, learning_rate=0.01, weight_decay=0.0, seed=0)
        >>> model = JointEmbedding([Branch(torch.nn.Linear(8, 2), torch.nn.Linear(2, 16))])
        >>> here = machine("cpu")
        >>> state = train(start(model, here, how), feed, vicreg(), how, here)
        >>> state.step, len(state.history()["total"])
        (5, 5)
    """
    model: nn.Module = torch.compile(state.model) if how.compiled else state.model  # type: ignore[assignment]  # it is one
    module, optimizer = place.fabric.setup(model, state.optimizer)
    module.train()
    if state.step:
        feed.seek(state.feed)
    with _randomness_of_our_own(place.device) as reseed, closing(feed):
        while state.step < state.steps:
            drawn = feed.draw(state.step)
            reseed(seed_of(how.seed, 2, state.step, place.rank))
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * how.schedule(state.step, state.steps)
            optimizer.zero_grad(set_to_none=True)
            total, terms, state.joint = _learn_from(drawn, place.fabric, module, objective, how)
            optimizer.step()
            state.model.follow(how.momentum(state.step, state.steps))
            state.drawn, state.feed = drawn, feed.position()
            _record(state, {**terms, "total": total.detach()})
            if state.step % STEPS_BETWEEN_CHECKS == 0 or state.step == state.steps:
                _check_finite(state)
            for callback in callbacks:
                callback(state)
    state.model.eval()
    return state


@contextmanager
def _randomness_of_our_own(device: torch.device) -> Iterator[Callable[[int], object]]:
    """Seeds what layers such as dropout draw from, PyTorch's global generators, and gives them back as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        own = torch.cuda.default_generators[device.index or 0] if devices else torch.default_generator
        yield own.manual_seed


def _learn_from(
    drawn: Drawn, fabric: Fabric, module: nn.Module, objective: Objective, how: Optimisation
) -> tuple[Tensor, dict[str, Tensor], Joint]:
    """The objective's total and terms for a batch, whose gradient the weights have afterwards; and the outputs."""
    made: list[Joint] = []

    def loss(joint: Joint) -> tuple[Tensor, dict[str, Tensor]]:
        made[:] = [_detached(joint)]
        x = (drawn.x,) * len(drawn.views) if isinstance(drawn.x, Tensor) else tuple(drawn.x or ()) or None
        cuts = None if drawn.cuts is None else tuple(drawn.cuts)
        return objective(Outputs(x=x, **joint._asdict(), n_large=drawn.n_large, cuts=cuts))

    views = drawn.views
    count = min(how.accumulate, len(views[0]) // 2)
    if count > 1:
        # The views were drawn for the whole batch and are cut now: once, not in both passes, and the same ones as
        # without micro-batches, so that cutting changes nothing but what batch norm sees. The price is the memory of
        # the inputs, which is small beside that of a network's graph.
        micro_batches = list(zip(*(view.tensor_split(count) for view in views), strict=True))
        return *accumulate(module, micro_batches, loss, backward=fabric.backward), made[0]
    total, terms = loss(module(views))
    fabric.backward(total)
    return total, terms, made[0]


def _detached(joint: Joint) -> Joint:
    return Joint(*(None if part is None else tuple(one.detach() for one in part) for part in joint))  # type: ignore[arg-type]


def _record(state: State, terms: dict[str, Tensor]) -> None:
    if not state.names:
        state.names = tuple(terms)
        state.terms = torch.zeros(state.steps, len(terms), device=state.device)
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
        raise Diverged(message("training", "stay finite", got, "Lower learning_rate."))

"""The few collectives that a batch over several processes needs; inert without a process group.

A loss over several processes is the loss of one batch, the global one, of which each process has some rows. What the
processes must know of each other is settled first, in one exchange (:func:`common_batch`): how many rows each has,
that their inputs fit together, and that none is bad. So a bad input on one process is an error on all of them, and
none is left waiting for the others.
"""

from __future__ import annotations

import ast
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vicreg._checks import message, require

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['default'] | None"

Reduction: TypeAlias = Literal["mean", "sum"]

T = TypeVar("T")

LONGEST_TEXT = 4000
"""Bytes of what one process has to say that travel to the others."""

ERRORS: tuple[type[Exception], ...] = (TypeError, ValueError, RuntimeError)
"""What a process's own checks raise, and the others repeat; anything else they repeat as the last."""


@dataclass(frozen=True)
class Batch:
    """The global batch, and which of its rows are this process's.

    Attributes:
        rows: How many rows each process has, in their order.
        rank: Which of them this process is.
        group: The processes; without meaning for one alone.
        n: Rows in all.
        processes: How many processes share it.
    """

    rows: tuple[int, ...]
    rank: int = 0
    group: dist.ProcessGroup | None = None
    n: int = field(init=False)
    processes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", sum(self.rows))
        object.__setattr__(self, "processes", len(self.rows))

    @property
    def own(self) -> slice:
        """Where this process's rows stand among all of them."""
        begin = sum(self.rows[: self.rank])
        return slice(begin, begin + self.rows[self.rank])

    def lift(self, reduction: str) -> float:
        """What this process's rows' gradient must be multiplied by, given what is done with parameter gradients next.

        Args:
            reduction: ``"mean"`` where they are averaged over the processes (DDP), ``"sum"`` where they are summed.
        """
        return float(self.processes) if reduction == "mean" else 1.0

    def sum_(self, x: Tensor) -> Tensor:
        """``x`` summed over the processes, in its place."""
        if self.processes > 1:
            dist.all_reduce(x, group=self.group)
        return x

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the batch's rows, (..., 1, d), of which ``x`` has this process's, (..., own rows, d)."""
        if self.processes == 1:
            return x.mean(dim=-2, keepdim=True)
        return self.sum_(x.sum(dim=-2, keepdim=True)).div_(self.n)

    def gathered(self, x: Tensor) -> Tensor:
        """The rows of all processes, (t, n, d), from this process's own.

        Args:
            x: (t, own rows, d).
        """
        if self.processes == 1:
            return x
        t, _, d = x.shape
        most = max(self.rows)
        padded = torch.nn.functional.pad(x, (0, 0, 0, most - x.shape[1]))
        parts = x.new_empty(self.processes, t, most, d)
        dist.all_gather(list(parts), padded.contiguous(), group=self.group)
        if min(self.rows) == most:
            return parts.movedim(0, 1).reshape(t, self.n, d)
        return torch.cat([part[:, :rows] for part, rows in zip(parts, self.rows, strict=True)], dim=1)


@dataclass(frozen=True)
class Share:
    """What a process brings to a batch.

    Attributes:
        name: What error messages call it.
        rows: How many rows it has.
        least: How many rows the batch must have.
        traits: In words, all that must be the same on every process; asked for only where there are several.
    """

    name: str
    rows: int
    least: int
    traits: Callable[[], Sequence[str]]


def process_count(group: ProcessGroup) -> int:
    """How many processes share one batch: 1 without a process group, or with ``None``.

    Args:
        group: A process group, ``"default"`` for the default group where there is one, or ``None``.

    Example:
        >>> process_count("default"), process_count(None)
        (1, 1)
    """
    if group is None or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(_handle(group))


def own_number() -> int:
    """Which of the processes of the default group this is, or will be once there is one; 0 for one alone.

    Example:
        >>> own_number()
        0
    """
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def common_batch(
    group: ProcessGroup, share: Callable[[], tuple[T, Share]], *, equal_rows: bool = False
) -> tuple[T, Batch]:
    """Agree with the other processes on the batch that is evaluated together.

    Args:
        group: The processes.
        share: Checks this process's inputs and says what they are, beside anything else it finds. A ``TypeError`` or
            ``ValueError`` that it raises on one process is raised on every one.
        equal_rows: Whether every process is known to bring as many rows as this one, with the same traits and without
            fault: then nothing is exchanged, and the fault of one process would leave the others waiting.

    Returns:
        What ``share`` found, and the batch.

    Raises:
        TypeError: Some process's input is of the wrong type.
        ValueError: Some process's input is bad, the processes' inputs differ, or all rows together are too few.

    Example:
        >>> found, batch = common_batch("default", lambda: ("anything", Share("z", rows=8, least=2, traits=list)))
        >>> batch.n
        8
    """
    count = process_count(group)
    if count > 1 and not equal_rows:
        return _agreed(_handle(group), count, share)
    found, own = share()
    batch = Batch((own.rows,))
    if count > 1:
        batch = Batch((own.rows,) * count, dist.get_rank(_handle(group)), _handle(group))
    _check_rows(batch, own)
    return found, batch


def _agreed(group: dist.ProcessGroup | None, count: int, share: Callable[[], tuple[T, Share]]) -> tuple[T, Batch]:
    """The batch that all processes' shares make up, or the same error on every process."""
    fault, rows = 0, 0
    try:
        found, own = share()
        rows, lines = own.rows, own.traits()
    except Exception as error:  # whatever it is, the others must not be left waiting
        fault = next((i for i, kind in enumerate(ERRORS, start=1) if isinstance(error, kind)), len(ERRORS))
        lines = [str(error)]
    header = torch.tensor([fault, rows, zlib.crc32("\n".join(lines).encode())])
    faults, every, traits = zip(*_exchanged(header, group, count).tolist(), strict=True)
    if any(faults) or len(set(traits)) > 1:
        raise _common_error(faults, [text.split("\n") for text in _texts("\n".join(lines), group, count)])
    batch = Batch(every, dist.get_rank(group), group)
    _check_rows(batch, own)
    return found, batch


def _common_error(faults: Sequence[int], texts: Sequence[Sequence[str]]) -> Exception:
    """What to raise on every process where one has a fault, or they do not fit together."""
    for process, fault in enumerate(faults):
        if fault:
            return ERRORS[fault - 1](f"On process {process}: {' '.join(texts[process])}")
    odd = next((i for i, lines in enumerate(texts) if lines != texts[0]), len(texts) - 1)
    pairs = zip(texts[0], texts[odd], strict=False)
    first, other = next((pair for pair in pairs if pair[0] != pair[1]), ("one thing", "another"))
    got = f"{first} on process 0 and {other} on process {odd}"
    return ValueError(message("What the loss is called on", "be alike on every process", got))


def _check_rows(batch: Batch, own: Share) -> None:
    several = " on all processes together" if batch.processes > 1 else ""
    fix = "Statistics over a batch need several rows."
    empty = [str(i) for i, rows in enumerate(batch.rows) if not rows]
    if several and empty:
        fix = f"There are none on process {', '.join(empty)}."
    require(batch.n >= own.least, own.name, f"have at least {own.least} rows{several}", batch.n, fix)


def most(*numbers: int) -> tuple[int, ...]:
    """The largest of each number over all processes of the default group; the numbers themselves for one alone.

    Example:
        >>> most(0, 15)
        (0, 15)
    """
    count = process_count("default")
    if count == 1:
        return numbers
    every = _exchanged(torch.tensor(numbers), None, count)
    return tuple(every.max(dim=0).values.tolist())


def every_text(own: str) -> list[str]:
    """What each process of the default group has to say, however long, in their order.

    Example:
        >>> every_text("here")
        ['here']
    """
    count = process_count("default")
    if count == 1:
        return [own]
    (length,) = most(len(own.encode()))
    content = own.encode().ljust(length + 1, b"\0")  # no tensor is made of nothing
    every = _exchanged(torch.frombuffer(bytearray(content), dtype=torch.uint8), None, count).cpu()
    return [bytes(row.tolist()).rstrip(b"\0").decode() for row in every]


def by_first(work: Callable[[], T]) -> T | None:
    """What the first process of the default group alone does, or the same error on all of them.

    Args:
        work: Done on the first process, while the others wait.

    Returns:
        What came of it there; None elsewhere.

    Raises:
        TypeError: ``work`` raised one.
        ValueError: Likewise.
        OSError: Likewise.

    Example:
        >>> by_first(lambda: 3)
        3
    """
    result, failure = None, None
    if process_count("default") == 1:
        return work()
    if dist.get_rank() == 0:
        try:
            result = work()
        except (TypeError, ValueError, OSError) as error:
            failure = error
    said = every_text(repr((type(failure).__name__, str(failure))) if failure else "")[0]
    if failure is not None:
        raise failure
    if said:
        kind, text = ast.literal_eval(said)
        raise {"TypeError": TypeError, "ValueError": ValueError}.get(kind, OSError)(text)
    return result


def _handle(group: ProcessGroup) -> dist.ProcessGroup | None:
    return None if isinstance(group, str) else group


def _exchanged(own: Tensor, group: dist.ProcessGroup | None, count: int) -> Tensor:
    """What each process holds, one below the other; on the device that the group talks through."""
    device = "cpu" if "gloo" in dist.get_backend(group) else torch.accelerator.current_accelerator()
    every = torch.empty(count, len(own), dtype=own.dtype, device=device)
    dist.all_gather(list(every), own.to(device), group=group)
    return every


def _texts(own: str, group: dist.ProcessGroup | None, count: int) -> list[str]:
    """Each process's text: as bytes, since what several machines send each other is never unpickled here."""
    content = own.encode()[:LONGEST_TEXT].ljust(LONGEST_TEXT, b"\0")
    every = _exchanged(torch.frombuffer(bytearray(content), dtype=torch.uint8), group, count).cpu()
    return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in every]

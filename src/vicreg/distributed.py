"""What the loss has to know about other processes; inert without a process group."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch.distributed as dist

from vicreg._checks import message

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['default'] | None"


def processes(group: ProcessGroup) -> int:
    """How many processes share one batch: 1 without a process group, or with ``None``.

    Args:
        group: A process group, ``"default"`` for the default group where there is one, or ``None``.

    Example:
        >>> processes("default"), processes(None)
        (1, 1)
    """
    if group is None or not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(None if group == "default" else group)


def refuse_several(group: ProcessGroup) -> None:
    """Raise where the statistics would have to be those of several processes' rows.

    Raises:
        NotImplementedError: ``group`` has more than one process.
    """
    count = processes(group)
    if count > 1:
        fix = (
            "The loss over several processes is not there yet; None takes each process's rows as a batch of their own."
        )
        raise NotImplementedError(message("process_group", "be None", f"{group!r} of {count} processes", fix))

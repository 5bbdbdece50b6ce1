"""The exact loss over several processes, against gathering everywhere and computing everything on each.

Both give every process the gradient of the global batch's loss by its own rows. Each process has one thread.
"""

import json
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from measure import ratios, summary
from published import relative, with_gradients
from torch import Tensor, multiprocessing

from vicreg import VICRegLoss

FLOAT32 = 1e-4


def gathered(loss: VICRegLoss, own: list[Tensor], count: int) -> tuple[Tensor, ...]:
    """The loss of all rows, computed on this process, and the gradient by its own."""
    whole = []
    for z in own:
        rows = z.new_empty(count * len(z), z.shape[1])
        dist.all_gather_single(rows, z.detach())
        whole.append(rows.requires_grad_())
    value, *gradients = with_gradients(loss, *whole)
    return value, *(gradient.chunk(count)[dist.get_rank()] for gradient in gradients)


def process(rank: int, count: int, folder: str, n: int, d: int, rounds: int) -> None:
    """One of the processes; the first writes the seconds of the slowest in every round."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    generator = torch.Generator().manual_seed(0)
    own = [torch.randn(n, d, generator=generator).chunk(count)[rank].clone().requires_grad_() for _ in range(2)]
    shared = VICRegLoss(process_group="default", gradient_reduction="sum")
    alone = VICRegLoss(process_group=None)
    works = {
        "shared": lambda: with_gradients(shared, *own),
        "gathered": lambda: gathered(alone, own, count),
    }
    pairs = zip(works["shared"](), works["gathered"](), strict=True)
    apart = max(relative(one, other.double()) for one, other in pairs)
    if not apart <= FLOAT32:
        raise RuntimeError(f"The loss over {count} processes is {apart:.1e} from that of the gathered rows.")
    took: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds):
        for name in list(works)[:: 1 if i % 2 else -1]:
            dist.barrier()
            begun = time.perf_counter()
            works[name]()
            slowest = torch.tensor(time.perf_counter() - begun, dtype=torch.float64)
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            took[name].append(slowest.item())
    if rank == 0:
        (Path(folder) / "took.json").write_text(json.dumps(took))
    dist.destroy_process_group()


def compare(count: int, n: int, d: int, rounds: int) -> dict[str, object]:
    """Time of the shared loss over that of the gathered one, in as many processes on this machine.

    Args:
        count: Processes.
        n: Rows of the global batch, a multiple of ``count``.
        d: Width.
        rounds: How often each is timed.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(process, args=(count, folder, n, d, rounds), nprocs=count)
        took = json.loads((Path(folder) / "took.json").read_text())
    return {
        "processes": count,
        "n": n,
        "d": d,
        "samples": rounds,
        "seconds": {name: summary(values) for name, values in took.items()},
        "ratio": ratios(took["shared"], took["gathered"]),
    }

"""A training loop over several processes, with the loss of the one batch that they have together.

    torchrun --nproc-per-node 2 examples/distributed.py

Nothing is set up for the loss: it finds the process group, and DistributedDataParallel averages the gradients, which is
what ``gradient_reduction="mean"``, the default, expects. Every process may have another number of rows.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vicreg import VICRegLoss


def main() -> None:
    """Train on what each process has of a made-up sample."""
    gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpu else "gloo")
    rank, count = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if gpu else torch.device("cpu")

    torch.manual_seed(0)
    samples = torch.randn(256, 32, device=device) @ torch.randn(32, 32, device=device)
    own = samples.tensor_split(count)[rank]  # in a real loop, by a DistributedSampler

    network = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 128)).to(device)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = VICRegLoss()
    for step in range(101):
        view_a, view_b = (own + 0.3 * torch.randn_like(own) for _ in range(2))
        z_a, z_b = model(torch.cat((view_a, view_b))).chunk(2)  # one call: DDP wants one forward per backward
        terms = loss.terms(z_a, z_b)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        if step % 20 == 0 and rank == 0:
            print(f"step {step}  " + "  ".join(f"{name} {value.item():.4g}" for name, value in terms.items()))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

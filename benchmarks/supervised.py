"""VCReg on digits: does it spread hidden features, and do they then serve classes that the labels did not name?

    python benchmarks/supervised.py [--seeds 10] [--steps 400] [--out FILE.md]

A perceptron (64-64-32, ReLU) learns the digits 0 to 4 from their labels, with VCReg on the outputs of both hidden
linear layers or without; on other samples: its accuracy on those five, and that of a logistic regression on its frozen
hidden features (32) for the digits 5 to 9, which no label named; rank (RankMe) and mean squared correlation of the
features on all held-out digits. Mean and deviation over the seeds, each with a split and a start of its own.
"""

import argparse
import statistics
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from vicreg import VCReg
from vicreg.functional import mean_correlation, rankme

COEFFICIENTS = [(0.0, 0.0), (0.16, 0.01), (0.16, 0.16), (1.0, 0.1), (1.0, 1.0), (4.0, 4.0)]
KNOWN = 5
BATCH = 128


def split(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples to learn from and their labels, and those held out."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
    held, kept = order[:600], order[600:]
    return x[kept], y[kept], x[held], y[held]


def trained(x: Tensor, y: Tensor, seed: int, std_coeff: float, cov_coeff: float, steps: int) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, KNOWN))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with VCReg(std_coeff, cov_coeff).attach(model, ["0", "2"]) as features:
        for _ in range(steps):
            rows = torch.randint(len(x), (BATCH,))
            optimizer.zero_grad()
            (cross_entropy(model(x[rows]), y[rows]) + features.total()).backward()
            optimizer.step()
    return model


def measured(seed: int, std_coeff: float, cov_coeff: float, steps: int) -> list[float]:
    x, y, held_x, held_y = split(seed)
    model = trained(x[y < KNOWN], y[y < KNOWN], seed, std_coeff, cov_coeff, steps)
    with torch.no_grad():
        right = model(held_x[held_y < KNOWN]).argmax(dim=1) == held_y[held_y < KNOWN]
        hidden, held = model[:4](x), model[:4](held_x)
    new, held_new = y >= KNOWN, held_y >= KNOWN
    scale = hidden[new].std()
    probe = LogisticRegression(max_iter=5000).fit(hidden[new] / scale, y[new])
    transfer = probe.score(held[held_new] / scale, held_y[held_new])
    before = model[:3](held_x).detach()
    return [right.float().mean().item(), transfer, rankme(before).item(), mean_correlation(before).item()]


def shown(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, help="where to write the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| std_coeff | cov_coeff | digits 0-4 | digits 5-9, probe | rank | mean squared correlation |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    for std_coeff, cov_coeff in COEFFICIENTS:
        found = [measured(seed, std_coeff, cov_coeff, options.steps) for seed in range(options.seeds)]
        cells = [f"{std_coeff:g}", f"{cov_coeff:g}", *(shown(list(column)) for column in zip(*found, strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

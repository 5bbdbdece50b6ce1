"""What a step of each objective costs over its bare matrix products, on given embeddings.

    python benchmarks/objectives.py [--cells NxD ...] [--seconds 15] [--out FILE.json] [--docs FILE.md]

Forward and backward of each objective at its defaults on two random float32 embeddings of n x d, and the matrix
products that its closed form cannot do without, into memory that is there already, all in turn in one run on one thread
of a CPU. Time is that thread's processor time, so that it does not count what else the machine does meanwhile; ratios
are medians over the rounds, quartiles in brackets; 1.3 is asked.

The products, for each view or pair of views: vicreg and vibcreg the square matrix of the smaller side, and it times the
embedding; barlow_twins the cross-correlation and it times either view, or for d > 2 n both Gram matrices and each times
the other view; simclr the cosines of all 2 n rows and their weights times the rows; sigreg and visreg the projection on
256 directions and back; vicregl those of vicreg, and for its maps, of 9 places and up to 512 wide, those of vicreg for
each matched place and the distances between features. byol and simsiam have none.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from measure import Work, in_turn, ratios, summary
from published import bare_products
from torch import Tensor

from vicreg.objectives import OBJECTIVES, Outputs

CELLS = [(256, 256), (256, 2048), (2048, 256), (1024, 1024)]
ASKED = 1.3
SLICES = 256
PLACES, LOCATED, WIDEST = 9, 4, 512
CPU = torch.device("cpu")

Row = dict[str, object]


def outputs(n: int, d: int) -> tuple[Outputs, list[Tensor]]:
    """All that an objective may ask for, and those of it that have gradients."""
    generator = torch.Generator().manual_seed(n + d)

    def drawn(*size: int) -> tuple[Tensor, Tensor]:
        one, other = (torch.randn(n, *size, generator=generator).requires_grad_() for _ in range(2))
        return one, other

    z, p, maps = drawn(d), drawn(d), drawn(PLACES, min(d, WIDEST))
    target = tuple(one.detach() for one in drawn(d))
    cut = torch.tensor([0.0, 0.0, 30.0, 30.0, 0.0]) + 20 * torch.rand(2, n, 5, generator=generator)
    cuts = tuple(torch.cat((one[:, :4], one[:, 4:] > 10), dim=1) for one in cut)
    return Outputs(x=None, h=z, z=z, p=p, target=target, maps=maps, cuts=cuts), [*z, *p, *maps]


def step(name: str, made: Outputs, leaves: list[Tensor]) -> Work:
    objective = OBJECTIVES[name]()

    def work() -> None:
        torch.autograd.grad(objective(made)[0], leaves, allow_unused=True)

    return work


def products(n: int, d: int) -> dict[str, Work]:
    """The bare products of each objective that has some."""
    x, y, both = torch.randn(n, d), torch.randn(n, d), torch.randn(2 * n, d)
    along, projected = torch.randn(d, SLICES), torch.empty(n, SLICES)
    out, wide = torch.empty(n, d), torch.empty(2 * n, d)
    rows, columns, cosines = torch.empty(n, n), torch.empty(d, d), torch.empty(2 * n, 2 * n)

    def barlow_twins() -> None:
        if d <= 2 * n:
            torch.mm(x.T, y, out=columns)
            torch.mm(y, columns.T, out=out)
            torch.mm(x, columns, out=out)
        else:
            for one, other in ((x, y), (y, x)):
                torch.mm(one, one.T, out=rows)
                torch.mm(rows, other, out=out)

    def simclr() -> None:
        torch.mm(both, both.T, out=cosines)
        torch.mm(cosines, both, out=wide)

    def sliced() -> None:
        for one in (x, y):
            torch.mm(one, along, out=projected)
            torch.mm(projected, along.T, out=out)

    d_map = min(d, WIDEST)
    maps, place, other_place = torch.randn(2, n, PLACES, d_map), torch.randn(n, d_map), torch.randn(n, d_map)
    gaps = torch.empty(n, PLACES, PLACES)
    whole, of_places = bare_products(x, y), bare_products(place, other_place)

    def vicregl() -> None:
        whole()
        for _ in range(2):  # either view's places find some in the other
            torch.bmm(maps[0], maps[1].mT, out=gaps)
            for _ in range(PLACES + LOCATED):
                of_places()

    shared = {"vicreg": whole, "vibcreg": whole, "sigreg": sliced, "visreg": sliced}
    return {**shared, "barlow_twins": barlow_twins, "simclr": simclr, "vicregl": vicregl}


def cell(n: int, d: int, budget: float) -> list[Row]:
    made, leaves = outputs(n, d)
    bare = products(n, d)
    works = {name: step(name, made, leaves) for name in OBJECTIVES}
    works |= {f"bare {name}": work for name, work in bare.items()}
    took, _ = in_turn(works, budget, 5, CPU, time.thread_time)
    found: list[Row] = []
    for name in OBJECTIVES:
        row: Row = {"n": n, "d": d, "objective": name, "samples": len(took[name]), "seconds": summary(took[name])}
        if name in bare:
            row |= {"bare": summary(took[f"bare {name}"]), "ratio": ratios(took[name], took[f"bare {name}"])}
        found.append(row)
    return found


def line(row: Row) -> str:
    """A row of the table."""
    ratio, bare = row.get("ratio"), row.get("bare")
    cells = [f"{row['n']} x {row['d']}", f"`{row['objective']}`", f"{1e3 * row['seconds']['median']:.3g}"]
    if ratio is None:
        return "| " + " | ".join([*cells, "", "no products", ""]) + " |"
    shown = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    reached = "yes" if ratio["median"] <= ASKED else "no"
    return "| " + " | ".join([*cells, f"{1e3 * bare['median']:.3g}", shown, reached]) + " |"


MISSED = """What does not reach it, and why. At small n and d products take milliseconds, and what is no product as
long: passes over the embeddings to centre, standardise and compare them, new memory, and the calls themselves;
barlow_twins standardises once for each of its two terms, and vicregl does all this for every matched place. Where both
n and d are 1024 the others that have square matrices reach it. sigreg and visreg reach it at none of these sizes: their
products are linear in n and d, and beside them every projection, n K numbers, needs cosines and sines or sorting, which
no product does; the wider the embedding beside the 256 directions, the smaller that share."""

HEAD = ["| n x d | objective | step, ms | bare products, ms | ratio | at most 1.3 |", "|---|---|---|---|---|---|"]


def page(rows: list[Row], about: str, command: str) -> str:
    """The results as Markdown."""
    rest = __doc__.partition("\n")[2]
    paragraphs = [part for part in rest.strip().split("\n\n") if not part.lstrip().startswith("python ")]
    table = "\n".join([*HEAD, *(line(row) for row in rows)])
    head = ["# What a step of each objective costs", f"    {command}", about]
    return "\n\n".join([*head, *paragraphs, table, MISSED]) + "\n"


def main() -> None:
    def size(text: str) -> tuple[int, int]:
        n, d = text.split("x")
        return int(n), int(d)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=size, nargs="+", default=CELLS, metavar="NxD")
    parser.add_argument("--seconds", type=float, default=15.0, help="time for each size, which takes 5 rounds at least")
    parser.add_argument("--out", type=Path, help="where to write the figures")
    parser.add_argument("--docs", type=Path, help="where to write the page")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = f"torch {torch.__version__}, Python {platform.python_version()}, {torch.backends.cpu.get_cpu_capability()}."
    print("\n".join([about, *HEAD]), flush=True)
    rows: list[Row] = []
    for n, d in options.cells:
        rows += cell(n, d, options.seconds)
        print("\n".join(line(row) for row in rows[-len(OBJECTIVES) :]), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    if options.docs:
        options.docs.write_text(page(rows, about, " ".join(["python benchmarks/objectives.py", *sys.argv[1:]])))


if __name__ == "__main__":
    main()

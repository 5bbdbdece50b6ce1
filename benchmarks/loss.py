"""The VICReg loss against its published forms and against its bare matrix products: time and memory.

    python benchmarks/loss.py [--threads 2] [--device cpu] [--quick] [--cells NxD ...] [--seconds 8] [--processes 2]
                              [--json FILE] [--docs FOLDER]

Forward and backward of two random embeddings in float32, all in turn in one run. Ratios are medians over the rounds,
quartiles in brackets. "official x" is the time of the official form over ours, "products x" our time over that of the
bare products; what was asked of us stands behind. Extra memory is the most that is allocated at one time above the
inputs, with the two gradients that every form must return. The d x d forms run up to 0.5 TFLOP a product and 4 GiB;
beyond that ours alone. Then: the exact loss over two processes, accuracy, and what the loss is of a training step.

``--quick`` takes the sizes with a target of their own against the official form alone, and leaves the processes out.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Before PyTorch is loaded: its profiler, which measures the memory, would tell of every start and stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from loss_accuracy import accuracy, reduced
from loss_page import page, picture
from loss_processes import compare
from loss_step import shares
from measure import Work, first_run, in_turn, ratios, summary
from published import FORMS, Loss, bare_products, check_agreement, with_gradients
from torch import Tensor

from vicreg import VICRegLoss

WIDTHS = {
    64: [64, 512, 2048, 4096, 16384],
    256: [64, 256, 2048, 8192, 16384],
    1024: [1024, 4096],
    2048: [64, 512, 2048, 8192, 16384],
    4096: [64, 256, 1024, 4096, 8192],
}
GRID = [(n, d) for n, widths in WIDTHS.items() for d in widths]

# (speed against the official form, extra memory against it); elsewhere never slower and no more memory.
ASKED = {
    "cpu": {
        (256, 8192): (40.0, 1 / 8),
        (2048, 8192): (7.0, 1 / 4),
        (256, 2048): (7.0, 1 / 5),
        (2048, 2048): (1.9, 1 / 2),
        (4096, 256): (1.4, 1.0),
        (64, 64): (1.4, 1.0),
    },
    "cuda": {(2048, 8192): (4.0, 1.0), (256, 8192): (20.0, 1.0)},
}
LARGEST_PRODUCT, LARGEST_MEMORY = 0.5e12, 4 * 2**30
SHARED = (2048, 8192)
SHARED_ASKED = 0.75


def embeddings(n: int, d: int, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n + d)
    return [torch.randn(n, d, generator=generator).to(device).requires_grad_() for _ in range(2)]


def fits(form: Loss, n: int, d: int, device: torch.device) -> bool:
    """Whether a d x d form is to run at this size: its memory is 64 times that at an eighth of both sides."""
    if 2 * n * d**2 > LARGEST_PRODUCT:
        return False
    views = embeddings(max(2, n // 8), max(2, d // 8), device)
    return 64 * first_run(lambda: with_gradients(form, *views), device)[1] <= LARGEST_MEMORY


def products_asked(n: int, d: int, products: float, device: torch.device) -> float | None:
    """How much longer than the bare products, which take so many seconds, the loss may take; None: no bound."""
    if device.type == "cuda":
        return 1.5 if (n, d) in ASKED["cuda"] else None
    if min(n, d) >= 1024:
        return 1.25
    if (n, d) == (256, 8192):
        return 1.5
    return 3.0 if products >= 1e-3 else None


def cell(n: int, d: int, forms: dict[str, Loss], budget: float, least: int, device: torch.device) -> dict[str, object]:
    """All that is measured at one size, what was asked, and which of it is not reached."""
    views = embeddings(n, d, device)
    losses = {"ours": VICRegLoss()} | {name: form for name, form in forms.items() if fits(form, n, d, device)}
    works: dict[str, Work] = {name: lambda loss=loss: with_gradients(loss, *views) for name, loss in losses.items()}
    works["products"] = bare_products(*(z.detach() for z in views))
    took, most = in_turn(works, budget, least, device)
    speed_asked, memory_asked = ASKED[device.type].get((n, d), (1.0, 1.0))
    bound = products_asked(n, d, summary(took["products"])["median"], device)
    speed = {name: ratios(took[name], took["ours"]) for name in losses if name != "ours"}
    products = ratios(took["ours"], took["products"])
    missed = [name for name, r in speed.items() if r["median"] < (speed_asked if name == "official" else 1.0)]
    memory = most["ours"] / most["official"] if "official" in losses else None
    missed += ["memory"] if memory is not None and memory > memory_asked else []
    missed += ["products"] if bound is not None and products["median"] > bound else []
    return {
        "n": n,
        "d": d,
        "samples": len(took["ours"]),
        "seconds": {name: summary(values) for name, values in took.items()},
        "speed": speed,
        "speed_asked": speed_asked,
        "products": products,
        "products_asked": bound,
        "bytes": {name: most[name] for name in losses},
        "memory": memory,
        "memory_asked": memory_asked,
        "missed": missed,
    }


def spread(ratio: dict[str, float] | None, asked: float | None = None) -> str:
    if ratio is None:
        return ""
    shown = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return shown if asked is None else f"{shown} ({asked:g})"


def line(found: dict[str, object], names: list[str]) -> str:
    """A row of the printed table."""
    speed = found["speed"]
    asked = found["speed_asked"] if "official" in speed else None
    cells = [f"{spread(speed.get('official'), asked):>25}"]
    cells += [f"{speed[name]['median'] if name in speed else float('nan'):>9.2f}" for name in names[1:]]
    cells.append(f"{spread(found['products'], found['products_asked']):>25}")
    memory = "" if found["memory"] is None else f"{found['memory']:.3f} ({found['memory_asked']:.3g})"
    cells.append(f"{found['bytes']['ours'] / 2**20:>10.2f} {memory:>15}")
    reached = "yes" if not found["missed"] else "no: " + ", ".join(found["missed"])
    ours = 1e3 * found["seconds"]["ours"]["median"]
    return f"{found['n']:>5} {found['d']:>6} {ours:>10.3f} {' '.join(cells)}  {reached}"


def heading(names: list[str]) -> str:
    others = " ".join(f"{name[:7] + ' x':>9}" for name in names[1:])
    columns = (
        f"{'official x (asked)':>25} {others} {'products x (asked)':>25} {'extra MiB':>10} {'of off. (asked)':>15}"
    )
    return f"{'n':>5} {'d':>6} {'ours, ms':>10} {columns}  reached"


def about(options: argparse.Namespace, argv: Sequence[str]) -> dict[str, object]:
    """What the figures were measured with."""
    packages = {}
    for name in ("vicreg", "torch", "numpy", "lightly", "pytorch-metric-learning"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python benchmarks/loss.py", *argv]),
        "versions": packages,
        "python": platform.python_version(),
        "threads": options.threads,
        "cpu": cpu_name(),
        "device": torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "cpu",
    }


def cpu_name() -> str:
    """The processor by its own name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [entry.split(":", 1)[1].strip() for entry in lines if entry.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def worst(rows: list[dict[str, object]], key: str) -> dict[str, object]:
    return max(rows, key=lambda row: row[key])


def tell_accuracy(rows: Iterator[dict[str, object]]) -> list[dict[str, object]]:
    """Print one line for each kind as soon as its sizes are done: the worst of each figure over the sizes."""
    keys = {"loss": "loss", "gradient": "gradient", "covariance": "cov", "covariance_gradient": "cov gradient"}
    print("\nrelative errors in float32, worst over the sizes; share of the bound that the worst uses up; in float64")
    print(f"{'embeddings':26}{''.join(f'{name:>14}' for name in keys.values())}{'of bound':>10}  {'at':14}float64")
    found: list[dict[str, object]] = []

    def tell(kind: str) -> None:
        rows = [row for row in found if row["kind"] == kind]
        most = worst(rows, "of_bound")
        figures = "".join(f"{worst(rows, key)[key]:>14.1e}" for key in keys)
        at = f"{most['n']} x {most['d']}"
        print(
            f"{kind:26}{figures}{most['of_bound']:>10.2f}  {at:14}{worst(rows, 'float64')['float64']:.1e}", flush=True
        )

    for row in rows:
        if found and found[-1]["kind"] != row["kind"]:
            tell(found[-1]["kind"])
        found.append(row)
    if found:
        tell(found[-1]["kind"])
    return found


def tell_reduced(rows: Iterator[dict[str, object]]) -> list[dict[str, object]]:
    """Print the worst error of each reduced precision, of d <= n and of d > n."""
    found = list(rows)
    for precision, of in sorted({(row["precision"], row["of"]) for row in found}):
        for side in ("d <= n", "d > n"):
            mine = [row for row in found if (row["precision"], row["of"]) == (precision, of)]
            mine = [row for row in mine if (row["d"] <= row["n"]) == (side == "d <= n")]
            if mine:
                value, gradient = (worst(mine, key)[key] for key in ("value", "gradient"))
                print(f"white, {precision:7} {of:11} {side:7} value {value:.1e}, gradient {gradient:.1e}", flush=True)
    return found


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    def size(text: str) -> tuple[int, int]:
        n, d = text.split("x")
        return int(n), int(d)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", type=size, nargs="+", metavar="NxD")
    parser.add_argument("--seconds", type=float, help="time for each size; what is slow takes 5 rounds (quick: 3)")
    parser.add_argument("--processes", type=int, help="0 leaves that part out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args(argv)
    options.cells = options.cells or (list(ASKED["cpu"]) if options.quick else GRID)
    options.seconds = options.seconds or (3.0 if options.quick else 8.0)
    if options.processes is None:
        options.processes = 0 if options.quick or options.device.type == "cuda" else 2
    return options


def main(argv: Sequence[str]) -> None:
    options = parsed(argv)
    torch.set_num_threads(options.threads)
    check_agreement()
    found: dict[str, object] = {"about": about(options, argv)}
    forms = {"official": FORMS["official"]} if options.quick else FORMS
    versions = ", ".join(f"{name} {number}" for name, number in found["about"]["versions"].items())
    print(f"{versions}; {found['about']['cpu']}, {options.threads} threads, on {found['about']['device']}")
    print(heading(list(forms)), flush=True)
    found["grid"] = []
    for n, d in options.cells:
        found["grid"].append(cell(n, d, forms, options.seconds, 3 if options.quick else 5, options.device))
        print(line(found["grid"][-1], list(forms)), flush=True)
    if options.processes:
        shared = compare(options.processes, *SHARED, rounds=7)
        shared |= {"asked": SHARED_ASKED, "reached": shared["ratio"]["median"] <= SHARED_ASKED}
        found["processes"] = shared
        where = f"{options.processes} processes, one thread each, {SHARED[0]} x {SHARED[1]}"
        told = f"{spread(shared['ratio'], SHARED_ASKED)}  {'yes' if shared['reached'] else 'no'}"
        print(f"\n{where}: time against gathering everywhere {told}", flush=True)
    found["accuracy"] = tell_accuracy(accuracy(options.cells, 0.02e12 if options.quick else 0.07e12, options.device))
    found["reduced"] = tell_reduced(
        reduced([(n, d) for n, d in options.cells if n * d * min(n, d) < 2e10], options.device)
    )
    found["step"] = shares()
    print("\nthe loss as per cent of a training step's operations, images of 224 x 224, expander of three layers")
    for row in found["step"]:
        where = f"{row['network']}, width {row['d']}, batch {row['n']}"
        print(f"{where:36} official {row['official']:6.2f} %   ours {row['ours']:6.2f} %", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        (options.docs / "loss.svg").write_text(picture(found["grid"]))
        (options.docs / "loss.md").write_text(page(found))


if __name__ == "__main__":
    main(sys.argv[1:])

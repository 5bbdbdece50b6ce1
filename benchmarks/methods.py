"""Every objective on equal terms, and VICReg's own ablations: held-out scores, readings, collapse, cost.

    python benchmarks/methods.py --data FOLDER [--part methods ablations defaults cost]
                                 [--sets digits satimage fashion] [--seeds 3] [--docs docs/results]

FOLDER (or VICREG_DATA) holds pmlb_satimage.parquet, fashion_mnist.npz and cifar10_jpeg.parquet; digits come with
scikit-learn. Every objective has the same views, encoder, expander, optimiser, steps and number of tuning trials on a
data set: six on digits (two learning rates by three values of its main weight; six rates where there is no weight),
four on the others (the lower rate with the default value alone). A trial learns from three quarters (pictures: four
fifths) of the training rows and is judged by a linear probe on the others; test rows are looked at only by the fits
that are reported, at the best trial's settings and with all training rows, from as many seeds as --seeds says. There is
no reconstruction term and no linear path, so that nothing but the objective keeps a representation from collapse.

--part ablations (digits): VICReg's coefficients, expander, batch size, and batch norm left out. --part defaults:
``vicreg fit`` on digits with each objective. --part cost: seconds and memory of a step (those of an
objective alone are in objectives.py). cifar10 is
for a GPU and only run when it is named. Every finished fit is written at once to benchmarks/out/methods.jsonl and
skipped when the command is run again, so that a study can go on later; --docs writes methods.md there from what is
finished, and runs nothing.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import methods_cost
import methods_defaults
import methods_page
import torch
from methods_fit import PROBLEMS, Fit, Problem, outcome
from methods_plan import (
    ADDED_TO,
    WITHOUT_NORM,
    ablations,
    batch_trials,
    best,
    methods_of,
    plain,
    references,
    seeded,
    trials,
)

OUT = Path(__file__).parent / "out"
SETS = ("digits", "satimage", "fashion")
PARTS = ("methods", "ablations", "defaults", "cost")


class Book:
    """Finished fits, in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = {fit_of(row["fit"]): row["result"] for row in lines(path)}

    def run(self, problem: Problem, fits: Iterator[Fit] | list[Fit]) -> None:
        """Train and judge those that are not there yet."""
        for fit in fits:
            if fit not in self.found:
                result = outcome(problem, fit)
                self.found[fit] = result
                append(self.path, {"fit": vars(fit), "result": result})
                numbers = {name: round(value, 4) for name, value in result.items() if isinstance(value, float)}
                print(*vars(fit).values(), "|", numbers, result.get("findings"), flush=True)


def fit_of(fields: dict) -> Fit:
    """A fit as the file has it: JSON knows no tuples."""
    return Fit(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def compare(book: Book, data: str, problem: Problem, seeds: int) -> None:
    """Tune each method, then judge it on test rows; and the references."""
    for method in methods_of(data):
        tried = trials(data, method)
        book.run(problem, tried)
        book.run(problem, seeded(best(book.found, tried), seeds))
        if method in ADDED_TO:
            book.run(problem, seeded(plain(book.found, data, method), seeds))
    width = int(next(row["width"] for fit, row in book.found.items() if fit.data == data and "width" in row))
    book.run(problem, references(data, width, seeds))


def ablate(book: Book, problem: Problem, seeds: int) -> None:
    """The ablations on digits, after what they take their settings from."""
    for method in WITHOUT_NORM:
        book.run(problem, trials("digits", method))
    book.run(problem, batch_trials(book.found))
    for fits in ablations(book.found).values():
        for fit in fits.values():
            book.run(problem, seeded(fit, seeds))


def once(path: Path, key: dict, make: Callable[[], object]) -> None:
    """Measure what the file does not have under this key yet, and write it there."""
    if not any(key.items() <= row.items() for row in lines(path)):
        row = key | {"found": make()}
        append(path, row)
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="budget of each measurement of --part cost")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    book = Book(options.out / "methods.jsonl")
    other = options.out / "methods_other.jsonl"
    if options.docs:
        methods_page.write(options.docs / "methods.md", book.found, lines(other))
        return
    data = None if options.data is None else Path(options.data)
    for name in options.sets if {"methods", "ablations", "cost"} & set(options.part) else ():
        if data is None and name != "digits":
            parser.error("name the folder of the data by --data or VICREG_DATA, or --sets digits")
        problem = PROBLEMS[name](data)
        if "methods" in options.part:
            compare(book, name, problem, options.seeds)
        if "ablations" in options.part and name == "digits":
            ablate(book, problem, options.seeds)
        if "cost" in options.part:
            firsts = [trials(name, method)[0] for method in methods_of(name)]
            once(other, {"step": name}, lambda p=problem, f=firsts: methods_cost.steps(p, f, options.seconds))
    for name in methods_defaults.NAMES if "defaults" in options.part else ():
        once(other, {"defaults": name}, lambda method=name: methods_defaults.fitted(method))


if __name__ == "__main__":
    main()

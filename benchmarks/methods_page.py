"""The page of the comparison of objectives."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import sklearn
import torch
from methods_claims import claims
from methods_fit import LENGTHS, METHODS, collapsed
from methods_plan import (
    Found,
    Results,
    ablations,
    best,
    methods_of,
    of_seeds,
    references,
    trials,
    vicreg_on_digits,
    width_of,
)
from methods_words import TITLES, ratio, spread, table, text

from vicreg import __version__

MARK = "<!-- below: python benchmarks/methods.py --docs docs/results -->"


HOW = """
Accuracy on test rows, mean and standard deviation over the seeds; a collapsed run counts with what it scores, a
diverged one with 0. RankMe, the mean squared correlation of different columns (about 1 / n for independent ones) and
collapse are of the representation of the test rows. Collapsed: the columns' mean deviation is below a tenth of the size
of the entries, or they vary along fewer than 2 directions (the limits of the monitor, docs/diagnostics.md). "Warned"
counts the runs in which the monitor named a failure of the embedding or the loss. Seconds are CPU time of a fit; MiB
are the most that tensors took at one time in a step. The knob is what was tuned beside the learning rate: the factor of
a published weight (of the terms that keep the embedding from collapse), SimCLR's temperature, BYOL's momentum.
"""
COST = """
A training step over that of the same networks with next to nothing for an objective, in turn in one run on one thread:
medians, quartiles in brackets. What objectives cost alone, beside their matrix products, is in
[objectives.md](objectives.md).
"""
DEFAULTS = """
Linear probe on validation rows at the published weights and a learning rate of .001, one seed. Last column:
`vicreg fit digits.csv --labels target --objective NAME` at the command line's defaults, which have a reconstruction
term and a linear path: linear probe and RankMe (of 16) on the rows it holds out.
"""


def cells(results: Results) -> list[str]:
    """Scores, readings and failures of one row."""
    read = [row for row in results if "rankme" in row]
    scores = [spread([row[name] for row in results]) for name in ("linear", "knn")]
    readings = [spread([row["rankme"] for row in read], lambda x: f"{x:.1f}")]
    readings.append(spread([row["correlation"] for row in read]))
    failed = sum(map(collapsed, results))
    warned = sum(bool(row.get("findings")) or bool(row.get("diverged")) for row in results)
    return [*scores, *readings, f"{failed} of {len(results)}", str(warned)]


HEAD = ["linear probe", "5-NN", "RankMe", "squared correlation", "collapsed", "warned"]


def compared(found: Found, data: str, steps: Mapping[str, dict]) -> Iterator[str]:
    """A data set's table."""
    rows = []
    for method in methods_of(data):
        fit = best(found, trials(data, method))
        results = of_seeds(found, fit)
        if results:
            knob = f"{fit.value:g}" if METHODS[method].knob else ""
            cpu = f"{statistics.mean(row.get('seconds', 0) for row in results):.1f}"
            most = f"{steps[method]['bytes'] / 2**20:.1f}" if method in steps else ""
            rows.append([method, f"{fit.rate:g}", knob, *cells(results), cpu, most])
    by_name = {fit.method: of_seeds(found, fit) for fit in references(data, width_of(found, data), 1)}
    rows += [[name, "", "", *cells(results), "", ""] for name, results in by_name.items() if results]
    if rows:
        length, batch = LENGTHS[data]
        yield f"\n## {TITLES[data]}\n"
        yield f"{length} steps of {batch}, {len(trials(data, 'vicreg'))} tuning trials each.\n"
        yield table(["objective", "learning rate", "knob", *HEAD, "s", "MiB"], rows)


def at_defaults(found: Found, commands: list[dict]) -> Iterator[str]:
    """Each objective at its published weights: a trial at the lower learning rate; and the command line on digits."""
    sets = [data for data in TITLES if any(fit.data == data for fit in found)]
    by_command = {row["method"]: row for row in commands}
    rows = []
    for method in METHODS:
        row = [method]
        for data in sets:
            one = found.get(trials(data, method)[0]) if method in methods_of(data) else None
            row.append("" if one is None else f"{text(one['linear'])}{', collapsed' if collapsed(one) else ''}")
        one = by_command.get(method)
        names = [finding["failure"] for finding in one["findings"]] if one else []
        warned = f", warned of {' and '.join(names)}" if names else ""
        state = "collapsed" if one and one["collapsed"] else ""
        row.append(
            "" if one is None else f"{text(one['linear'])}, {one['rankme']:.1f}{', ' * bool(state)}{state}{warned}"
        )
        rows.append(row)
    tried = sum(one not in {"", row[0]} for row in rows for one in row)
    failed = sum("collapsed" in one for row in rows for one in row)
    yield f"\n## At the defaults\n{DEFAULTS}{failed} of these {tried} representations have collapsed.\n"
    yield table(["objective", *(TITLES[data] for data in sets), "`vicreg fit` on digits"], rows)


KINDS = {
    "coefficients": "Coefficients (invariance / variance / covariance)",
    "expander": "Expander",
    "batch": "Batch size, as many samples seen by each; the learning rate chosen for each",
    "no batch norm": "No normalisation in encoder, expander and predictor; settings as tuned with it",
}


def ablated(found: Found) -> Iterator[str]:
    """VICReg's ablations on digits."""
    yield "\n## Ablations on digits\n"
    rate = vicreg_on_digits(found).rate
    yield f"VICReg at the paper's weights and a learning rate of {rate:g}, unless a line says otherwise."
    for kind, fits in ablations(found).items():
        results = {name: of_seeds(found, one) for name, one in fits.items()}
        rows = [[name, f"{fits[name].rate:g}", *cells(every)] for name, every in results.items() if every]
        if rows:
            yield f"\n{KINDS[kind]}:\n"
            yield table(["", "learning rate", *HEAD], rows)


def costs(rows: list[dict]) -> Iterator[str]:
    """Objectives in a step."""
    yield f"\n## Cost\n{COST}"
    steps = {TITLES[row["step"]]: named(row["found"]) for row in rows if "step" in row}
    lines = [
        [method, *(ratio(of[method]["networks"]) if method in of else "" for of in steps.values())]
        for method in METHODS
    ]
    if steps:
        yield table(["objective", *steps], lines)


def named(rows: list[dict]) -> dict[str, dict]:
    return {row["method"]: row for row in rows}


def unfinished(found: Found, other: list[dict]) -> list[str]:
    """What of the whole study is not there yet."""
    missing = []
    for data in LENGTHS:
        fits = [best(found, trials(data, method)) for method in methods_of(data)]
        if data != "cifar10" and not all(of_seeds(found, fit) for fit in fits):
            missing.append(TITLES[data])
    if not all(of_seeds(found, fit) for fits in ablations(found).values() for fit in fits.values()):
        missing.append("the ablations")
    if sum("defaults" in row for row in other) < len(METHODS) - 1:
        missing.append("the command line's defaults")
    return missing + ["cost"] * (not TITLES.keys() - {"cifar10"} <= {row.get("step") for row in other})


def page(found: Found, other: list[dict]) -> Iterator[str]:
    """All that is generated, line by line."""
    steps = {row["step"]: named(row["found"]) for row in other if "step" in row}
    spent = sum(row.get("seconds", 0) for row in found.values()) / 60
    versions = f"vicreg {__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    yield f"{versions}, one thread; {len(found)} fits, {spent:.0f} minutes of CPU in training."
    if missing := unfinished(found, other):
        yield f"\n**Not finished**: {', '.join(missing)}. Where a row is missing below, its fits have not been run."
    yield from claims(found)
    yield f"\n## How to read the tables\n{HOW.rstrip()}"
    for data in TITLES:
        yield from compared(found, data, steps.get(data, {}))
    yield from at_defaults(found, [row["found"] for row in other if "defaults" in row])
    yield from ablated(found)
    yield from costs(other)


def write(path: Path, found: Found, other: list[dict]) -> None:
    """The page; what stands above the mark is somebody's words, and stays."""
    before = path.read_text().split(MARK)[0] if path.exists() else "# The objectives on equal terms\n\n"
    path.write_text(f"{before}{MARK}\n\n" + "\n".join(page(found, other)) + "\n")

"""What of the VICReg paper's claims holds in the comparison of objectives, with numbers."""

import statistics
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from methods_fit import collapsed
from methods_plan import Found, Results, ablations, best, of_seeds, plain, references, trials, width_of
from methods_words import TITLES, points, spread, table, text

Difference = list[float]

CLEAR, ROBUST = 0.005, 0.02
RULE = f"""
A claim that something is better *holds* where the difference has its sign in every seed and is above {100 * CLEAR:g}
points on average, *does not hold* where the same is true of the opposite, and *cannot be told* otherwise. A claim that
something does not matter holds where the loss is at most {100 * ROBUST:g} points. Differences are those of linear
probes on test rows, in points: mean over the seeds, and their range. Where a variance term is added, its weight is
tuned and all else stays: the learning rate is the better of the same two, BYOL's momentum the default. Collapsed counts
here the runs whose embedding has collapsed (the monitor names it) or whose representation has; behind batch norm the
latter can outlive the former, so the tables below count the two apart.
"""
DECORRELATION = """
Mean squared correlation of different columns of the representation of test rows, none of these but VICReg having a term
for it.
"""
OUT_OF_REACH = (
    ("accuracy on ImageNet, transfer, semi-supervised learning", "T1, T2, T9, T11"),
    ("time and memory of a step on GPUs against SwAV, BYOL, Barlow Twins", "T14"),
)
"""Claims that this study cannot speak of, and the paper's tables."""
WORDS = {1: "holds", -1: "does not hold", 0: "cannot be told"}


def claims(found: Found) -> Iterator[str]:
    """The paper's qualitative claims, each with numbers; nothing before the ablations are there."""
    of = {kind: {name: of_seeds(found, fit) for name, fit in fits.items()} for kind, fits in ablations(found).items()}
    if not all(results for by_name in of.values() for results in by_name.values()):
        return
    rows = [*coefficient_claims(of["coefficients"]), *expander_claims(of["expander"]), batch_claim(of["batch"])]
    rows += [addition_claim(found, "byol", "69.3 to 70.2"), addition_claim(found, "simsiam", "67.9 to 68.1")]
    rows += norm_claims(of["no batch norm"], of_seeds(found, best(found, trials("digits", "vicreg"))))
    rows += [["branches that differ, two kinds of data", "T3, T5, T6", "", "[branches.md](branches.md)"]]
    rows += [[claim, where, "", "not testable at this scale"] for claim, where in OUT_OF_REACH]
    yield f"\n## The paper's claims\n{RULE}"
    yield table(["claim", "in the paper", "here", ""], rows)
    yield f"\n## Does a stopped gradient or an averaged target decorrelate?\n{DECORRELATION}"
    shown = ("untrained", "simsiam", "byol", "vicreg")
    body = [[TITLES[data], *(correlation(found, data, name) for name in shown)] for data in TITLES]
    yield table(["", *shown], [row for row in body if any(row[1:])])


def coefficient_claims(by_name: dict[str, Results]) -> Iterator[list[str]]:
    """That the variance term prevents collapse, that the covariance adds accuracy, and that small weights collapse."""
    names = ("25/25/1", "25/0/1", "25/0/0")
    said = "; ".join(f"{name}: {failures(by_name[name])}, linear {mean(by_name[name])}" for name in names)
    whole, *without = ([failed(row) for row in by_name[name]] for name in names)
    kept = not any(whole)
    told = "holds" if kept and all(map(all, without)) else "in part" if kept and any(map(any, without)) else WORDS[-1]
    yield ["the variance term prevents collapse", "collapse without", said, told]
    gain = differences(by_name["25/25/1"], by_name["25/25/0"])
    yield ["the covariance term adds accuracy", "57.5 to 68.6", points(gain), verdict({"": gain})]
    uneven = [by_name[name] for name in ("1/1/1", "1/10/1", "10/1/1")]
    said = f"{failures(list(chain(*uneven)))}; linear {', '.join(map(mean, uneven))}"
    every = [failed(row) for row in chain(*uneven)]
    told = "holds" if all(every) else "in part" if any(every) else WORDS[-1]
    yield ["1/1/1, 1/10/1 and 10/1/1 collapse", "collapse", said, told]


def expander_claims(by_name: dict[str, Results]) -> Iterator[list[str]]:
    """That there should be an expander, and a wide one."""
    some = differences(by_name["256-256"], by_name["none"])
    yield ["an expander helps", "", f"256-256 over none {points(some)}", verdict({"": some})]
    wide = differences(by_name["1024-1024"], by_name["16-16"])
    yield [
        "wider expanders help",
        "55.9 (256) to 68.8 (16384)",
        f"1024-1024 over 16-16 {points(wide)}",
        verdict({"": wide}),
    ]


def batch_claim(by_name: dict[str, Results]) -> list[str]:
    """That the batch size matters little."""
    means = {name: statistics.mean(row["linear"] for row in rows) for name, rows in by_name.items() if rows}
    said = ", ".join(f"{name}: {text(value)}" for name, value in means.items())
    holds = bool(means) and max(means.values()) - min(means.values()) <= ROBUST
    return ["robust to batch size", "67.3 (128) to 68.6 (2048)", said, WORDS[1 if holds else -1]]


def addition_claim(found: Found, name: str, paper: str) -> list[str]:
    """That a variance term helps a method that has none, on every data set."""
    gains = {data: gain_of(found, data, name) for data in TITLES}
    said = "; ".join(f"{TITLES[data]} {points(one)}" for data, one in gains.items() if one)
    return [f"a variance term helps {name}", paper, said, verdict({TITLES[data]: one for data, one in gains.items()})]


def norm_claims(without: dict[str, Results], with_norm: Results) -> Iterator[list[str]]:
    """That VICReg needs no normalisation, and that others then need its variance term."""
    loss = differences(without["vicreg"], with_norm)
    fine = bool(loss) and statistics.mean(loss) >= -ROBUST and not any(map(collapsed, without["vicreg"]))
    yield ["VICReg needs no normalisation", "68.6 to 67.4", points(loss), WORDS[1 if fine else -1]]
    gain = differences(without["simsiam+variance"], without["simsiam"])
    said = f"{points(gain)}; SimSiam alone: {failures(without['simsiam'])}"
    yield ["without normalisation a variance term saves SimSiam", "35.1 to 67.3", said, verdict({"": gain})]


def correlation(found: Found, data: str, method: str) -> str:
    """Mean squared correlation of a method's representations."""
    every = {fit.method: fit for fit in references(data, width_of(found, data), 1)}
    fit = every[method] if method in every else best(found, trials(data, method))
    return spread([row["correlation"] for row in of_seeds(found, fit) if "correlation" in row])


COLLAPSES = {"norm collapse", "informational collapse", "dead dimensions", "diverging"}
"""What the monitor says of an embedding that has collapsed, or soon will have."""


def failed(result: Mapping[str, Any]) -> bool:
    """Whether representation or embedding has collapsed."""
    return collapsed(result) or not COLLAPSES.isdisjoint(result["findings"])


def failures(results: Results) -> str:
    return f"{sum(map(failed, results))} of {len(results)} collapsed"


def mean(results: Results) -> str:
    return text(statistics.mean(row["linear"] for row in results)) if results else ""


def gain_of(found: Found, data: str, name: str) -> Difference:
    """Of a method with a variance term, its weight tuned, over the method at its default, by seed."""
    added = best(found, trials(data, f"{name}+variance"))
    return differences(of_seeds(found, added), of_seeds(found, plain(found, data, name)))


def differences(ours: Results, theirs: Results) -> Difference:
    """Of linear probes, by seed."""
    return [a["linear"] - b["linear"] for a, b in zip(ours, theirs, strict=False)]


def verdict(groups: Mapping[str, Difference]) -> str:
    """Whether the first is better; by name where groups of differences do not agree."""
    told = {name: WORDS[side(one)] for name, one in groups.items() if one}
    if len(set(told.values())) > 1:
        return "; ".join(f"{name}: {word}" for name, word in told.items())
    return next(iter(told.values()), "not run")


def side(differences: Difference) -> int:
    """1 or -1 for a clear difference, else 0."""
    clear = abs(statistics.mean(differences)) > CLEAR
    sign = 1 if differences[0] > 0 else -1
    return sign if clear and all(one * sign > 0 for one in differences) else 0

"""The page of the study of scores: tables of what is finished, and what they say."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tuning_analysis as analysis
from branches_store import Row
from tuning_analysis import Problem, gain, share
from tuning_trials import BATCH, SETS, STEPS

from vicreg.evaluation import mean_interval
from vicreg.tuning.scores import LABEL_FREE, RELATIVE
from vicreg.tuning.search import DEFAULT_SCORE
from vicreg.tuning.study import COLLAPSES

HALF = 0.5
SEEN = 8
WHAT = f"""
Does a score without labels pick settings as labels would? Of each data set configuration 0 is the default and the
others are drawn from the default space around it; all fits are short ({STEPS} steps of {BATCH} rows, half to twice as
many where the space says so), from one seed. Up to 3,000 rows of each: three fifths are learnt from, without labels;
one fifth is what label-free scores look at, and what labels choose on where they do; one fifth is judged on and never
chosen on. The width of the representation is 8, or half the columns where they are fewer. Fashion-MNIST is a table of
14 x 14 pixels here. Accuracy is the mean of a linear probe and 5-NN, fitted on the rows that were learnt from.
"""
CORRELATION = """
Spearman's rank correlation between a score and the test accuracy of the linear probe and of 5-NN over the
configurations of a data set, collapsed ones among them: the mean over data sets, with its 95 % bootstrap interval
over them. "the loss" is what the earliest work minimised: the loss itself, whose weights are searched.
"""
PICKS = """
Test accuracy of the configuration that each score picks among all of a data set's, less the default's, in points: the
mean over data sets, on how many it is better and worse, and the worst. Configurations that the monitor calls collapsed
are not picked, as `vicreg tune` ends them. The share is that mean over what picking by labels gains (both probes on the
rows chosen on), with its bootstrap interval over data sets. "the best there is" knows the test rows.
"""
MIXED = """
The gains over the default that two scores show, or all of them, each in units of its usual spread (the median over
data sets of its standard deviation over configurations): their mean, and the smallest of them. Many mixtures and few
data sets: so the best is chosen on every other data set and judged on the rest, and the same the other way round. The
score `mixture` is the smaller gain of RankMe of the embedding and held-out columns, with spreads fixed beforehand.
"""


def page(rows: Sequence[Row], made_by: str) -> str:
    """The whole page."""
    every = analysis.problems(rows, SETS, COLLAPSES)
    parts = [
        "# Scores to tune by",
        f"`python benchmarks/tuning.py --data FOLDER`, then `--docs docs/results`. {made_by}",
    ]
    parts += [prose(WHAT), *unfinished(rows)]
    if len(every) > 1:
        parts += [
            *answer(every),
            *ranked(every),
            *gains(every),
            *by_set(every),
            *mixed(every),
            *each_correlation(every),
        ]
    return "\n\n".join(parts) + "\n"


def unfinished(rows: Sequence[Row]) -> Iterator[str]:
    count = {name: sum(row["key"]["set"] == name for row in rows) for name in SETS}
    spent = sum(row["cpu_seconds"] for row in rows) / 60
    low, high = min(count.values()), max(count.values())
    each = str(low) if low == high else f"{low} to {high}"
    yield f"{len(rows)} configurations, {each} of each of {len(SETS)} data sets; {spent:.0f} minutes of CPU."
    if low < 41:
        yield "**Not finished**: 41 configurations of each are meant. What follows is of those that are there."


def answer(every: Sequence[Problem]) -> Iterator[str]:
    """What the tables say, in words."""
    free = [name for name in LABEL_FREE if name in every[0].scores]
    first, second = analysis.halves(every)
    chosen = [analysis.best_on(half, free) for half in (first, second)]
    judged = [share(half, name) for half, name in zip((second, first), chosen, strict=True)]
    labels = np.mean([gain(one, "labels: both") for one in every])
    most = np.mean([one.judged[~one.collapsed].max() - one.judged[0] for one in every])
    yield "## What it says"
    yield prose(
        f"Labels pick configurations that are {points(labels)} better than the default on test rows, on average; the",
        f"best among the drawn ones is {points(most)} better.",
        f"The default score, `{DEFAULT_SCORE}`, gains {points(np.mean([gain(one, DEFAULT_SCORE) for one in every]))}:",
        f"{percent(share(every, DEFAULT_SCORE))} of what labels gain",
        f"(95 % interval {interval(every, DEFAULT_SCORE)}).",
    )
    later = [analysis.drawn_after(one, SEEN + 1) for one in every if len(one.tests) > SEEN + 2]
    if later:
        mine, labels = (np.mean([gain(one, name) for one in later]) for name in ("mixture", "labels: both"))
        yield prose(
            f"`mixture` was put together when the first {SEEN} drawn configurations of each data set were seen,",
            "and took the place of `columns` as the default score until later draws spoke against it. Among those",
            f"drawn after, which had no part in that, it gains {points(mine)} over the default, and labels",
            f"{points(labels)}.",
        )
    top = analysis.best_on(every, free)
    reached = share(every, top) >= HALF
    yield prose(
        f"Over all data sets `{top}` picks best, with {percent(share(every, top))}.",
        "That is at least the half that was aimed at." if reached else "The half that was aimed at is not reached.",
        f"Chosen on every other data set, it would be `{chosen[0]}`, which recovers {percent(judged[0])} on the",
        f"rest; the other way round `{chosen[1]}`, with {percent(judged[1])}.",
    )
    named = [name for name in free if correlation(every, name).low > 0]
    said = ", ".join(f"`{name}`" for name in named) or "none"
    loss = correlation(every, "the loss")
    yield prose(
        "Scores whose rank correlation with accuracy is above 0 beyond chance (both probes, interval over data sets):",
        f"{said}. The loss itself has {loss.value:+.2f} [{loss.low:+.2f}, {loss.high:+.2f}].",
    )


def ranked(every: Sequence[Problem]) -> Iterator[str]:
    yield "## How scores rank configurations"
    yield prose(CORRELATION)
    body = []
    for name in order(every):
        found = np.array([analysis.correlations(one, name) for one in every])
        body.append([name, *(cell(found[:, k]) for k in range(2)), f"{(found.mean(1) > 0).sum()} of {len(every)}"])
    yield table(["score", "linear", "5-NN", "above 0"], body)


def gains(every: Sequence[Problem]) -> Iterator[str]:
    yield "## What the picked configuration is worth"
    yield prose(PICKS)
    body = []
    for name in order(every):
        found = np.array([gain(one, name) for one in every])
        sides = [np.mean([one.tests[analysis.picked(one, name), k] - one.tests[0, k] for one in every]) for k in (0, 1)]
        better, worse = (found > 0.005).sum(), (found < -0.005).sum()
        body.append(
            [name, *(f"{100 * one:+.1f}" for one in (*sides, found.mean())), f"{better} - {worse}",
             f"{100 * found.min():+.1f}", percent(share(every, name)), interval(every, name)]
        )  # fmt: skip
    most = np.array([one.judged[~one.collapsed].max() - one.judged[0] for one in every])
    body.append(["the best there is", "", "", f"{100 * most.mean():+.1f}", "", f"{100 * most.min():+.1f}", "", ""])
    yield table(["score", "linear", "5-NN", "both", "better - worse (> .5)", "worst", "share", "interval"], body)


def by_set(every: Sequence[Problem]) -> Iterator[str]:
    yield "## By data set"
    yield prose("Test accuracy (mean of both probes) of the default, and of what is picked; and how many collapsed.")
    names = ["labels: both", DEFAULT_SCORE, *(name for name in order(every)[:4] if not name.startswith("labels"))]
    names = list(dict.fromkeys(names))
    body = []
    for one in every:
        found = [one.judged[analysis.picked(one, name)] for name in names]
        best = one.judged[~one.collapsed].max()
        body.append([one.name, *(f"{value:.3f}" for value in (one.judged[0], *found, best)),
                     f"{one.collapsed.sum()} of {len(one.judged)}"])  # fmt: skip
    yield table(["data set", "default", *names, "the best there is", "collapsed"], body)


def mixed(every: Sequence[Problem]) -> Iterator[str]:
    free = [name for name in LABEL_FREE if name in every[0].scores]
    sides = analysis.halves(every)
    free = [name for name in free if name not in RELATIVE]
    yield "## Mixtures"
    yield prose(MIXED)
    body = []
    for chosen_on, judged_on in (sides, sides[::-1]):
        by = analysis.scales(chosen_on, free)
        names = analysis.with_mixtures(every, free, by)
        best, alone = (analysis.best_on(chosen_on, some) for some in (names, free))
        where = " ".join(one.name for one in judged_on)
        shown = (best, alone, "mixture", "mean of all", "smallest of all")
        body += [[where, name, percent(share(chosen_on, name)), percent(share(judged_on, name))] for name in shown]
    yield table(["judged on", "score", "share where chosen", "share where judged"], body)
    by = analysis.scales(every, free)
    yield "The usual spreads: " + ", ".join(f"{name} {value:.3g}" for name, value in by.items()) + "."


def each_correlation(every: Sequence[Problem]) -> Iterator[str]:
    yield "## Rank correlation, data set by data set"
    yield prose("Mean of the linear probe's and 5-NN's.")
    names = [*LABEL_FREE, "the loss", "labels: both"]
    body = [[one.name, *(f"{analysis.correlations(one, name).mean():+.2f}" for name in names)] for one in every]
    yield table(["data set", *names], body)


def order(every: Sequence[Problem]) -> list[str]:
    """Label-free scores, the best picks first; then the loss, then labels."""
    free = sorted(LABEL_FREE, key=lambda name: -np.mean([gain(one, name) for one in every]))
    return [*free, "the loss", *(f"labels: {name}" for name in analysis.LABELLED)]


def correlation(every: Sequence[Problem], name: str) -> Any:
    return mean_interval(np.array([analysis.correlations(one, name).mean() for one in every]))


def cell(values: np.ndarray) -> str:
    found = mean_interval(values)
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def interval(every: Sequence[Problem], name: str) -> str:
    low, high = analysis.share_interval(every, name)
    return f"{percent(low)} to {percent(high)}"


def percent(value: float) -> str:
    return "" if not np.isfinite(value) else f"{100 * value:.0f} %"


def points(value: float) -> str:
    return f"{100 * value:.1f} points"


def prose(*lines: str) -> str:
    return textwrap.fill(" ".join(" ".join(lines).split()), 120, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *body])

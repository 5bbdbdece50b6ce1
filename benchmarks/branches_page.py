"""The page of the study of branches that differ: tables of what is finished, and what they say."""

import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import branches_pairs as pairs
import branches_sounds as sounds
import branches_weights as weights
import numpy as np
from branches_store import Row
from scipy.stats import t as student

from vicreg.evaluation import mean_interval

LEVEL = 0.95
SETS = {"digits": "digits (scikit-learn's, 1,300 to learn from, 497 held out)",
        "fashion": "Fashion-MNIST (5,000 training pictures, 5,000 test pictures)"}  # fmt: skip
NAMES = {"vicreg": "VICReg", "barlow_twins": "Barlow Twins", "simclr": "SimCLR"}

WEIGHTS = """
One branch that both views share, two branches of one form with weights of their own, and two that differ. Judged is
the first branch's encoder, the one that is kept, by 5-NN and a linear probe fitted on the training rows; the second's
linear probe stands beside it. Digits are a table (8 x 8 pixels, views that swap half of a row's cells with a near
row's; encoders of 128-128, and 128-128 beside 256; expanders of 256-256-256; no reconstruction, no linear path).
Fashion-MNIST is learnt as pictures by a small ResNet (three stages of one block, 32 channels), and where branches
differ by a vision transformer (4 layers of 96, patches of 7) beside it; crops and colours of the recipe `cifar`. The
learning rate of each method is the best for one shared branch of three, on a fifth of the training rows (`--part
rates`). Means of the seeds, standard deviations in brackets; a difference is to the shared form of the same seed,
with its 95 % interval (Student's t).
"""
PAIRS = """
The same 2,000 handwritten digits seen by six sets of features, in all pairs: 1,400 rows to fit, 600 held out, width
16 or that of the narrower side. Recall@1 is the share of held-out rows whose partner on the other side is the nearest
of 600, the mean of both directions; linear accuracy is that of logistic regression on one side's columns, the mean of
both sides. PairedVICReg stands at its defaults, with Euclidean distances; CCA and PLS (`PLSCanonical`) are
scikit-learn's on standardised columns, each with the better of Euclidean and cosine distances; beside them CCA with a
ridge of .1 of the mean variance, where our linear path starts. No setting was chosen on the held-out rows.
"""
SOUNDS = """
The 3,000 clips of the Free Spoken Digit Dataset, six speakers of 500 each, all clips brought to one power (two
speakers were recorded some 15 dB below the others; "as recorded" is without that). Each speaker is held out in turn;
the others' clips are learnt from without labels, and logistic regression on the others' labels judges on the speaker
(C of .001, .01, .1, 1 by leaving out one *training* speaker after another), 5-NN beside it; all in standardised
columns. Encoders are ResNet-18 of width 16 on views of half a second, 64 bands and 51 frames; 600 steps of 64 clips,
and 200 where a waveform takes part, since a step then takes 3.5 times as long; VICReg at a `sim_coeff` of 10, Barlow
Twins as published. wave + mel has the representations of both branches side by side. Log-mel statistics are the mean
and deviation over time of 64 bands; the log-mel spectrogram is that of the whole clip, stretched to 16 frames.
Settings (views, batch size, learning rate, width of the expander) were chosen by VICReg's siamese form on theo and
lucas after learning from the other four speakers alone, and serve all networks, Barlow Twins and labels among them;
the mean over these four, on whom nothing was chosen, is shown as well.
"""


def page(finished: Callable[[str], Sequence[Row]], made_by: str) -> str:
    """The whole page.

    Args:
        finished: From a part's name to its finished runs.
        made_by: Versions and machine, in words.
    """
    parts = [
        "# Two branches that differ",
        f"`python benchmarks/branches.py --data FOLDER --docs docs/results`. {made_by}",
    ]
    for title, what, tell in (
        ("One branch, two, and two that differ", WEIGHTS, weights_in_words),
        ("Pairs of tables, against CCA and PLS", PAIRS, pairs_in_words),
        ("Spoken digits of a speaker nobody has heard", SOUNDS, sounds_in_words),
    ):
        rows = finished(tell.__name__.removesuffix("_in_words"))
        parts += [f"## {title}", prose(what), *(tell(rows) if rows else ["Not run yet."])]
    return "\n\n".join(parts) + "\n"


def prose(*lines: str) -> str:
    return textwrap.fill(" ".join(lines).strip(), 120, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def score(value: float) -> str:
    """A score without its leading zero.

    Example:
        >>> score(0.5), score(-0.25), score(1.0)
        ('.500', '-.250', '1.000')
    """
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def spread(values: Sequence[float]) -> str:
    """Mean, and in brackets the standard deviation."""
    if not values:
        return ""
    return score(statistics.mean(values)) + (f" ({score(statistics.stdev(values))})" if len(values) > 1 else "")


def difference(values: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    half = half_width(values)
    return f"{statistics.mean(values):+.3f}" + ("" if half is None else f" ± {half:.3f}")


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of a mean by Student's t; None for one value."""
    if len(values) < 2:
        return None
    return float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5)


def weights_in_words(rows: Sequence[Row]) -> list[str]:
    """A table for each set of data, and which method loses least."""
    cells: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in rows:
        key = row["key"]
        cells.setdefault((key["data"], key["objective"], key["form"]), {})[key["seed"]] = row
    found = []
    for data, title in SETS.items():
        body, lost = [], {}
        for objective, form in product(weights.OBJECTIVES, weights.FORMS):
            mine, shared = cells.get((data, objective, form), {}), cells.get((data, objective, "shared"), {})
            if not mine:
                continue
            both = sorted(mine.keys() & shared.keys())
            change = {m: [mine[seed][m] - shared[seed][m] for seed in both] for m in ("knn", "linear")}
            shown = ["" if form == "shared" or not both else difference(change[m]) for m in ("knn", "linear")]
            second = [row["second_linear"] for row in mine.values() if "second_linear" in row]
            scores = [spread([row[m] for row in mine.values()]) for m in ("knn", "linear")]
            body.append([NAMES[objective], form, *scores, *shown, spread(second)])
            if form != "shared" and both:
                lost[form, objective] = statistics.mean(change["knn"] + change["linear"])
        head = ["", "branches", "5-NN", "linear", "5-NN, to shared", "linear, to shared", "second branch, linear"]
        found += [f"**{title}**", table(head, body)] if body else []
        for form in ("separate", "different"):
            order = sorted((one for one in lost if one[0] == form), key=lambda one: -lost[one])
            if order:
                said = ", ".join(f"{NAMES[objective]} {lost[form, objective]:+.3f}" for form, objective in order)
                found.append(
                    f"{form.capitalize()}, the mean of both scores to the shared form, the best first: {said}."
                )
    return found


def pairs_in_words(rows: Sequence[Row]) -> list[str]:
    """Both tables, and how often ours is above the better of CCA and PLS."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["key"]["pair"], row["key"]["method"]), []).append(row)
    recalls, linears, above, ratios = [], [], [], []
    not_below: dict[str, list[bool]] = {"each": [], "both": []}
    for names in pairs.PAIRS:
        pair = " - ".join(names)
        recall = {m: [recall_of(row) for row in cells.get((pair, m), [])] for m in (*pairs.CLASSICAL, *pairs.OURS)}
        linear = {
            (sides, m): [LINEAR[sides](row) for row in cells.get((pair, m), [])]
            for sides, m in product(LINEAR, (*pairs.CLASSICAL, *pairs.OURS))
        }
        if not all(recall[m] for m in ("CCA", "PLS")):
            continue
        width = str(cells[pair, "CCA"][0]["k"])
        ratio = ""
        if recall["aligned"]:
            best, mine = max(recall["CCA"][0], recall["PLS"][0]), statistics.mean(recall["aligned"])
            above.append(mine > best)
            ratios.append(mine / best)
            ratio = f"{mine / best:.2f}"
        for sides in LINEAR if linear["each", "unaligned"] else ():
            best = max(linear[sides, m][0] for m in ("CCA", "PLS"))
            not_below[sides].append(statistics.mean(linear[sides, "unaligned"]) >= best)
        recalls.append([pair, width, *(spread(recall[m]) for m in (*pairs.CLASSICAL, "aligned")), ratio])
        linears.append([pair, *(spread(one) for one in linear.values())])
    names = (*pairs.CLASSICAL, "aligned", "unaligned")
    found = [
        "**Held-out recall@1**",
        table(["pair", "width", *pairs.CLASSICAL, "PairedVICReg", "over the better of CCA and PLS"], recalls),
        "**Linear accuracy**: the mean of the two sides; then from both side by side (2x)",
        table(["pair", *names, *(f"{name}, 2x" for name in names)], linears),
    ]
    if above:
        geometric = float(np.exp(np.mean(np.log(ratios))))
        found.append(
            prose(
                f"Recall is above the better of CCA and PLS on {sum(above)} of {len(above)} pairs (asked: 10 of 15);"
                f" the mean ratio is {statistics.mean(ratios):.2f}, the geometric one {geometric:.2f}, the least"
                f" {min(ratios):.2f}."
            )
        )
    if not_below["each"]:
        each, both, count = sum(not_below["each"]), sum(not_below["both"]), len(not_below["each"])
        found.append(
            prose(
                f"The linear accuracy of the unaligned form is not below the better of CCA and PLS on {each} of {count}"
                f" pairs (asked: 12 of 15), and on {both} from both sides together."
            )
        )
    return found


def recall_of(row: Row) -> float:
    """Recall@1: of the classical methods by the better of both distances."""
    if row["key"]["method"] in pairs.OURS:
        return float(row["recall_euclidean"])
    return float(max(row["recall_euclidean"], row["recall_cosine"]))


LINEAR: dict[str, Callable[[Row], float]] = {
    "each": lambda row: (row["linear_a"] + row["linear_b"]) / 2,
    "both": lambda row: row["linear_both"],
}
"""Linear accuracy: the mean of the two sides, or of both side by side."""


COLUMNS = (
    *((method, metric, f"{method}, {words}")
      for method in sounds.BASELINES for metric, words in (("linear", "logistic regression"), ("knn", "5-NN"))),
    *((method, metric, f"{method}, {words}")
      for method in ("siamese mel, VICReg", "wave + mel, VICReg", "wave + mel, Barlow Twins")
      for metric, words in (("linear", "linear"), ("knn", "5-NN"))),
    ("wave + mel, VICReg", "mel linear", "wave + mel, VICReg: its mel branch, linear"),
    ("wave + mel, VICReg", "wave linear", "wave + mel, VICReg: its wave branch, linear"),
    ("wave + mel, Barlow Twins", "mel linear", "wave + mel, Barlow Twins: its mel branch, linear"),
    ("wave + mel, Barlow Twins", "wave linear", "wave + mel, Barlow Twins: its wave branch, linear"),
    ("supervised mel", "network", "supervised, the same encoder on mel"),
)  # fmt: skip
"""What is judged, how, and what the table calls it."""
COMPARED = (
    ("siamese mel, VICReg", "log-mel statistics"),
    ("wave + mel, VICReg", "log-mel statistics"),
    ("siamese mel, VICReg", "log-mel spectrogram"),
    ("wave + mel, VICReg", "log-mel spectrogram"),
    ("wave + mel, VICReg", "wave + mel, Barlow Twins"),
)


def sounds_in_words(rows: Sequence[Row]) -> list[str]:
    """A row for each method, a column for each speaker; then differences with their intervals."""
    body = []
    for method, metric, words in COLUMNS:
        by = {speaker: of_speaker(rows, method, metric, speaker) for speaker in sounds.SPEAKERS}
        if not any(len(one) for one in by.values()):
            continue
        each = [score(float(one.mean())) if len(one) else "" for one in by.values()]
        alone = [float(by[speaker].mean()) for speaker in sounds.JUDGED_ALONE if len(by[speaker])]
        complete = all(len(one) for one in by.values())
        seeds = str(min(len(one) for one in by.values() if len(one)))
        four = score(statistics.mean(alone)) if len(alone) == len(sounds.JUDGED_ALONE) else ""
        body.append([words, *each, interval(np.concatenate([one.mean(0) for one in by.values()])) if complete else "",
                     four, seeds])  # fmt: skip
    found = [table(["", *sounds.SPEAKERS, "mean of six", "of the four", "seeds"], body)]
    lines = [line for one, other in COMPARED if (line := compared(rows, one, other))]
    if lines:
        head = ["linear", "clips drawn anew", "speakers as the sample"]
        found += [
            prose(
                "Differences of the means of six, with 95 % intervals: of the clips that were drawn (percentile"
                " bootstrap of the paired differences, means over the seeds), and, much wider, of the speakers"
                " (Student's t of six)."
            ),
            table(head, lines),
        ]
    return found


def of_speaker(rows: Sequence[Row], method: str, metric: str, speaker: str) -> np.ndarray:
    """(seeds, clips): where each finished run was right."""
    right = [
        [int(one) for one in row[f"{metric} right"]]
        for row in rows
        if row["key"]["method"] == method and row["key"]["speaker"] == speaker and f"{metric} right" in row
    ]
    return np.array(right, dtype=np.float64)


def interval(values: np.ndarray) -> str:
    """A mean and its 95 % percentile interval."""
    found = mean_interval(values)
    return f"{score(found.value)} [{score(found.low)}, {score(found.high)}]"


def compared(rows: Sequence[Row], method: str, other: str) -> list[str]:
    """The line of a difference; none where runs are missing."""
    by = [[of_speaker(rows, one, "linear", speaker) for speaker in sounds.SPEAKERS] for one in (method, other)]
    if not all(len(one) for both in by for one in both):
        return []
    apart = [a.mean(0) - b.mean(0) for a, b in zip(*by, strict=True)]
    found: Any = mean_interval(np.concatenate(apart))
    clips = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    return [f"{method} less {other}", clips, difference([float(one.mean()) for one in apart])]

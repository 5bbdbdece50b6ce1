"""Judging a run on pairs: retrieval between the sides, and each side by itself, beside raw data and linear maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import require, shown
from vicreg.data import Corrupt, kind_of, source_name
from vicreg.evaluation import (
    Comparison,
    EmbeddingComparison,
    PrincipalComponents,
    Retrieval,
    leading_components,
    pca,
    readings,
    readings_in_words,
    retrieval,
)
from vicreg.evaluation.words import number, retrieval_verdict
from vicreg.functional import canonical_axes
from vicreg.inference import PairEmbedder, load_as
from vicreg.inference.pair import SIDES
from vicreg.runs import Run
from vicreg.training.collection import threads
from vicreg.training.engine import device_of
from vicreg.training.pair import RIDGE
from vicreg.training.pair_config import PairConfig
from vicreg.training.sides import Side, TableSide
from vicreg.workflows.kinds import check_there
from vicreg.workflows.media import MEDIA
from vicreg.workflows.pair_about import (
    SIDE_NAMES,
    TABLE,
    OpenedPair,
    OpenedSide,
    Pairing,
    open_side,
    paired,
    read_about_pair,
    same_pair,
)

MOST_ASKED = 10_000
"""Of more pairs to judge on so many are drawn."""
MOST_LEARNT = 20_000
"""Probes learn from no more pairs."""
FEWEST = 3

RETRIEVAL = "retrieval"
Maps = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""For each side of two tables the projection and offset of canonical correlation analysis."""
Parts = Mapping[str, tuple[NDArray[Any], NDArray[np.float32]]]
"""For each side its rows as they are, and their embeddings."""


@dataclass(frozen=True, eq=False)
class JudgedPair:
    """What judging found.

    Attributes:
        retrieval: Between the sides on pairs that no fit saw, by what represents them: ``vicreg``, and for two tables
            ``cca``; empty where the sides cannot be compared.
        sides: With labels each side's own comparison, by ``a`` and ``b``.
        readings: Without labels each side's readings.
        notes: What a reader should know.
    """

    retrieval: dict[str, Retrieval]
    sides: dict[str, Comparison]
    readings: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """What was found in sentences, each side's verdict first."""
        found = [f"{_heading(name)}: {one.verdict('vicreg')}" for name, one in self.sides.items()]
        found += [retrieval_in_words(self.retrieval)] if self.retrieval else []
        return found + [f"{_heading(name)}: {readings_in_words(one)}" for name, one in self.readings.items()]

    def in_words(self) -> str:
        """All of it, as the command line prints it."""
        parts = [retrieval_in_words(self.retrieval)] if self.retrieval else []
        parts += self.notes
        for name, comparison in self.sides.items():
            parts.append(f"{_heading(name)}:\n{comparison.summary().rstrip()}\n\n{comparison.verdict('vicreg')}")
        parts += [f"{_heading(name)}: {readings_in_words(found)}" for name, found in self.readings.items()]
        return "\n\n".join(parts)


def _heading(name: str) -> str:
    return f"Side {name}, the {SIDE_NAMES[SIDES.index(name)]} one"


def retrieval_in_words(found: Mapping[str, Retrieval]) -> str:
    """Retrieval as a small table of plain text.

    Example:
        >>> print(retrieval_in_words({"vicreg": retrieval(np.eye(40), np.eye(40), depths=(1, 5))}))
        Retrieval among 40 pairs: how often a row's partner is among the k nearest on the other side.
                         recall@1  recall@5  median rank
        vicreg               1.000     1.000            1
               a to b        1.000     1.000
               b to a        1.000     1.000
        chance                .025      .125         20.5
        <BLANKLINE>
        The winner is vicreg: of 40 pairs, vicreg finds a row's partner first more often than chance (+.975 [...]).
    """
    one = next(iter(found.values()))
    lines = [
        f"Retrieval among {one.count:,} pairs: how often a row's partner is among the k nearest on the other side."
    ]
    lines.append(" " * 17 + "".join(f"{f'recall@{k}':<10}" for k in one.recall) + "median rank")
    for name, each in found.items():
        lines.append(_line(name, each.recall) + f"{each.median_rank:13g}")
        lines += [_line(" " * 7 + "a to b", each.from_a), _line(" " * 7 + "b to a", each.from_b)]
    chance = {k: min(1.0, k / one.count) for k in one.recall}
    lines.append(_line("chance", chance) + f"{(one.count + 1) / 2:13g}")
    ours = found["vicreg"]
    against = {name: ours.over(other) for name, other in found.items() if other is not ours} | {"chance": ours.over()}
    return "\n".join([*lines, "", retrieval_verdict("vicreg", against, ours.count)])


def _line(name: str, recall: Mapping[int, float]) -> str:
    return f"{name:<17}" + "".join(f"{number(value):>10}" for value in recall.values())


@dataclass(frozen=True, eq=False)
class Baselines:
    """Linear maps of the rows that the fit learnt from, to judge beside.

    Attributes:
        cca: Of both sides of two tables; else empty.
        pca: Of each side that is a table.
    """

    cca: Maps
    pca: Mapping[str, PrincipalComponents]


def keep_baseline(run: Run, sides: Sequence[Side], embedder: PairEmbedder) -> None:
    """Keep linear maps of tables to judge against later: PCA of each, and canonical correlation analysis of two."""
    arrays: dict[str, NDArray[np.float64]] = {}
    left, right = sides
    if isinstance(left, TableSide) and isinstance(right, TableSide):
        axes = canonical_axes(left.x, right.x, min(embedder.a.width, embedder.b.width), RIDGE)
        arrays = {"a.projection": axes.left[0], "a.offset": axes.left[1]}
        arrays |= {"b.projection": axes.right[0], "b.offset": axes.right[1]}
    for name, side in zip(SIDES, sides, strict=True):
        if isinstance(side, TableSide):
            found = pca(side.x, min(embedder.side(name).width, side.x.shape[1]))
            arrays |= {f"{name}.mean": found.mean, f"{name}.components": found.components}
    if arrays:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in arrays.items()}
        runs.write_tensors(run.baseline, tensors, {})


def _read_baseline(run: Run) -> Baselines:
    if not run.baseline.exists():
        return Baselines({}, {})
    tensors, _ = runs.read_tensors(run.baseline)
    arrays = {name: one.numpy() for name, one in tensors.items()}
    both = any(name.endswith(".projection") for name in arrays)
    try:
        maps = {name: (arrays[f"{name}.projection"], arrays[f"{name}.offset"]) for name in SIDES} if both else {}
        known = [name for name in SIDES if f"{name}.mean" in arrays]
        own = {name: PrincipalComponents(arrays[f"{name}.mean"], arrays[f"{name}.components"]) for name in known}
    except KeyError as missing:
        raise runs.damaged(run.baseline, "other tensors") from missing
    return Baselines(maps, own)


def judge_held_out(run: Run, pair: OpenedPair, embedder: PairEmbedder, config: PairConfig) -> JudgedPair:
    """Judge a run on the pairs that its fit held out, and write what is found; or say why it cannot be judged."""
    if pair.held.sum() < FEWEST:
        return JudgedPair({}, {}, {}, ("The run cannot be judged because there are too few pairs to hold some out.",))
    try:
        judged = _judged(run, pair, embedder, config, pair.held)
    except ValueError as failure:
        return JudgedPair({}, {}, {}, (f"The run cannot be judged because {failure}",))
    return _written(run, judged, "")


def evaluate_pair(
    folder: Path,
    left: str | None = None,
    right: str | None = None,
    pairing: Pairing | None = None,
    *,
    device: str = "auto",
) -> JudgedPair:
    """Judge a finished run on pairs: on those that it held out, or on others.

    Args:
        folder: The run.
        left: New rows of the left side, with ``right``; None for the run's own held-out pairs.
        right: Their partners.
        pairing: How the new sources are read; None for as those of the run. New labels are judged by cross-validation.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        ValueError: One source alone, one of another kind than its side of the run, or rows that do not pair up.
    """
    run = Run(folder)
    about, own, config = read_about_pair(run)
    embedder = load_as(PairEmbedder, folder)
    for name in SIDES:
        _moved(embedder.side(name), device)
    require((left is None) == (right is None), "LEFT and RIGHT", "come together", f"{left} and {right}")
    if left is None or right is None:
        return judge_held_out(run, same_pair(run, about, own, None, None), embedder, config)
    given = (pairing or Pairing()).check()
    new = like_run(given, own)
    a, b = (
        open_new_side(where, name, new, own, about[name]["kind"], embedder.side(side))
        for where, name, side in zip((left, right), SIDE_NAMES, SIDES, strict=True)
    )
    pair = paired((a, b), new, given)
    pair = replace(pair, held=np.ones(len(pair), bool))
    judged = _judged(run, pair, embedder, config, pair.held)
    if all(side.fingerprint() == about[name]["fingerprint"] for side, name in zip(pair.sides, SIDE_NAMES, strict=True)):
        judged = replace(judged, notes=(*judged.notes, "The run has learnt from these pairs, or most of them."))
    return _written(run, judged, f"{source_name(left)}-{source_name(right)}")


def like_run(given: Pairing, own: Pairing) -> Pairing:
    """Who belongs together in new sources, and what is no input: as asked for, and otherwise as in those of the run."""
    return replace(
        given,
        key=given.key or own.key,
        labels=given.labels or own.labels,
        exclude=given.exclude or own.exclude,
        id=given.id or own.id,
    )


def open_new_side(where: str, which: str, new: Pairing, own: Pairing, kind: str, embedder: Any) -> OpenedSide:
    """New data for a side of a run, read as asked for, and otherwise as that side of the run was.

    Args:
        where: Their path.
        which: ``left`` or ``right``.
        new: What is asked for.
        own: How the run's sources were read.
        kind: That of the run's side.
        embedder: That side's.

    Raises:
        ValueError: They are of another kind, or cannot be read.
        FileNotFoundError: They do not exist.
    """
    asked, kept = (one.left if which == SIDE_NAMES[0] else one.right for one in (new, own))
    check_there(where)
    found = "signal" if asked.id or kept.id else kind_of(where)
    nouns = {TABLE: "a table", **{name: medium.nouns for name, medium in MEDIA.items()}}
    require(found == kind, shown(where), f"be {nouns[kind]}, as the run's {which} side", nouns.get(found, found))
    if kind == TABLE:
        return open_side(where, asked, new, embedder.spec.text_names)
    return open_side(where, MEDIA[kind].like(where, asked, kept, embedder), new)


def _moved(embedder: Any, device: str) -> None:
    if hasattr(embedder, "to"):
        embedder.to(device_of(device))


@dataclass(frozen=True, eq=False)
class Represented:
    """Some rows of a side: which of them could be read, and what they are before and after the encoder.

    Attributes:
        places: (m,) of those asked for, in any order.
        raw: (m, p) without an encoder.
        h: (m, k) representations.
    """

    places: NDArray[np.int64]
    raw: NDArray[Any]
    h: NDArray[np.float32]

    def at(self, places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Those of these places."""
        order = np.argsort(self.places)
        found = order[np.searchsorted(self.places, places, sorter=order)]
        return self.raw[found], self.h[found]


def represented(side: OpenedSide, embedder: Any, rows: NDArray[np.int64], config: PairConfig) -> Represented:
    """Rows of a side before and after its encoder; each is opened once, and those that cannot be are left out.

    Args:
        side: Opened.
        embedder: That side's.
        rows: Of the side.
        config: The run's settings.

    Raises:
        ValueError: None can be read.
    """
    if side.kind == TABLE:
        x = embedder.vectorise(side.inputs.take(rows), ignore=side.set_aside)
        return Represented(np.arange(len(rows)), x, embedder.encode(x))
    place = {row: k for k, row in enumerate(rows.tolist())}
    ledger = Corrupt(config.max_corrupt, of=len(side))
    places, raw, h = [], [], []
    for found, plain, crops in MEDIA[side.kind].looked(embedder, side.data, rows, ledger, threads(config.workers)):
        places += [place[row] for row in found.tolist()]
        raw.append(plain)
        h.append(embedder.encode(crops))
    require(bool(raw), shown(side.where), f"hold {side.noun} that can be read", "none")
    return Represented(np.array(places), np.concatenate(raw), np.concatenate(h))


def _judged(
    run: Run, pair: OpenedPair, embedder: PairEmbedder, config: PairConfig, asked: NDArray[np.bool_]
) -> JudgedPair:
    """Retrieval among the pairs that are asked; with labels, each side's scores on them, by probes on the others."""
    rng = np.random.default_rng(0)
    judged_on = _some(np.flatnonzero(asked), MOST_ASKED, rng)
    learnt = _some(np.flatnonzero(~asked & pair.known), MOST_LEARNT, rng)
    pairs = np.concatenate((learnt, judged_on))
    left, right = (
        represented(side, embedder.side(name), own[pairs], config)
        for side, name, own in zip(pair.sides, SIDES, pair.rows, strict=True)
    )
    both = np.intersect1d(left.places, right.places)
    parts = {"a": left.at(both), "b": right.at(both)}
    test = both >= len(learnt)
    notes = []
    if len(both) < len(pairs):
        notes.append(f"{len(pairs) - len(both):,} pairs are left out, of which a side could not be read.")
    if len(judged_on) < asked.sum():
        notes.append(f"Judged on {len(judged_on):,} of {asked.sum():,} pairs, drawn at random.")
    if not embedder.aligned:
        apart = "The sides are not aligned: their embeddings cannot be compared with each other"
        notes.append(f"{apart}; --aligned would align them.")
    kept = _read_baseline(run)
    labels = None if pair.labels is None else pair.labels[pairs[both]]
    found = _retrieved(parts, kept.cca, test) if embedder.aligned else {}
    sides, told, faults = _by_themselves(parts, kept, labels, test)
    without = [name for name, one in sides.items() if "pca" not in one.widths]
    if without:
        which = " and ".join(f"the {SIDE_NAMES[SIDES.index(name)]} side" for name in without)
        notes.append(f"There is no PCA of {which}: it would have to be fitted on the pairs that are judged.")
    return JudgedPair(found, sides, told, (*notes, *faults))


def _retrieved(parts: Parts, maps: Maps, test: NDArray[np.bool_]) -> dict[str, Retrieval]:
    (raw_a, a), (raw_b, b) = parts["a"], parts["b"]
    found = {}
    if maps:
        found["cca"] = retrieval(_mapped(raw_a[test], maps["a"]), _mapped(raw_b[test], maps["b"]))
    return found | {"vicreg": retrieval(a[test], b[test])}


def _by_themselves(
    parts: Parts, kept: Baselines, labels: NDArray[Any] | None, test: NDArray[np.bool_]
) -> tuple[dict[str, Comparison], dict[str, dict[str, float]], list[str]]:
    """Each side's comparison or readings, and why a side has none."""
    sides: dict[str, Comparison] = {}
    told: dict[str, dict[str, float]] = {}
    faults = []
    for name, (raw, h) in parts.items():
        try:
            if labels is not None:
                sides[name] = _compared(raw, h, kept.cca.get(name), kept.pca.get(name), labels, test)
            else:
                told[name] = readings(raw[test], h[test])
        except ValueError as failure:
            faults.append(f"{_heading(name)}, cannot be judged by itself because {failure}")
    return sides, told, faults


def _some(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _mapped(x: NDArray[Any], maps: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
    mapped: NDArray[np.float64] = x @ maps[0].T + maps[1]
    return mapped


def _compared(
    raw: NDArray[Any],
    h: NDArray[np.float32],
    maps: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    components: PrincipalComponents | None,
    labels: NDArray[Any],
    test: NDArray[np.bool_],
) -> Comparison:
    """A side by itself, by those of its rows that have a label."""
    known = np.array([label is not None for label in labels])
    raw, h, test = raw[known], h[known], test[known]
    sets: dict[str, NDArray[Any]] = {"raw": raw}
    learnt = raw[~test]
    if components is None and len(learnt) > 1:
        components = leading_components(learnt, h.shape[1])  # a table has its own already
    if components is not None:
        sets["pca"] = components.transform(raw)
    if maps is not None:
        sets["cca"] = _mapped(raw, maps)
    sets["vicreg"] = h
    return EmbeddingComparison(sets, np.array(labels[known].tolist()), test=test if len(learnt) else None)


def _written(run: Run, judged: JudgedPair, name: str) -> JudgedPair:
    """The same, with what it holds in files; where these cannot be written, with a note."""
    end = f"-{name}" if name else ""
    try:
        if judged.retrieval:
            rows = [(by, *line) for by, each in judged.retrieval.items() for line in each.rows()]
            path = run.scores_on(f"{RETRIEVAL}{end}")
            runs.write_csv(path, ["representation", "direction", "metric", "value"], rows)
        for side, comparison in judged.sides.items():
            lines = comparison.rows()
            runs.write_csv(run.scores_on(f"{side}{end}"), list(lines[0]), [list(line.values()) for line in lines])
        if judged.readings and not name:
            runs.write_json(run.readings, {"readings": judged.readings})
    except OSError as failure:
        return replace(judged, notes=(*judged.notes, f"The scores are not in a file: {failure}"))
    return judged

"""What a page says first: how a run stands, whether it worked, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vicreg.report.reading import Columns, Record
from vicreg.report.scores import number, shown
from vicreg.report.usage import duration

NOUNS = {"table": "rows", "image": "pictures", "signal": "signals", "pair": "pairs"}
LONGEST_HEADLINE = 90


@dataclass(frozen=True)
class Verdict:
    """The first words.

    Attributes:
        tone: good, plain or bad.
        headline: A few words.
        lead: The sentence.
        more: Further sentences.
    """

    tone: str
    headline: str
    lead: str
    more: tuple[str, ...]


@dataclass(frozen=True)
class Tile:
    """A number that stands out."""

    value: str
    label: str


def verdict_of(record: Record) -> Verdict:
    """Whether a run worked, in the words of its judging; else how far it came."""
    words = tuple(one.strip().partition("\n")[0] for one in texts(record.facts.get("words")))  # tables follow below
    notes = texts(record.facts.get("notes"))
    failures = {str(one.get("failure", "")) for one in record.findings}
    collapsed = bool(failures)
    if record.finished and words:
        found = _retrieved(record)
        headline, lead = found or _split(words[0])
        words = ("", *words) if found else words
        tone = "bad" if collapsed else "good" if headline.startswith("The winner is") else "plain"
        return Verdict(tone, headline, lead, (*words[1:], *notes))
    broken = _not_finite(record.metrics)
    if "diverging" in failures or broken is not None:
        where = f" at step {broken:,}" if broken is not None else ""
        return Verdict("bad", "The run diverged", f"Its loss is not finite or left its range{where}.", (*words, *notes))
    if record.finished:
        rest = "Its scores are below; " if record.scores else ""
        lead = f"{rest}{'w' if rest else 'W'}hat judging said of it in words was not kept."
        return Verdict("bad" if collapsed else "plain", "The run is finished", lead, notes)
    if not record.begun:
        return Verdict("bad", "The run is not whole", "Its config.yaml is missing.", (*words, *notes))
    done, planned = record.step, steps_planned(record)
    lead = f"{done:,} of {planned:,} steps are done." if planned else f"{done:,} steps are done."
    lead = lead if done else "It has begun; nothing is written down yet."
    return Verdict("bad" if collapsed else "plain", "The run is unfinished", lead, (*words, *notes))


def _retrieved(record: Record) -> tuple[str, str] | None:
    """How many partners are found, of pairs whose sides can be compared."""
    first = {
        row["representation"]: number(row["value"])
        for row in record.scores.get("scores-retrieval", [])
        if row["metric"] == "recall@1" and row.get("direction") == "both"
    }
    own, other = first.get("vicreg"), first.get("cca")
    if own is None:
        return None
    count = record.retrieval.get("n")
    among = f" among {count:,} pairs" if isinstance(count, int) else ""
    chance = f"; by chance it would be {1 / count:.1%}" if isinstance(count, int) and count > 0 else ""
    beside = f", by CCA for {other:.1%}" if other is not None else ""
    lead = f"Asked with one side, the nearest on the other side{among} is the partner for {own:.1%}{beside}{chance}."
    return f"{own:.0%} of partners are found at once", lead


def _split(sentence: str) -> tuple[str, str]:
    """A headline and the rest, parted at the first colon."""
    first, _, rest = sentence.partition(": ")
    if rest and len(first) <= LONGEST_HEADLINE and not first.startswith("Side "):
        return first, rest[:1].upper() + rest[1:]
    first, point, rest = sentence.partition(". ")
    if rest and len(first) <= LONGEST_HEADLINE:
        return first + point.strip(), rest
    return ("What was found", sentence) if len(sentence) > LONGEST_HEADLINE else (sentence, "")


def _not_finite(metrics: Columns) -> int | None:
    """The step from which on the total, or another term, is no number up to the end."""
    for name in ("total", *metrics):
        values, steps = metrics.get(name), metrics.get("step")
        if values is not None and steps is not None and len(values) and not np.isfinite(values[-1]):
            finite = np.flatnonzero(np.isfinite(values))
            first = int(finite[-1]) + 1 if len(finite) else 0
            return int(steps[first]) if np.isfinite(steps[first]) else first + 1
    return None


def steps_planned(record: Record) -> int | None:
    """How many steps the run is to take, where its settings say so."""
    settings = record.config.get("settings")
    steps = settings.get("steps") if isinstance(settings, Mapping) else None
    return int(steps) if isinstance(steps, int) and steps > 0 else None


def about(record: Record) -> str:
    """What was trained on what, in a sentence."""
    config = record.config
    settings = config.get("settings") if isinstance(config.get("settings"), Mapping) else {}
    objective = str(dict(settings or {}).get("objective", "vicreg"))
    objective = "VICReg" if objective == "vicreg" else objective
    noun = NOUNS[record.kind]
    if record.kind == "pair":
        sides = [config.get(side) for side in ("left", "right")]
        sources = [_name(side.get("source")) for side in sides if isinstance(side, Mapping)]
        what = f"{_counted(config, noun)} of {' and '.join(sources)}" if sources else "pairs"
    else:
        what = f"{_counted(config, noun)} of {_name(config['source'])}" if config.get("source") else noun
    steps = f" in {record.step:,} steps" if record.step else ""
    label = config.get("labels")
    judged = f" What it is judged by ({label!s}) was kept out of it." if label else ""
    return f"{objective} learnt from {what}{steps}.{judged}"


def _name(source: object) -> str:
    """A source's own name, without the folders it is in."""
    return str(source).rstrip("/").rpartition("/")[2] or str(source)


def _counted(config: Mapping[str, Any], noun: str) -> str:
    count = config.get(noun)
    return f"{count:,} {noun}" if isinstance(count, int) else noun


def tiles_of(record: Record) -> list[Tile]:
    """The numbers that stand out."""
    tiles = []
    count = record.config.get(NOUNS[record.kind])
    if isinstance(count, int):
        tiles.append(Tile(f"{count:,}", NOUNS[record.kind]))
    own = [row for rows in record.scores.values() for row in rows if row["representation"] == "vicreg"]
    judged = next((row["rows"] for row in own if row.get("rows", "").isdigit()), None)
    if judged:
        tiles.append(Tile(f"{int(judged):,}", "held out to judge on"))
    width = _width(record, own)
    if width:
        tiles.append(Tile(f"{width:,}", "numbers per row" if record.kind == "table" else "numbers each"))
    rank = next((values for name, values in record.looks.items() if name.startswith("rankme representation")), None)
    if rank is not None and np.isfinite(rank).any():
        tiles.append(Tile(f"{rank[np.isfinite(rank)][-1]:.3g}", "effective rank"))
    if record.step:
        tiles.append(Tile(f"{record.step:,}", "steps"))
    seconds = record.facts.get("wall_seconds")
    if isinstance(seconds, int | float) and np.isfinite(seconds):
        tiles.append(Tile(duration(float(seconds)), "wall time"))
    return tiles


def _width(record: Record, own: list[dict[str, str]]) -> int | None:
    found = next((row["width"] for row in own if row.get("width", "").isdigit()), None)
    if found:
        return int(found)
    for name, part in (record.end.parts if record.end else {}).items():
        if name.startswith("representation") and "deviation" in part:
            return len(part["deviation"])
    return None


READINGS = {
    "rankme": "Effective rank (RankMe)",
    "alpha_req": "Decay of the spectrum (alpha-ReQ)",
    "dead_dimensions": "Dimensions that hardly vary",
    "width": "Numbers per row",
    "trustworthiness": "Trustworthiness",
    "stability": "Agreement between two seeds",
}


def readings_of(record: Record) -> list[tuple[str, str]]:
    """What can be said without labels, as names and values."""
    lines = []
    for name, value in record.readings.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        for what, found in inner:
            title = READINGS.get(what or name, (what or name).replace("_", " "))
            title = f"{title}, side {name}" if what else title
            known = number(found if isinstance(found, int | float | str) else None)
            text = str(int(known)) if known is not None and known == int(known) else shown(known)
            lines.append((title, text))
    return lines


def missing_of(record: Record) -> list[str]:
    """What a whole run has and this one has not, in sentences."""
    absent = []
    if not record.metrics:
        absent.append("There are no terms by step (metrics.csv): nothing was learnt yet, or the file is damaged.")
    if record.start is None and record.end is None:
        absent.append("There are no snapshots of the embedding (portrait/start.safetensors, portrait/end.safetensors).")
    elif record.end is None:
        absent.append("There is no snapshot of the embedding at the end (portrait/end.safetensors).")
    if record.atlas is None:
        absent.append("There is no map (portrait/map.parquet); it is drawn when a fit ends.")
    elif record.neighbors is None:
        absent.append("There are no nearest neighbours (portrait/neighbors.npy).")
    if record.kind == "table" and record.influence is None:
        absent.append("It was not found out which columns matter (portrait/influence.csv).")
    if record.kind == "pair" and not record.retrieval:
        absent.append("There are no examples of retrieval (portrait/retrieval.json).")
    if record.finished and not record.scores and not record.readings:
        absent.append("There are neither scores nor readings (scores.csv, readings.json).")
    return absent


def texts(found: object) -> tuple[str, ...]:
    """A list of sentences as it should be; nothing of what is none."""
    return tuple(str(one) for one in found if isinstance(one, str) and one.strip()) if isinstance(found, list) else ()

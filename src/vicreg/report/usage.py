"""How to use a run's model: the exact commands and lines of Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vicreg.report.reading import Record
from vicreg.report.scores import UNKNOWN


@dataclass(frozen=True)
class Recipe:
    """What to type, and what for."""

    title: str
    text: str


NEW = {"table": "new.csv", "image": "new/", "signal": "new/"}


def recipes_of(record: Record) -> list[Recipe]:
    """Commands and lines of Python for a run, by its kind."""
    folder = str(record.folder)
    run = shlex.quote(folder)
    recipes = []
    if record.kind == "pair":
        commands = [f"vicreg embed {run} left-new --side a --out left.parquet"]
        commands += [f"vicreg embed {run} right-new --side b --out right.parquet", f"vicreg evaluate {run}"]
        python = [f"model = vicreg.load({folder!r})", 'Z = model.transform(new, side="a")']
    else:
        new = NEW[record.kind]
        commands = [f"vicreg embed {run} {new} --out new.parquet"]
        labels = record.config.get("labels")
        commands += [f"vicreg evaluate {run} labelled{new[3:]}"] if labels else []
        commands += [f"vicreg export {run} --format onnx --out encoder.onnx"] if record.kind == "image" else []
        what = {"table": "frame", "image": "pictures", "signal": "signals"}[record.kind]
        python = [f"model = vicreg.load({folder!r})", f"Z = model.transform({what})  # one line of numbers per row"]
    if record.finished:
        recipes.append(Recipe("Embed and judge new data", "\n".join(commands)))
        recipes.append(Recipe("From Python", "\n".join(["import vicreg", "", *python])))
    command, again = record.facts.get("command"), _again(record)
    if isinstance(command, str) and command.strip():
        recipes.append(Recipe("How this run was fitted", command.strip()))
    if again:
        recipes.append(Recipe("Fit again with these settings", again))
    if not record.finished and record.begun:
        resume = again.partition(" --config ")[0]
        recipes.append(Recipe("Go on with this run", f"{resume} --out {run} --resume"))
    recipes.append(Recipe("Make this page again", f"vicreg report {run}"))
    return recipes


def _again(record: Record) -> str:
    """The command that does the same from the configuration."""
    config = record.config
    sides = [config.get(side, {}) for side in ("left", "right")] if record.kind == "pair" else [config]
    sources = [side.get("source") for side in sides if isinstance(side, Mapping)]
    if not sources or not all(isinstance(source, str) for source in sources):
        return ""
    words = ["vicreg", "fit", *map(str, sources)]
    for flag in ("labels", "key"):
        if isinstance(config.get(flag), str):
            words += [f"--{flag}", str(config[flag])]
    for flag in ("id", "exclude"):
        if isinstance(config.get(flag), list) and config[flag]:
            words += [f"--{flag}", *map(str, config[flag])]
    words += ["--config", str(record.folder / "config.yaml"), "--out", f"{record.folder}-again"]
    return shlex.join(words)


def facts_of(record: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """All that is needed to run again, as tables of names and values under headings."""
    config = dict(record.config)
    settings, versions = config.pop("settings", {}), config.pop("versions", {})
    run = [(name, value) for name, value in _flat(config)]
    device, began, seconds = (record.facts.get(name) for name in ("device", "began", "wall_seconds"))
    run += [("began", str(began))] if began else []
    run += [("device", str(device))] if device else []
    run += [("wall time", duration(float(seconds)))] if isinstance(seconds, int | float) else []
    resumed = record.facts.get("resumed_at")
    run += [("resumed at step", ", ".join(map(str, resumed)))] if isinstance(resumed, list) and resumed else []
    tables = [("The run", run), ("Settings", _flat(settings)), ("Versions", _flat(versions))]
    return [(title, lines) for title, lines in tables if lines]


def _flat(plain: object, before: str = "") -> list[tuple[str, str]]:
    if not isinstance(plain, Mapping):
        return []
    lines: list[tuple[str, str]] = []
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            lines += _flat(value, f"{before}{name}.")
        else:
            lines.append((f"{before}{name}", _text(value)))
    return lines


def _text(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value)) or UNKNOWN
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(7.25), duration(75), duration(7300)
        ('7.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"

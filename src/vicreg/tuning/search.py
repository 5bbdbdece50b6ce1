"""From a subject to the answer: the study's folder, its trials, the winner refitted, and words on what was gained."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vicreg import runs
from vicreg._checks import check_integer, listed, require, shown
from vicreg.evaluation.words import number
from vicreg.runs import Run
from vicreg.training.settings import to_mapping
from vicreg.tuning.answer import (
    changes_in_words,
    check_any,
    of_slots,
    study_in_words,
    trial_in_words,
    write_trials,
)
from vicreg.tuning.leases import alone
from vicreg.tuning.ledger import Ledger, Row, open_ledger, plain_values
from vicreg.tuning.scores import LABEL_FREE, RELATIVE, Custom, score_of
from vicreg.tuning.space import Range, Space, check_space, default_space, plain_space, values_of, with_values
from vicreg.tuning.study import run_study, worker_name
from vicreg.tuning.subjects import Say, Subject
from vicreg.workflows.checkpoints import stoppable

ABOUT, SPACE, TRIALS, ANSWER = "about.yaml", "space.yaml", "trials.csv", "answer.txt"
BEST, DEFAULT = "best", "default"
NOT_COMPARED = ("device", "workers", "precision", "channels_last", "compile")
"""Settings in which machines that share a study may differ."""

DEFAULT_SCORE = "columns"
DEFAULT_SCORE_ELSEWHERE = "neighbors"
DEFAULT_SCORE_BY_LABELS = "linear"


@dataclass(frozen=True)
class Found:
    """What came of a study.

    Attributes:
        score: The score's name.
        space: What was searched.
        rows: Every attempt at a trial.
        best: The trial with the best score.
        config: Its settings.
        importances: How much each parameter mattered, the sum being 1; empty where nothing can be told.
        words: The answer in words.
        study: Optuna's study.
    """

    score: str
    space: Space
    rows: list[Row]
    best: Row
    config: Any
    importances: dict[str, float]
    words: str
    study: Any


def search(
    subject: Subject,
    name: str,
    *,
    score: str | Custom | None,
    space: Mapping[str, Range] | None,
    trials: int,
    folder: Path | None,
    storage: str | None,
    halving: bool,
    say: Say,
) -> Found:
    """Run a study, or the rest of it, together with all processes that run the same.

    Args:
        subject: What it is on.
        name: The study's in the storage.
        score: By name or as a function; None for the default.
        space: What is searched; None for the default.
        trials: In all, over all processes.
        folder: The study's; None keeps it in memory.
        storage: One of Optuna's by its URL; None for a journal in the folder.
        halving: Whether trials end early that are among the lower half.
        say: Told of each trial.

    Raises:
        ValueError: A score or space that cannot be worked with, a storage that cannot be reached or holds another
            study, or no trial had a score.
        Interrupted: SIGINT or SIGTERM came; the study goes on with the same call.
    """
    total, base = check_integer("trials", trials, 1), subject.base
    named, by = score_of(_default_score(subject) if score is None else score, labelled=subject.by_labels)
    chosen = check_space(default_space(base) if space is None else space, type(base))
    settings = {key: value for key, value in to_mapping(base).items() if key not in NOT_COMPARED}
    about = {**subject.about, "score": named, "space": plain_space(chosen), "settings": settings}
    about = json.loads(json.dumps(about))
    if folder is not None:
        _check_folder(folder)
    ledger = open_ledger(folder, name, about, worker_name(), storage, base.seed)
    try:
        if folder is not None:
            _write_yaml(folder / ABOUT, about)
            _write_yaml(folder / SPACE, about["space"])
        _say_beginning(ledger, subject, named, chosen, total, say)
        with stoppable():
            run_study(
                ledger,
                subject.material,
                base,
                chosen,
                by,
                total,
                halving=halving,
                relative=named in RELATIVE,
                tell=lambda row: say(trial_in_words(row)),
                wait=lambda count: say(f"Waiting for {count} that other processes are at."),
            )
    finally:
        ledger.close()
        if folder is not None:
            write_trials(folder / TRIALS, ledger.rows(), chosen)
    return _found(ledger, base, named, chosen, total, folder)


def _found(ledger: Ledger, base: Any, named: str, space: Space, total: int, folder: Path | None) -> Found:
    rows = ledger.rows()
    counted = of_slots(rows, total)
    best = check_any(counted, "memory" if folder is None else shown(str(folder)))
    config = base if best.slot == 0 else with_values(base, restored(best.values, space))
    importances = ledger.importances(space)
    words = study_in_words(counted, named, importances)
    if best.slot:
        words += f"\nIts settings (the default's in brackets): {changes_in_words(best.values, values_of(base, space))}."
    return Found(named, space, rows, best, config, importances, words, ledger.study)


def restored(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Values as settings have them, from how a storage holds them.

    Example:
        >>> from vicreg.tuning.space import Choice
        >>> restored({"encoder": "64-32"}, {"encoder": Choice(((64, 32), (64,)))})
        {'encoder': (64, 32)}
    """
    found = {}
    for name, value in values.items():
        options = getattr(space.get(name), "options", (value,))
        found[name] = next((one for one in options if plain_values({name: one})[name] == value), value)
    return found


def refitted(subject: Subject, found: Found, folder: Path, say: Say) -> str:
    """Fit the winner as ``vicreg fit`` does, and with labels the default, too; what that showed, in words.

    One process does, the others wait for it. What is there already is taken as it is.

    Args:
        subject: What the study was on.
        found: What came of it.
        folder: The study's.
        say: Told what is going on.
    """
    with alone(folder / "refit.lock"):
        best = _fitted(subject, folder / BEST, found.config, say)
        lines = [f"The winner is refitted and saved: {folder / BEST} is a run as vicreg fit leaves it."]
        if subject.judged:
            default = _fitted(subject, folder / DEFAULT, subject.base, say) if found.best.slot else best
            lines += _accuracies(best, default, folder)
    return "\n".join(lines)


def _fitted(subject: Subject, folder: Path, config: Any, say: Say) -> dict[str, float]:
    """The scores of a run with these settings, which is fitted unless it is there; another one makes way."""
    run = Run(folder)
    if run.exists() and run.read_config().get("settings") != to_mapping(config):
        number = next(k for k in range(1, 10**6) if not folder.with_name(f"earlier-{k}").exists())
        folder.rename(folder.with_name(f"earlier-{number}"))
    if not (run.exists() and run.finished()):
        say(f"Fitting {folder}.")
        subject.fit(folder, config, lambda text: None)
    if not run.scores.exists():
        return {}
    with run.scores.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["representation"] == "vicreg"]
    return {line["metric"]: float(line["value"]) for line in lines}


def _accuracies(best: Mapping[str, float], default: Mapping[str, float], folder: Path) -> list[str]:
    """On the rows that no trial saw."""
    both = [name for name in best if name in default]
    if not both:
        return ["Neither could be judged by the labels; the runs say why."]
    said = ", ".join(f"{_probe(name)} {number(best[name])} (default {number(default[name])})" for name in both)
    where = folder / BEST / "scores.csv"
    where = folder / BEST / "scores.csv"
    return [f"Judged by the labels on what nothing was chosen on: {said}. {where} has intervals."]


def _probe(metric: str) -> str:
    return {"knn": "5-NN", "linear": "linear probe"}.get(metric, metric)


def _default_score(subject: Subject) -> str:
    if subject.by_labels:
        return DEFAULT_SCORE_BY_LABELS
    return DEFAULT_SCORE if subject.about["kind"] == "table" else DEFAULT_SCORE_ELSEWHERE


def chooses_by_labels(score: str | Custom | None, *, labelled: bool) -> bool:
    """Whether trials are chosen by labels: where there are some, unless a label-free score is named."""
    return labelled and not (isinstance(score, str) and score in LABEL_FREE)


def _say_beginning(ledger: Ledger, subject: Subject, score: str, space: Space, total: int, say: Say) -> None:
    say(subject.words)
    done = sum(row.state in ("complete", "pruned") for row in of_slots(ledger.rows(), total))
    goes_on = f" {done} of them are done." if done else ""
    say(f"{total} trials in all, by the score {score!r}, over {listed(space, 30)}.{goes_on}")


def _check_folder(folder: Path) -> None:
    """A study's folder is new, empty, or a study's."""
    is_study = (folder / ABOUT).exists() or (folder / "workers").exists()
    free = not folder.exists() or is_study or not any(folder.iterdir())
    fix = "Name another --out."
    require(free, shown(str(folder)), "be new, empty, or the folder of a study", "other files", fix)


def _write_yaml(path: Path, plain: Mapping[str, Any]) -> None:
    runs.write_atomically(path, yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True).encode())

"""What came of a study, in words and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vicreg import runs
from vicreg._checks import message
from vicreg.evaluation.words import count, number
from vicreg.tuning.ledger import Row
from vicreg.tuning.space import Space

MOST_NAMED = 5


def of_slots(rows: Sequence[Row], total: int) -> list[Row]:
    """The attempt at each trial that counts, in the order of the trials; those that have not begun are left out."""
    last = {row.slot: row for row in reversed(rows) if not row.abandoned and 0 <= row.slot < total}
    return [last[slot] for slot in sorted(last) if last[slot].state != "waiting"]


def best_of(rows: Sequence[Row]) -> Row | None:
    """The trial with the best score; of equals the first."""
    done = [row for row in rows if row.score is not None]
    return max(done, key=lambda row: (row.score, -row.slot), default=None)


def check_any(rows: Sequence[Row], where: str) -> Row:
    """The best trial.

    Raises:
        ValueError: No trial has a score; it says why.
    """
    best = best_of(rows)
    if best is None:
        why = Counter((row.reason or "").partition(" at step")[0].partition(":")[0] for row in rows)
        reasons = "; ".join(f"{times} times {reason!r}" for reason, times in why.most_common(MOST_NAMED))
        last = next((row.reason for row in reversed(rows) if row.reason), "")
        fix = f"The last of them: {last} The study is kept in {where}; narrow the space towards the defaults."
        raise ValueError(message("a study", "have a trial with a score", f"{len(rows)} trials without: {reasons}", fix))
    return best


def trial_in_words(row: Row) -> str:
    """One line on a trial.

    Example:
        >>> trial_in_words(Row(3, 3, "complete", 0.4312, {}, None, {}, 2.25))
        'trial 3: .4312 (2.2 s)'
    """
    took = "" if row.seconds is None else f" ({row.seconds:.1f} s)"
    said = score_in_words(row.score) if row.score is not None else f"{row.state}, {row.reason or 'no reason'}"
    return f"trial {row.slot}: {said}{took}"


def score_in_words(score: float) -> str:
    """A score with four digits.

    Example:
        >>> score_in_words(0.51234), score_in_words(-0.25), score_in_words(12.3456)
        ('.5123', '-.25', '12.35')
    """
    text = f"{score:.4g}"
    return text.replace("0.", ".", 1) if abs(score) < 1 and score else text


def study_in_words(rows: Sequence[Row], score: str, importances: Mapping[str, float]) -> str:
    """What tuning gained by the score over the default, and which parameters mattered.

    Args:
        rows: The trials that count.
        score: Its name.
        importances: Of the parameters.
    """
    states = Counter(row.state for row in rows)
    parts = [f"{states[state]} {said}" for state, said in STATES.items() if states[state]]
    lines = [f"{count(len(rows), 'trial')}: {', '.join(parts)}."]
    best = best_of(rows)
    first = next((row for row in rows if row.slot == 0), None)
    if best is None:
        return lines[0]
    mine = score_in_words(best.score or 0.0)
    if first is None or first.score is None:
        why = f" ({first.reason})" if first and first.reason else ""
        lines.append(f"By the score {score!r} trial {best.slot} is best: {mine}. The default has none{why}.")
    elif best.slot == 0:
        lines.append(f"By the score {score!r} the default is best, trial 0: {mine}. Tuning gained nothing.")
    else:
        gain = (best.score or 0.0) - first.score
        lines.append(
            f"By the score {score!r} trial {best.slot} is best: {mine}, where the default, trial 0, has "
            f"{score_in_words(first.score)}: tuning gained {score_in_words(gain)}. That is the score, and no accuracy."
        )
    if importances:
        named = sorted(importances.items(), key=lambda pair: -pair[1])[:MOST_NAMED]
        said = ", ".join(f"{name} {number(share)}" for name, share in named)
        lines.append(f"What mattered among the complete trials (shares of 1): {said}.")
    return "\n".join(lines)


STATES = {"complete": "complete", "pruned": "ended early", "failed": "failed", "running": "still running"}


def changes_in_words(values: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The winner's values, each with the default's.

    Example:
        >>> changes_in_words({"steps": 900, "views": "mask"}, {"steps": 1200, "views": "mask"})
        'steps 900 (1200), views mask'
    """
    said = []
    for name, value in values.items():
        before = f" ({_short(own[name])})" if name in own and own[name] != value else ""
        said.append(f"{name} {_short(value)}{before}")
    return ", ".join(said)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_trials(path: Path, rows: Sequence[Row], space: Space) -> None:
    """Every attempt in a ``.csv`` file, those included that were abandoned and done again."""
    head = ["trial", "attempt", "state", "score", "seconds", *space, "reason"]
    body = [
        [row.slot, row.number, row.state, row.score, row.seconds, *(row.values.get(name) for name in space), row.reason]
        for row in rows
    ]
    runs.write_csv(path, head, [["" if cell is None else cell for cell in line] for line in body])

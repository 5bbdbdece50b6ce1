"""The trials of a study, in any of Optuna's storages; the only file that knows Optuna.

A study of N trials has N slots. Each is queued once, and whoever takes it from the queue runs it: the storage sees to
it that one worker gets it. A trial that failed without a word of why was abandoned, its worker killed or stopped: its
slot is queued again, with the same values. So no trial is lost or counted twice, however many workers there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vicreg._checks import listed, message, require, shown
from vicreg.training.feed import seed_of
from vicreg.tuning.leases import BEAT, LOCKS, Beating, Locked, alone
from vicreg.tuning.space import Choice, Float, Range, Space

SLOT, WORKER, REASON, ABOUT, DEFAULT = "slot", "worker", "reason", "about", "default"
JOURNAL = "journal.log"
STARTUP_TRIALS = 10
"""Drawn at random before the sampler looks at what came of them."""
REDUCTION = 2
RUNGS = {0.25: 1, 0.5: 2}
"""At these shares of a trial's steps the better half goes on, and what Optuna calls the step there."""


@dataclass(frozen=True)
class Row:
    """A trial as it stands.

    Attributes:
        number: Its number in the storage.
        slot: Its number in the study; a trial that was done again has that of the first attempt.
        state: waiting, running, complete, pruned or failed.
        score: None unless it is complete.
        values: Of the parameters.
        reason: Why it was pruned or failed, in words.
        notes: All that is kept beside it.
        seconds: How long it took; None before its end.
    """

    number: int
    slot: int
    state: str
    score: float | None
    values: dict[str, Any]
    reason: str | None
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def abandoned(self) -> bool:
        """Whether its worker left it."""
        return self.state == "failed" and self.reason is None


class Taken:
    """A trial that this worker runs.

    Args:
        trial: Optuna's.
        slot: Its number in the study.
        default: Whether it is the default settings.
    """

    def __init__(self, trial: Any, slot: int, *, default: bool) -> None:
        self.trial, self.slot, self.default = trial, slot, default

    def values(self, space: Space, own: Mapping[str, Any]) -> dict[str, Any]:
        """Those that it is to be run with; of the default settings those that the space holds.

        Args:
            space: What is searched.
            own: The default settings' own values.
        """
        wanted = {name: one for name, one in space.items() if not self.default or name in own}
        return {name: _suggested(self.trial, name, one) for name, one in wanted.items()}

    def goes_on(self, share: float, score: float) -> bool:
        """Whether it is among the better half at this share of its steps; the default always goes on."""
        self.trial.report(score, RUNGS[share])
        return self.default or not self.trial.should_prune()

    def note(self, name: str, value: Any) -> None:
        """Keep something beside it."""
        self.trial.set_user_attr(name, value)


class Ledger:
    """A study that is open.

    Args:
        study: Optuna's.
        storage: Its storage.
        name: The study's.
        lease: How workers are known to be alive.
        worker: This worker's name.
        folder: Where workers of one machine wait for one another; None where there is but this one.
        seed: Of the sampler.
    """

    def __init__(
        self, study: Any, storage: Any, name: str, lease: Locked | Beating, worker: str, folder: Path | None, seed: int
    ) -> None:
        self.study, self._storage, self._lease = study, storage, lease
        self._worker, self._folder, self._seed = worker, folder, seed
        self._study_id = storage.get_study_id_from_name(name)

    def rows(self) -> list[Row]:
        """Every trial, by its number in the storage."""
        return [_row(trial) for trial in self._trials()]

    def queue(self, total: int, default: Mapping[str, Any]) -> None:
        """See to it that every slot below ``total`` is queued, taken or done; abandoned ones are queued again.

        Args:
            total: Trials in all.
            default: The values of the first one.
        """
        with alone(self._folder / "queue.lock") if self._folder else _nothing():
            self._abandon_the_dead()
            rows = self.rows()
            there = {row.slot for row in rows if not row.abandoned}
            before = {row.slot: row for row in rows if row.abandoned}
            for slot in range(total):
                if slot not in there:
                    values = before[slot].values if slot in before else dict(default) if slot == 0 else {}
                    notes = {SLOT: slot} | ({DEFAULT: True} if slot == 0 else {})
                    notes |= {"again": before[slot].number} if slot in before else {}
                    with _quiet():
                        self.study.enqueue_trial(values, user_attrs=notes)

    def take(self, total: int) -> Taken | None:
        """The next trial of the queue; None where none waits.

        Args:
            total: Trials in all; more may be queued, and wait.
        """
        for row in self.rows():
            if row.state != "waiting" or not 0 <= row.slot < total or not self._mine(row):
                continue
            with _quiet():
                taken = Taken(self._trial(row), row.slot, default=row.notes.get(DEFAULT, False))
            taken.note(WORKER, self._worker)
            if self._first(row):
                return taken
            self.fail(taken, "another worker had queued the same trial at the same time")
        return None

    @contextmanager
    def held(self, taken: Taken) -> Iterator[None]:
        """While it runs, others see that its worker is alive."""
        with self._lease.hold(lambda beat: taken.note(BEAT, beat)):
            yield

    def complete(self, taken: Taken, score: float) -> None:
        """It is done."""
        self._tell(taken, None, values=score)

    def prune(self, taken: Taken, reason: str) -> None:
        """It was not worth going on with."""
        import optuna

        self._tell(taken, reason, state=optuna.trial.TrialState.PRUNED)

    def fail(self, taken: Taken, reason: str | None) -> None:
        """It gave no score; without a reason it is queued again."""
        import optuna

        self._tell(taken, reason, state=optuna.trial.TrialState.FAIL)

    def running(self, total: int) -> int:
        """How many trials other workers are at."""
        return sum(row.state == "running" and 0 <= row.slot < total for row in self.rows())

    def importances(self, space: Space) -> dict[str, float]:
        """How much each parameter mattered among the complete trials, the sum being 1; none where nothing can be told.

        By PED-ANOVA (Watanabe, Bansal, Hutter, IJCAI 2023): how far a parameter's distribution among the better trials
        differs from that among all.
        """
        import optuna

        done = [row for row in self.study.get_trials(deepcopy=False) if row.state.name == "COMPLETE"]
        whole = [row for row in done if set(space) <= set(row.params)]
        if len(whole) < STARTUP_TRIALS or len({row.value for row in whole}) < 2:
            return {}
        with _quiet():
            copy = optuna.create_study(direction="maximize")
            copy.add_trials(whole)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return dict(optuna.importance.get_param_importances(copy, evaluator=evaluator))

    def close(self) -> None:
        """This worker is done."""
        self._lease.close()

    def _trials(self) -> list[Any]:
        found: list[Any] = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return found

    def _abandon_the_dead(self) -> None:
        """Fail, without a reason, what nobody runs any longer."""
        import optuna

        for row in self.rows():
            if row.state == "running" and self._lease.dead(row.notes.get(WORKER), row.number, row.notes.get(BEAT)):
                try:
                    self._storage.set_trial_state_values(self._id(row), optuna.trial.TrialState.FAIL)
                except optuna.exceptions.UpdateFinishedTrialError:
                    continue  # another worker has seen to it

    def _mine(self, row: Row) -> bool:
        """Take a trial from the queue, unless another worker was faster."""
        import optuna

        try:
            mine: bool = self._storage.set_trial_state_values(self._id(row), optuna.trial.TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return mine

    def _first(self, row: Row) -> bool:
        """Whether no other trial of its slot has come before, but for abandoned ones."""
        return not any(one.slot == row.slot and one.number < row.number and not one.abandoned for one in self.rows())

    def _trial(self, row: Row) -> Any:
        import optuna

        # A sampler for each trial: several workers with one seed would otherwise all draw the same.
        seed = seed_of(self._seed, row.slot) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, seed=seed, constant_liar=True, multivariate=True
        )
        return optuna.trial.Trial(self.study, self._id(row))

    def _tell(self, taken: Taken, reason: str | None, **outcome: Any) -> None:
        import optuna

        try:
            if reason is not None:
                taken.note(REASON, reason)
            with _quiet():
                self.study.tell(taken.trial, **outcome)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            over = self._storage.get_trial(taken.trial._trial_id).state.is_finished()
            if not over:
                raise
            # Held for dead, it was given to another worker, whose attempt counts.

    def _id(self, row: Row) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, row.number))


def open_ledger(
    folder: Path | None, name: str, about: Mapping[str, Any], worker: str, url: str | None = None, seed: int = 0
) -> Ledger:
    """Open a study, or begin it.

    Args:
        folder: The study's own; None keeps it in memory.
        name: The study's, by which many machines know it.
        about: What it is on. A study that is there must be on the same.
        worker: This worker's name.
        url: A storage of Optuna's in place of a journal in the folder.
        seed: Of the sampler.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: The storage cannot be reached, or holds another study.
    """
    try:
        import optuna
    except ImportError as missing:
        raise ImportError(message("optuna", "be installed to tune", "none", "pip install 'vicreg[tune]'")) from missing

    storage = _storage(folder, url)
    with _quiet():
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
            load_if_exists=True,
        )
    known = study.user_attrs.get(ABOUT)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(ABOUT, dict(about))
        known = dict(about)
    _check_same(known, about, name)
    lease = Locked(folder / "workers", worker) if LOCKS and folder is not None and url is None else Beating(worker)
    return Ledger(study, storage, name, lease, worker, folder, seed)


def _check_same(known: Any, about: Mapping[str, Any], name: str) -> None:
    what, fix = f"the study {shown(name)}", "Name another --out."
    require(isinstance(known, dict), what, "be one of vicreg tune", "another program's", fix)
    others = [one for one in {**known, **about} if known.get(one) != about.get(one)]
    got = ", ".join(f"{one}: {shown(about.get(one))}, where it has {shown(known.get(one))}" for one in others[:2])
    require(not others, what, f"be on the same {listed(others)}", got, fix)


def _storage(folder: Path | None, url: str | None) -> Any:
    import optuna
    from optuna.storages import journal

    if url is None:
        if folder is None:
            return optuna.storages.InMemoryStorage()
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / JOURNAL)
        return journal.JournalStorage(journal.JournalFileBackend(path, lock_obj=journal.JournalFileOpenLock(path)))
    try:
        with _quiet():
            if url.startswith("redis"):
                return journal.JournalStorage(journal.JournalRedisBackend(url))
            return optuna.storages.RDBStorage(url)
    except Exception as failure:  # whatever a driver says
        said = str(failure).strip().partition("\n")[0] or type(failure).__name__
        fix = "Look whether it is running, and at name, password and port."
        raise ValueError(message(f"the storage {without_password(url)}", "be reachable", shown(said), fix)) from None


def without_password(url: str) -> str:
    """A storage as it may be shown.

    Example:
        >>> without_password("postgresql://me:secret@host:5432/studies")
        "'postgresql://host:5432/studies'"
    """
    parts = urlsplit(url)
    return shown(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _suggested(trial: Any, name: str, one: Range) -> Any:
    if isinstance(one, Choice):
        named = {_plain(option): option for option in one.options}
        return named[trial.suggest_categorical(name, list(named))]
    suggest = trial.suggest_float if isinstance(one, Float) else trial.suggest_int
    return suggest(name, one.low, one.high, log=one.log)


def _plain(option: Any) -> Any:
    """An option as a storage can hold it: widths of layers with dashes between them."""
    return "-".join(map(str, option)) if isinstance(option, tuple) else option


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as a storage can hold them.

    Example:
        >>> plain_values({"encoder": (64, 32), "steps": 7})
        {'encoder': '64-32', 'steps': 7}
    """
    return {name: _plain(value) for name, value in values.items()}


STATES = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def _row(trial: Any) -> Row:
    notes, state = dict(trial.user_attrs), STATES[trial.state.name]
    took = None if trial.duration is None else trial.duration.total_seconds()
    score = trial.value if state == "complete" else None
    values = dict(trial.params) or dict(trial.system_attrs.get("fixed_params", {}))
    return Row(trial.number, notes.get(SLOT, -1), state, score, values, notes.get(REASON), notes, took)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's word on what of it is new, or that a study was begun."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)

"""Studies: which trials are run, how often, by whom, and what becomes of those that fail."""

import math
import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vicreg.training.config import TableConfig
from vicreg.training.engine import Diverged
from vicreg.tuning.answer import best_of, check_any, of_slots, study_in_words, write_trials
from vicreg.tuning.leases import Beating
from vicreg.tuning.ledger import open_ledger, without_password
from vicreg.tuning.space import Choice, Float, Integer
from vicreg.tuning.study import Pruned, run_study, worker_name
from vicreg.tuning.tables import TableMaterial

BASE = TableConfig(steps=12, batch_size=32, n_components=2, device="cpu")
SPACE = {"learning_rate": Float(1e-4, 1e-2, log=True), "steps": Integer(5, 40), "views": Choice(("mask", "neighbors"))}
ABOUT = {"score": "rate", "space": 1}


def rate(tried: Any) -> float:
    """A score that needs no fit: nearness to a learning rate of .002."""
    return -abs(math.log(tried.config.learning_rate / 0.002))


OPEN: list[Any] = []


@pytest.fixture(autouse=True)
def _closed():
    yield
    while OPEN:
        OPEN.pop().close()


def opened(folder: Path | None = None, about: Any = ABOUT, **more: Any) -> Any:
    OPEN.append(open_ledger(folder, "test", about, more.pop("worker", worker_name()), **more))
    return OPEN[-1]


def run(ledger: Any, total: int, score: Any = rate, **more: Any) -> list[Any]:
    run_study(ledger, None, BASE, SPACE, score, total, **more)
    return of_slots(ledger.rows(), total)


def test_the_default_is_trial_0_and_all_trials_are_run_once():
    rows = run(opened(), 15)
    assert [row.slot for row in rows] == list(range(15))
    assert rows[0].values == {"learning_rate": 1e-3, "steps": 12, "views": "neighbors"}
    assert rows[0].score == pytest.approx(-math.log(2))
    assert best_of(rows).score == max(row.score for row in rows)
    assert len({row.values["learning_rate"] for row in rows}) == 15


def test_a_default_outside_the_space_is_still_trial_0():
    seen = []
    ledger = opened()
    run_study(ledger, None, BASE, {"steps": Integer(50, 60)}, lambda tried: seen.append(tried.config.steps) or 1.0, 3)
    assert seen[0] == 12
    assert all(50 <= steps <= 60 for steps in seen[1:])


def test_one_seed_gives_one_study_and_another_another():
    found = [[row.values for row in run(opened(seed=seed), 13)] for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0][1:] != found[2][1:]


def test_the_sampler_learns():
    rows = run(opened(), 40)
    early, late = (np.mean([row.score for row in part]) for part in (rows[1:11], rows[-10:]))
    assert late > early + 0.2


def test_the_same_call_goes_on_and_more_trials_may_be_asked_for(tmp_path):
    first = run(opened(tmp_path), 4)
    again = run(opened(tmp_path), 4)
    assert [row.values for row in first] == [row.values for row in again]
    more = run(opened(tmp_path), 7)
    assert [row.values for row in more[:4]] == [row.values for row in first]
    assert len(more) == 7


def test_a_stopped_trial_is_run_again_with_the_same_values(tmp_path):
    calls = []

    def stopped(tried: Any) -> float:
        calls.append(tried.config)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rate(tried)

    ledger = opened(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(ledger, 5, stopped)
    ledger.close()
    rows = run(opened(tmp_path), 5, stopped)
    assert len(calls) == 6
    assert calls[2] == calls[5]
    assert [row.state for row in rows] == ["complete"] * 5
    assert rows[2].notes["again"] == 2


def test_scores_that_are_no_numbers_fail_in_words_and_the_study_goes_on():
    answers = iter([1.0, math.nan, "high", ValueError("the rows must be more; got 1."), math.inf, 2.0])

    def score(tried: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    rows = run(opened(), 6, score)
    assert [row.state for row in rows] == ["complete", *["failed"] * 4, "complete"]
    assert rows[1].reason == "the score must be a finite number; got nan."
    assert rows[2].reason.startswith("a score must be a number; got 'high'.")
    assert rows[3].reason == "the rows must be more; got 1."
    assert best_of(rows).slot == 5


def test_all_trials_collapsed_is_said_with_the_reasons(tmp_path):
    answers = iter(
        [Pruned("norm collapse at step 100: flat. Raise std_coeff."), Diverged("training must stay finite.")]
    )

    def score(tried: Any) -> float:
        raise next(answers)

    rows = run(opened(tmp_path), 2, score)
    assert [row.state for row in rows] == ["pruned", "pruned"]
    with pytest.raises(
        ValueError, match=r"a study must have a trial with a score; got 2 trials without: 1 times 'norm"
    ):
        check_any(rows, "studies/a")
    with pytest.raises(ValueError, match=r"training must stay finite\. The study is kept in studies/a"):
        check_any(rows, "studies/a")
    assert len(opened(tmp_path).rows()) == 2


def test_a_collapse_ends_a_trial_with_the_monitors_words():
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    base = TableConfig(
        n_components=2, steps=250, batch_size=64, std_coeff=0.0, cov_coeff=0.0, reconstruction=0.0, linear_path=False,
        encoder=(16,), expander=(16,), learning_rate=0.01, device="cpu",
    )  # fmt: skip
    ledger = opened()
    material = TableMaterial(rows[:150], rows[150:], np.arange(4), base)
    run_study(ledger, material, base, {"anchor": Float(0.0, 1.0)}, lambda tried: float(tried.main.held.std()), 1)
    (row,) = ledger.rows()
    assert row.state == "pruned"
    assert "collapse at step" in row.reason
    assert "Raise std_coeff" in row.reason


def test_the_lower_half_ends_early_but_never_the_default():
    rows = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    material = TableMaterial(rows[:90], rows[90:], np.arange(4), BASE)
    order = iter([0.0, 5.0, 4.0, 6.0])
    now: list[float] = []

    def score(tried: Any) -> float:
        if not tried.under_way:
            now[:] = [next(order)]
        tried.main  # noqa: B018  # a fit, whose rungs ask for the score
        return now[0]

    def run_all(*, halving: bool) -> list[Any]:
        ledger = opened()
        run_study(ledger, material, BASE, {"anchor": Float(0.0, 1.0)}, score, 4, halving=halving)
        return ledger.rows()

    found = run_all(halving=True)
    assert [row.state for row in found] == ["complete", "complete", "pruned", "complete"]
    assert found[2].reason == "at 25% of its steps its score was among the lower half"
    order = iter([0.0, 5.0, 4.0, 6.0])
    assert [row.state for row in run_all(halving=False)] == ["complete"] * 4


def test_a_score_that_looks_at_the_default_has_it_tried_first(tmp_path):
    seen = []

    def score(tried: Any) -> float:
        seen.append(dict(tried.first))
        tried.note("part", 3.0)
        return rate(tried)

    ledger = opened(tmp_path)
    run(ledger, 3, score, relative=True)
    assert "part" not in seen[0]
    assert [one["part"] for one in seen[1:]] == [3.0, 3.0]
    failing = opened()
    with pytest.raises(ValueError, match=r"must have one of it; got the score must be a finite number; got nan"):
        run(failing, 3, lambda tried: math.nan, relative=True)
    assert [row.state for row in failing.rows()] == ["failed", "waiting", "waiting"]


def test_another_study_in_the_storage_is_refused(tmp_path):
    opened(tmp_path).close()
    with pytest.raises(
        ValueError, match=r"the study 'test' must be on the same 'score'; got score: 'knn', where it has"
    ):
        opened(tmp_path, ABOUT | {"score": "knn"})


def test_a_storage_that_cannot_be_reached_is_said_without_its_password(tmp_path):
    with pytest.raises(ValueError, match=r"the storage 'sqlite:////nowhere/at/all\.db' must be reachable; got"):
        opened(tmp_path, url="sqlite:////nowhere/at/all.db")
    with pytest.raises(ValueError, match="must be reachable; got"):
        opened(tmp_path, url="nonsense")
    assert "secret" not in without_password("postgresql://me:secret@there/x?password=secret")


def test_workers_never_take_the_same_trial(tmp_path):
    ledgers = [opened(tmp_path) for _ in range(3)]
    for ledger in ledgers:
        ledger.queue(6, {"learning_rate": 1e-3})
    taken = [ledger.take(6) for ledger in ledgers * 2]
    assert sorted(one.slot for one in taken) == list(range(6))
    assert ledgers[0].take(6) is None
    assert [one.default for one in taken].count(True) == 1


def test_a_trial_queued_twice_counts_once(tmp_path):
    ledger = opened(tmp_path)
    ledger.queue(1, {})
    ledger.study.enqueue_trial({}, user_attrs={"slot": 0, "default": True})
    rows = run(ledger, 1)
    assert [row.state for row in ledger.rows()] == ["complete", "failed"]
    assert "another worker had queued the same trial" in ledger.rows()[1].reason
    assert [row.number for row in rows] == [0]


def test_the_trial_of_a_worker_that_is_gone_is_run_again(tmp_path):
    gone, alive, late = opened(tmp_path), opened(tmp_path), opened(tmp_path)
    for ledger in (gone, alive):
        ledger.queue(2, {"learning_rate": 1e-3})
    lost, kept = gone.take(2), alive.take(2)
    values = lost.values(SPACE, {"learning_rate": 1e-3})
    gone.close()  # as the system does to the locks of a process that was killed
    late.queue(2, {})
    again = late.take(2)
    assert (again.slot, kept.slot) == (0, 1)
    assert again.default
    assert again.values(SPACE, {"learning_rate": 1e-3}) == values
    assert late.take(2) is None
    gone.complete(lost, 9.0)  # it was alive after all: the new attempt counts
    late.complete(again, 1.0)
    alive.complete(kept, 2.0)
    assert [row.score for row in of_slots(late.rows(), 2)] == [1.0, 2.0]


def test_a_worker_elsewhere_that_no_longer_beats_is_gone():
    lease = Beating("me", patience=0.05)
    assert not lease.dead("other", 3, 7)
    assert not lease.dead("other", 3, 8)
    time.sleep(0.06)
    assert not lease.dead("other", 3, 9)
    assert lease.dead("other", 3, 8)
    assert not lease.dead("me", 3, 8)
    beats: list[int] = []
    with Beating("me", every=0.01).hold(beats.append):
        time.sleep(0.1)
    assert beats[:3] == [1, 2, 3]


def test_a_database_holds_a_study_too(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    first = run(opened(tmp_path / "a", url=url), 5)
    second = run(opened(tmp_path / "b", url=url), 5)
    assert [row.values for row in first] == [row.values for row in second]
    with sqlite3.connect(tmp_path / "studies.db") as there:
        assert there.execute("select count(*) from trials").fetchone() == (5,)


def test_importances_find_the_parameter_that_matters():
    ledger = opened()
    run(ledger, 30)
    found = ledger.importances(SPACE)
    assert max(found, key=found.__getitem__) == "learning_rate"
    assert sum(found.values()) == pytest.approx(1)
    few = opened()
    run(few, 5)
    assert few.importances(SPACE) == {}


def test_the_answer_says_what_tuning_gained_and_that_it_is_the_score(tmp_path):
    ledger = opened()
    rows = run(ledger, 12)
    said = study_in_words(rows, "rate", {"steps": 0.25})
    assert said.startswith("12 trials: 12 complete.")
    assert "where the default, trial 0, has -.6931: tuning gained" in said
    assert "steps .250" in said
    assert "Tuning gained nothing." in study_in_words(rows[:1], "rate", {})
    write_trials(tmp_path / "trials.csv", ledger.rows(), SPACE)
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0] == "trial,attempt,state,score,seconds,learning_rate,steps,views,reason"
    assert len(lines) == 13


@dataclass
class Slow:
    """A score that takes its time, and says when it began."""

    folder: Path
    seconds: float

    def __call__(self, tried: Any) -> float:
        (self.folder / f"begun-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        return rate(tried)


def work(folder: Path, begun: Path, total: int, seconds: float) -> None:
    run(opened(folder), total, Slow(begun, seconds))


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(tmp_path / "study", begun, 12, 0.5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    while not any(str(workers[0].pid) in path.name for path in begun.iterdir()):
        time.sleep(0.05)
    os.kill(workers[0].pid, signal.SIGKILL)
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [-signal.SIGKILL, 0, 0]
    ledger = opened(tmp_path / "study")
    rows = of_slots(ledger.rows(), 12)
    assert [row.slot for row in rows] == list(range(12))
    assert {row.state for row in rows} == {"complete"}
    states = [row.state for row in ledger.rows()]
    assert states.count("complete") == 12
    assert len(list(begun.iterdir())) == 12 + states.count("failed")

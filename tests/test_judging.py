"""Which rows a fit holds out, and what is said where a run cannot be judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import QUICK, people, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vicreg.evaluation import EmbeddingComparison, hold_out, infer_task
from vicreg.evaluation.splits import MOST_JUDGED_ROWS, one_split
from vicreg.training.config import TableConfig
from vicreg.training.settings import to_mapping
from vicreg.training.signal_config import SignalConfig
from vicreg.workflows import fitting, judging, read_settings
from vicreg.workflows.collection_judging import short_in_words


@given(
    st.one_of(
        st.lists(st.sampled_from("aaaaabbc"), min_size=1, max_size=60),
        st.lists(st.integers(0, 3), min_size=1, max_size=60),
        st.lists(st.integers(0, 50), min_size=1, max_size=60),
        st.lists(st.floats(-9, 9), min_size=1, max_size=60),
        st.lists(st.text(max_size=2), min_size=1, max_size=60),
        st.lists(st.booleans(), min_size=1, max_size=60),
    ),
    st.integers(0, 5),
)
@example([0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 3.5], 0)
@settings(max_examples=150)
def test_what_is_held_out_can_be_judged(labels, seed):
    labels = np.array(labels)
    try:
        held = hold_out(labels, seed)
    except ValueError as refused:
        assert str(refused).startswith(("labels must have at least two classes", "labelled rows must be enough"))
        return
    rows = np.random.default_rng(0).normal(size=(len(labels), 2))
    assert len(EmbeddingComparison({"h": rows}, labels, test=held).judged) == held.sum()
    if infer_task(labels) == "regression":
        assert abs(held.sum() - len(labels) / 5) < 1
        return
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        here = held[labels == label].sum()
        assert here == 0 if count == 1 else 1 <= here < count
        assert here <= max(1, -(-count // 5))


def test_a_fifth_is_held_out_in_the_classes_proportions():
    labels = np.repeat(["a", "b", "c"], [500, 300, 200])
    held = hold_out(labels)
    assert [int(held[labels == one].sum()) for one in "abc"] == [100, 60, 40]
    assert np.array_equal(held, hold_out(labels))
    assert not np.array_equal(held, hold_out(labels, 1))
    assert np.abs(np.flatnonzero(hold_out(labels)[:500]).mean() - 250) < 40  # drawn from all over the class
    numbers = np.random.default_rng(0).exponential(size=1000)
    below = np.searchsorted(np.sort(numbers[hold_out(numbers)]), np.sort(numbers)[[250, 500, 750]])
    np.testing.assert_array_equal(below, [50, 100, 150])


def test_a_rare_class_is_judged_in_a_very_large_table_too():
    groups = np.zeros(4 * MOST_JUDGED_ROWS, dtype=np.intp)
    groups[[5, 30_000]] = 1
    test = np.arange(0, len(groups), 2)  # holds out 30,000 alone of the two
    for seed in range(3):
        (split,) = one_split(test, groups, np.random.default_rng(seed))
        assert len(split.test) == MOST_JUDGED_ROWS
        assert 30_000 in split.test
        assert np.isin(split.test, test).all()


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_copies_of_rows_of_the_fit_are_judged_and_counted(table, capsys):
    draw = np.random.default_rng(0)
    discrete = pd.DataFrame(
        {"a": draw.integers(0, 2, 200), "b": draw.integers(0, 2, 200), "y": draw.choice(["u", "v"], 200)}
    )
    discrete.to_csv("t.csv", index=False)
    assert run("fit", "t.csv", "--labels", "y", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Judged on 40 held-out rows" in said
    assert "\n40 of the held-out rows equal a row of the fit.\n" in said
    assert run("evaluate", "runs/t") == 0
    assert "\n40 of the held-out rows equal a row of the fit.\n" in capsys.readouterr().out
    assert run("evaluate", "runs/t", "t.csv") == 2
    assert "the table must hold labelled rows that the fit did not see; got 200 that it saw." in capsys.readouterr().err


def test_three_rows_of_a_class_are_enough(table, capsys):
    labels = np.full(200, "no", dtype=object)
    labels[[3, 50, 90]] = "yes"
    people(200).assign(kind=labels).to_csv("t.csv", index=False)
    assert run("fit", "t.csv", "--labels", "kind", *QUICK) == 0
    assert "Judged on 41 held-out rows, probes fitted on 159 other rows; 2 classes." in capsys.readouterr().out


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_a_dozen_labelled_rows_are_enough(table, capsys, task):
    labels = [["round", "square"][i % 2] if task == "classes" else i + 0.5 for i in range(12)]
    people(100).assign(kind=pd.Series(labels)).to_csv("t.csv", index=False)
    assert run("fit", "t.csv", "--labels", "kind", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Judged on 3 held-out rows, probes fitted on 9 other rows" in said
    assert "88 rows without a label are left out." in said


def test_where_a_run_cannot_be_judged_it_is_whole_and_says_why(table, capsys, monkeypatch):
    people(60).to_csv("t.csv", index=False)
    monkeypatch.setattr(fitting, "held_out", lambda frame, _: np.arange(frame.n_rows) > 56)  # too late to refuse
    people(60).assign(kind=["a", "b"] * 28 + ["a"] * 4).to_csv("t.csv", index=False)
    assert run("fit", "t.csv", "--labels", "kind", "--out", "r", *QUICK) == 0
    said = capsys.readouterr().out
    assert "The run cannot be judged because labels of the held-out rows must have at least two classes; got 1." in said
    assert "The run is in r; its report is r/report.html." in said
    assert not Path("r/scores.csv").exists()
    assert run("embed", "r", "t.csv", "--out", "x.parquet") == 0
    assert run("evaluate", "r") == 2


def test_two_rows_without_labels_are_fitted_and_not_judged(table, capsys):
    people(2)[["height", "secret"]].to_csv("t.csv", index=False)
    assert run("fit", "t.csv", *QUICK) == 0
    assert "The run cannot be judged because z must have at least 3 rows; got 2." in capsys.readouterr().out
    assert run("evaluate", "runs/t") == 2
    assert "must hold readings to show without labels; got none." in capsys.readouterr().err


def test_an_error_in_judging_is_not_taken_for_a_reason(table, monkeypatch):
    people(60).to_csv("t.csv", index=False)

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(judging, "EmbeddingComparison", broken)
    with pytest.raises(ZeroDivisionError):
        run("fit", "t.csv", "--labels", "kind", *QUICK)
    monkeypatch.undo()


SETTINGS = yaml.safe_dump(to_mapping(TableConfig()), sort_keys=False)


@settings(max_examples=150)
@given(st.data())
def test_any_damaged_settings_are_settings_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("settings") / "s.yaml"
    lines = SETTINGS.splitlines()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(lines) - 1))
        name = lines[place].partition(":")[0]
        value = data.draw(st.one_of(st.text(max_size=6), st.integers().map(str), st.floats().map(str), st.sampled_from(
            ["[]", "{}", "null", "[1, a]", "[[1]]", "2020-01-01", "!!int ''", "&a [*a]", "1e3", "0x10", "yes", "'1'"]
        )))  # fmt: skip
        lines[place] = f"{name}: {value}"
        content = "\n".join(lines).encode("utf-8", "replace")
    else:
        start = data.draw(st.integers(0, len(SETTINGS)))
        end = data.draw(st.integers(start, min(start + 6, len(SETTINGS))))
        content = SETTINGS[:start].encode() + data.draw(st.binary(max_size=6)) + SETTINGS[end:].encode()
    path.write_bytes(content)
    try:
        assert isinstance(read_settings(path, TableConfig), TableConfig)
    except (ValueError, TypeError) as error:
        assert " must " in str(error)


def test_a_runs_configuration_gives_its_settings(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"source": "x", "settings": to_mapping(TableConfig(steps=7))}))
    assert read_settings(tmp_path / "config.yaml", TableConfig) == TableConfig(steps=7)


def test_a_short_run_that_is_as_good_as_untrained_says_so():
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2
    h = labels[:, None] + draw.normal(size=(80, 3))
    same, better, alone = (
        EmbeddingComparison(sets, labels)
        for sets in ({"random": h, "vicreg": h}, {"random": draw.normal(size=(80, 3)), "vicreg": h}, {"vicreg": h})
    )
    few = SignalConfig(steps=7, batch_size=16)
    usual = SignalConfig().steps_for(64)
    assert short_in_words(same, few, 64) == [
        f"After 7 steps, where the default makes {usual:,}, it does no better than untrained: more --steps may help."
    ]
    assert short_in_words(better, few, 64) == short_in_words(alone, few, 64) == []
    assert short_in_words(same, SignalConfig(steps=usual), 64) == []

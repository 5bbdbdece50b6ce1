"""The study of branches that differ: finished runs are kept, pages say what runs say, speakers stay held out."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import branches as benchmark
import branches_page as page
import branches_pairs as pairs
import branches_sounds as sounds
import branches_store as store
import branches_weights as weights


def ran(calls, key):
    calls.append(key)
    return {"score": float(key["seed"])}


def test_finished_runs_are_written_at_once_and_never_repeated(tmp_path):
    path, calls = tmp_path / "out" / "part.jsonl", []
    keys = [{"method": "a", "seed": seed} for seed in range(3)]
    store.run_all(path, keys[:2], partial(ran, calls))
    store.run_all(path, keys, partial(ran, calls))
    assert calls == keys
    assert [row["score"] for row in store.of_keys(path, reversed(keys))] == [2.0, 1.0, 0.0]
    assert all(row["seconds"] >= row["cpu_seconds"] >= 0 for row in store.rows(path))


def test_a_line_that_was_cut_short_is_run_again(tmp_path):
    path, calls = tmp_path / "part.jsonl", []
    keys = [{"seed": 0}, {"seed": 1}]
    store.run_all(path, keys, partial(ran, calls))
    path.write_bytes(path.read_bytes()[:-9])
    store.run_all(path, keys, partial(ran, calls))
    assert calls == [*keys, keys[1]]
    assert len(store.of_keys(path, keys)) == 2


def test_a_run_that_another_process_is_at_is_left_to_it(tmp_path):
    path, calls = tmp_path / "part.jsonl", []
    with store.claimed(path, {"seed": 0}) as mine:
        assert mine
        store.run_all(path, [{"seed": 0}, {"seed": 1}], partial(ran, calls))
    assert calls == [{"seed": 1}]


def test_no_run_is_begun_when_time_is_up(tmp_path, capsys):
    store.run_all(tmp_path / "part.jsonl", [{"seed": 0}], partial(ran, []), minutes=-1)
    assert "the same command goes on" in capsys.readouterr().out
    assert store.rows(tmp_path / "part.jsonl") == []


@pytest.mark.parametrize("part", benchmark.PARTS)
def test_every_run_has_a_key_of_its_own(part):
    keys = benchmark.PARTS[part][0](3, None)
    assert len({store.name_of(key) for key in keys}) == len(keys)
    assert all(key["part"] == part and json.loads(json.dumps(key)) == key for key in keys)


def test_as_many_runs_as_the_study_has_cells():
    assert len(weights.keys(3, None)) == 2 * 3 * 3 * 3
    assert len(pairs.keys(3, None)) == 15 * (3 + 2 * 3)
    assert len(sounds.keys(3, None)) == 6 * (len(sounds.BASELINES) + 3 * len(sounds.NETWORKS))


@pytest.mark.parametrize("form", weights.FORMS)
def test_digits_are_learnt_in_every_form(form):
    found = weights.run(
        {"part": "weights", "data": "digits", "objective": "simclr", "form": form, "seed": 0, "steps": 3, "rate": 1e-3},
        None,
    )
    assert ("second_linear" in found) == (form != "shared")
    assert all(0.5 < value <= 1 for value in found.values())


def test_rates_are_chosen_on_training_rows():
    x, _, judged, _ = weights.rows_of("digits", None, False)
    x_rates, _, judged_rates, _ = weights.rows_of("digits", None, True)
    np.testing.assert_array_equal(np.concatenate((x_rates, judged_rates)), x)
    assert not {row.tobytes() for row in judged_rates} & {row.tobytes() for row in judged}


def test_encoders_of_pictures_are_one_or_two_and_drawn_apart():
    assert len(weights.fashion_encoders("shared", 0)) == 1
    one, other = weights.fashion_encoders("separate", 0)
    assert type(one) is type(other)
    assert not all((a == b).all() for a, b in zip(one.parameters(), other.parameters(), strict=True))
    one, other = weights.fashion_encoders("different", 0)
    assert type(one) is not type(other)


def test_the_probe_s_strength_is_chosen_without_the_held_out_speaker():
    draw = np.random.default_rng(0)
    speaker, digit = np.repeat(["a", "b", "c"], 40), np.tile(np.arange(4), 30)
    h = draw.normal(size=(120, 6)) + np.eye(6)[digit] * 3
    found = sounds.Clips(None, speaker, digit)
    said, strength = sounds.linear_said(h, found, speaker == "c")
    spoilt = h.copy()
    spoilt[speaker == "c"] = 1e3 * draw.normal(size=(40, 6))
    others = sounds.Clips(None, speaker, np.where(speaker == "c", 0, digit))
    assert sounds.linear_said(spoilt, others, speaker == "c")[1] == strength
    assert (said == digit[speaker == "c"]).mean() > 0.8
    expected = np.mean([
        sounds.logistic(h[speaker == fit], digit[speaker == fit], 0.1).score(h[speaker == out], digit[speaker == out])
        for fit, out in (("a", "b"), ("b", "a"))
    ])  # fmt: skip
    some = speaker != "c"
    assert sounds.left_out(h[some], digit[some], speaker[some], 0.1) == pytest.approx(expected)


@pytest.fixture
def recordings(tmp_path):
    """Six speakers of ten short clips, in the form of fsdd_8k.npz."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(500, 1500, 60)
    offset = np.concatenate(([0], lengths.cumsum()))
    loudness = np.repeat(10.0 ** np.repeat(np.arange(6) % 3, 10), lengths)
    digit, speaker = np.tile(np.arange(10), 6), np.repeat(np.arange(6), 10)
    wave = (draw.normal(size=offset[-1]) * 20 * loudness).astype(np.int16)
    parts = {"wave": wave, "offset": offset, "digit": digit, "speaker": speaker, "speakers": np.array(sounds.SPEAKERS)}
    np.savez(tmp_path / "fsdd_8k.npz", **parts)
    return tmp_path


def test_clips_are_brought_to_one_power_unless_taken_as_recorded(recordings):
    power = [float((sounds.clips(recordings).source.read(row) ** 2).mean()) for row in range(60)]
    np.testing.assert_allclose(power, 0.06**2, rtol=1e-5)
    power = [float((sounds.clips(recordings, levelled=False).source.read(row) ** 2).mean()) for row in (0, 10, 20)]
    np.testing.assert_allclose(10 * np.log10(power), np.array([0, 20, 40]) + 10 * np.log10(400 / 2**30), atol=2)


@pytest.mark.parametrize("method", [*sounds.BASELINES, *sounds.NETWORKS])
def test_every_method_says_something_of_every_held_out_clip(recordings, method):
    (key,) = (key for key in sounds.keys(1, 2) if key["method"] == method and key["speaker"] == "lucas")
    if method in sounds.NETWORKS:
        key["settings"]["config"] |= {"width": 2, "batch_size": 16, "seconds": 0.1, "expander": [4]}
    found = sounds.run(key, recordings)
    assert {len(value) for name, value in found.items() if name.endswith(" right")} == {10}
    assert all(0 <= value <= 1 for value in found.values() if isinstance(value, float))
    assert ("wave linear" in found) == method.startswith("wave")


def test_what_is_right_comes_back_clip_by_clip():
    right = np.array([True, False, True])
    row = {"key": {"method": "m", "speaker": "theo"}, **sounds.scored("linear", right)}
    np.testing.assert_array_equal(page.of_speaker([row, row], "m", "linear", "theo"), [[1, 0, 1]] * 2)


def test_half_widths_are_those_of_student_s_test():
    values = [0.3, 0.1, -0.2, 0.4]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    assert page.half_width(values) == pytest.approx((high - low) / 2)
    assert page.half_width([0.3]) is None
    assert page.difference([0.3]) == "+0.300"


def test_pairs_are_counted_against_the_better_of_cca_and_pls():
    def row(pair, method, recall, linear, cosine=0.0):
        scores = {
            "recall_euclidean": recall,
            "recall_cosine": cosine,
            "linear_a": linear,
            "linear_b": linear,
            "linear_both": 0.9,
        }
        return {"key": {"pair": pair, "method": method, "seed": 0}, "k": 16, **scores}

    first, second = (" - ".join(one) for one in pairs.PAIRS[:2])
    rows = [row(first, "CCA", 0.1, 0.8, cosine=0.4), row(first, "PLS", 0.2, 0.7), row(second, "CCA", 0.5, 0.9),
            row(second, "PLS", 0.1, 0.1), row(first, "aligned", 0.8, 0.5),
            row(second, "aligned", 0.25, 0.5, cosine=1.0), row(first, "unaligned", 0.0, 0.8),
            row(second, "unaligned", 0.0, 0.85)]  # fmt: skip
    text = " ".join("\n".join(page.pairs_in_words(rows)).split())
    assert f"| {first} | 16 | .400 | .200 | | .800 | 2.00 |" in text
    assert "on 1 of 2 pairs" in text
    assert "the mean ratio is 1.25, the geometric one 1.00, the least 0.50" in text
    assert "is not below the better of CCA and PLS on 1 of 2 pairs (asked: 12 of 15), and on 2 from both" in text


def test_losses_are_to_the_shared_form_of_the_same_seed():
    def row(form, seed, value):
        key = {"data": "digits", "objective": "vicreg", "form": form, "seed": seed}
        return {"key": key, "knn": value, "linear": value}

    rows = [row("shared", 0, 0.9), row("shared", 1, 0.8), row("separate", 0, 0.8), row("separate", 1, 0.7)]
    text = "\n".join(page.weights_in_words(rows))
    assert "| VICReg | separate | .750 (.071) | .750 (.071) | -0.100 ± 0.000 | -0.100 ± 0.000 |" in text
    assert "best first: VICReg -0.100" in text


def test_the_command_writes_runs_and_the_page(tmp_path):
    words = ["--part", "weights", "--seeds", "1", "--steps", "2", "--out", str(tmp_path), "--docs", str(tmp_path)]
    key = weights.keys(1, 2)[0]
    for other in weights.keys(1, 2)[1:]:
        store.append(tmp_path / "weights.jsonl", {"key": other, "knn": 0.5, "linear": 0.5})
    benchmark.main(words)
    assert [row["key"] for row in store.rows(tmp_path / "weights.jsonl")][-1] == key
    text = (tmp_path / "branches.md").read_text()
    assert text.count("Not run yet.") == 2
    assert "| SimCLR | different | .500 | .500 |" in text

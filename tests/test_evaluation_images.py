"""Probes of large labelled sets against torch's own optimiser, scikit-learn and slow loops."""

import math
import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from vicreg.evaluation import (
    Comparison,
    EmbeddingComparison,
    ProbeComparison,
    among_first,
    both_codes,
    linear,
    probe_batches,
    probe_features,
    weighted,
    weighted_knn,
)
from vicreg.evaluation.linear import Heads, choosing_rows, enough_epochs, standardiser

X, Y = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))
X, Y = X[ORDER].astype(np.float32), Y[ORDER]
TRAIN, TEST = slice(0, 1200), slice(1200, None)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_name(comparison):
    return {(score.representation, score.metric): score for score in comparison.scores}


# The linear probe.


def test_the_probe_is_torchs_linear_layer_under_torchs_sgd():
    epochs, rate, decay = 5, 0.1, 1e-2
    h, labels = normal(96, 7) * torch.arange(1, 8) + 3, torch.arange(96) % 4

    def batches(epoch):
        order = torch.randperm(96, generator=torch.Generator().manual_seed(epoch))
        return [(h[part], labels[part]) for part in order.split(40)]

    found = probe_batches(batches, 4, rates=[rate], epochs=epochs, weight_decay=decay, seed=3)

    x = torch.from_numpy(StandardScaler().fit_transform(h.double().numpy())).float()
    layer = nn.Linear(7, 4)
    with torch.no_grad():
        layer.weight.copy_(Heads(7, 4, 1, torch.device("cpu"), seed=3).weight)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), rate, momentum=0.9, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for part in torch.randperm(96, generator=torch.Generator().manual_seed(epoch)).split(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(x[part]), labels[part]).backward()
            optimizer.step()
        schedule.step()
    torch.testing.assert_close(found.logits(h), layer(x).detach(), rtol=1e-4, atol=1e-4)


def test_rates_side_by_side_are_rates_one_by_one():
    h, labels = normal(300, 5), (normal(300, 5)[:, 0] > 0).long()
    rates = (1e-9, 0.02, 0.1)

    def batches(epoch):
        return zip(h[:200].split(64), labels[:200].split(64), strict=True)

    alone = [probe_batches(batches, 2, rates=[rate], epochs=3) for rate in rates]
    right = [float(among_first(probe.logits(h[200:]), labels[200:]).mean()) for probe in alone]
    best = right.index(max(right))
    found = probe_batches(batches, 2, (h[200:], labels[200:]), rates=rates, epochs=3)
    assert found.rate == rates[best] != 1e-9
    torch.testing.assert_close(found.weight, alone[best].weight)
    torch.testing.assert_close(found.bias, alone[best].bias)
    first = probe_batches(batches, 2, (h[200:], labels[200:]), rates=(0.02, 0.02 + 1e-9), epochs=3)
    assert first.rate == 0.02


def test_augmented_features_are_asked_for_epoch_by_epoch():
    asked = []

    def batches(epoch):
        asked.append(epoch)
        return [(normal(8, 3, seed=epoch), torch.arange(8) % 2)]

    probe_batches(batches, 2, rates=[0.1], epochs=4)
    assert asked == [0, 0, 1, 2, 3]  # the first pass measures the columns


def test_the_probe_finds_what_logistic_regression_finds():
    scaler = StandardScaler().fit(X[TRAIN])
    exact = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(X[TRAIN]), Y[TRAIN])
    expected = exact.score(scaler.transform(X[TEST]), Y[TEST])
    found = probe_features(X[TRAIN], Y[TRAIN], 10)
    right = float(among_first(found.logits(X[TEST]), Y[TEST]).mean())
    assert right == pytest.approx(expected, abs=0.015)
    assert right > 0.93
    assert found.rate in linear.RATES


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float64, torch.float16, torch.uint8])
def test_features_of_any_type_are_taken_as_they_are(kind):
    given = torch.from_numpy(X).to(kind) if isinstance(kind, torch.dtype) else X.astype(kind)
    few = {"rates": [0.02], "epochs": 1}
    plain, other = probe_features(X, Y, 10, **few), probe_features(given, Y, 10, **few)
    torch.testing.assert_close(other.logits(given), plain.logits(X))
    assert weighted_knn(given, Y, given[:50], 10)[20].tolist() == weighted_knn(X, Y, X[:50], 10)[20].tolist()


def test_a_seed_repeats_the_probe_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, again = (probe_features(X[:300], Y[:300], 10, rates=[0.02], seed=5) for _ in range(2))
    other = probe_features(X[:300], Y[:300], 10, rates=[0.02], seed=6)
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_shift_and_scale_of_columns_do_not_matter():
    moved = X * np.float32(2.0) ** np.arange(-32, 32) + 0
    few = {"rates": [0.02], "epochs": 1}
    expected = probe_features(X, Y, 10, **few).logits(X)
    torch.testing.assert_close(probe_features(moved, Y, 10, **few).logits(moved), expected, rtol=1e-3, atol=1e-3)


def test_the_rate_is_chosen_on_rows_of_every_class_and_no_class_is_lost():
    codes = np.array([0] * 100 + [1] * 12 + [2] * 2 + [3])
    chosen = choosing_rows(codes, seed=0)
    assert np.bincount(codes[chosen], minlength=4).tolist() == [10, 2, 1, 0]
    assert set(codes[np.setdiff1d(np.arange(len(codes)), chosen)]) == {0, 1, 2, 3}
    assert len(choosing_rows(np.arange(5), seed=0)) == 0
    assert not np.array_equal(chosen, choosing_rows(codes, seed=1))
    assert probe_features(normal(3, 2), [0, 1, 2], 3).rate == linear.RATES[0]


def test_few_rows_get_enough_steps():
    assert enough_epochs(1_281_167, 100) == 100
    assert enough_epochs(257, 20) == 500
    found = probe_features([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1], 2, epochs=1)
    assert found.logits([[0.5], [10.5]]).argmax(1).tolist() == [0, 1]


def test_columns_are_standardised_as_by_scikit_learn():
    h = normal(1000, 4) * torch.tensor([1e-3, 1.0, 50.0, 0.0]) + torch.tensor([0.1, -7.0, 1e3, 4.0])
    scaler = StandardScaler().fit(h.double().numpy())
    found = standardiser(torch.split(h, [1, 300, 699]))
    np.testing.assert_allclose(found.mean.numpy(), scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(1 / found.factor.numpy(), scaler.scale_, rtol=1e-4)
    assert found.factor[3] == 1


def test_top_5_is_scikit_learns():
    logits, labels = normal(200, 9), torch.arange(200) % 9
    assert among_first(logits, labels, 9).all()
    for top in (1, 5):
        expected = top_k_accuracy_score(labels.numpy(), logits.numpy(), k=top)
        assert float(among_first(logits, labels, top).double().mean()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: probe_features(X, Y / 2, 10),
            TypeError,
            "codes must be whole numbers, one per class; got dtype float64",
        ),
        (lambda: probe_features(X, Y, 9), ValueError, "codes must lie between 0 and 8; got 0 to 9"),
        (lambda: probe_features(X, Y - 1, 10), ValueError, "codes must lie between 0 and 9; got -1 to 8"),
        (lambda: probe_features(X, Y[1:], 10), ValueError, r"codes must be one for each of the 1797 rows; got .*1796"),
        (lambda: probe_features(X[:, 0], Y, 10), ValueError, r"h must be a matrix .*got \(1797,\)"),
        (lambda: probe_features([["a"]], [0], 2), TypeError, "h must hold real numbers; got dtype <U1"),
        (
            lambda: probe_features(torch.zeros(2, 2) * 1j, [0, 1], 2),
            TypeError,
            "h must hold real numbers; got .*complex",
        ),
        (lambda: probe_features([[math.nan], [1]], [0, 1], 2), ValueError, "features must be finite; got NaN or inf"),
        (lambda: probe_features(X, Y, 1), ValueError, "classes must be at least 2"),
        (lambda: probe_features(X, Y, 10, rates=[0]), ValueError, "rates must be a finite number above 0"),
        (lambda: probe_batches(lambda epoch: [], 2, rates=[1]), ValueError, "the batches must hold rows to train"),
        (lambda: probe_batches(lambda epoch: [], 2), ValueError, "rates must be one where no rows .* got 4 of them"),
        (lambda: probe_features(X, Y, 10, rates=[1], epochs=1).logits(X[:, 1:]), ValueError, "h must have 64 columns"),
        (lambda: probe_features(X, Y, 10, rates=[1]).logits(X * np.inf), ValueError, "h must be finite; got NaN"),
        (lambda: among_first(normal(4, 3), [0, 1]), ValueError, "labels must be one for each of the 4 rows; got 2"),
        (lambda: among_first(normal(4, 3), [0] * 4, top=4), ValueError, "top must lie between 1 and 3; got 4"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply")
def test_a_probe_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# Weighted nearest neighbours.


def voted(train, codes, test, classes, k, temperature):
    """Wu et al. 2018, one test row and one neighbour at a time."""
    answers = []
    for row in test:
        similarity = [float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)) for other in train]
        votes = [0.0] * classes
        for number in sorted(range(len(train)), key=lambda i: -similarity[i])[:k]:
            votes[codes[number]] += math.exp(similarity[number] / temperature)
        answers.append(votes.index(max(votes)))
    return answers


@pytest.mark.parametrize("blocks", [(512, 8192), (7, 13)])
def test_neighbours_vote_as_defined(blocks, monkeypatch):
    monkeypatch.setattr(weighted, "TEST_BLOCK", blocks[0])
    monkeypatch.setattr(weighted, "TRAIN_BLOCK", blocks[1])
    rng = np.random.default_rng(0)
    train, test, codes = rng.normal(size=(120, 4)), rng.normal(size=(40, 4)), rng.integers(5, size=120)
    found = weighted_knn(train, codes, test, 5, k=(1, 20, 100), temperature=0.3)
    for k, said in found.items():
        assert said.tolist() == voted(train, codes, test, 5, k, 0.3)


@pytest.mark.parametrize(
    ("temperature", "weights"), [(0.07, lambda distance: np.exp((1 - distance) / 0.07)), (math.inf, "uniform")]
)
def test_neighbours_vote_as_scikit_learns_do(temperature, weights, monkeypatch):
    monkeypatch.setattr(weighted, "TRAIN_BLOCK", 500)
    found = weighted_knn(X[TRAIN], Y[TRAIN], X[TEST], 10, temperature=temperature)
    for k, said in found.items():
        judge = KNeighborsClassifier(k, weights=weights, metric="cosine").fit(X[TRAIN], Y[TRAIN])
        assert said.tolist() == judge.predict(X[TEST]).tolist()


def test_a_low_temperature_is_the_nearest_neighbour():
    found = weighted_knn(X[TRAIN], Y[TRAIN], X[TEST], 10, k=[1, 50], temperature=1e-4)
    assert (found[1] == found[50]).float().mean() > 0.99


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: weighted_knn(X[:19], Y[:19], X, 10, k=[20]),
            ValueError,
            "training rows must be at least the 20 .* 19",
        ),
        (lambda: weighted_knn(X, Y, X[:, 1:], 10), ValueError, "test must have 64 columns, as train has; got 63"),
        (lambda: weighted_knn(X, Y, X, 10, k=[]), ValueError, "k must name a number of neighbours"),
        (lambda: weighted_knn(X, Y, X, 10, temperature=0), ValueError, "temperature must be a finite number above 0"),
        (lambda: weighted_knn(X, Y, [[math.nan] * 64], 10), ValueError, "features must be finite; got NaN"),
        (lambda: weighted_knn(X, [0.5] * len(X), X, 10), TypeError, "codes must be whole numbers"),
        (lambda: weighted_knn([[1.0], [math.inf]], [0, 1], [[1.0]], 2, k=[1]), ValueError, "features must be finite"),
    ],
)
def test_neighbours_refuse(call, error, words):
    with pytest.raises(error, match=words):
        call()


# The comparison.


@pytest.fixture(scope="module")
def digits():
    noise = np.random.default_rng(1).normal(size=(len(X), 8))
    sets = {"pixels": (X[TRAIN], X[TEST]), "noise": (noise[TRAIN], torch.from_numpy(noise[TEST]))}
    return ProbeComparison(sets, Y[TRAIN], Y[TEST])


def test_the_comparison_scores_what_the_probes_say(digits):
    found = by_name(digits)
    assert [metric for name, metric in found if name == "noise"] == ["knn20", "knn200", "linear", "top5"]
    logits = probe_features(X[TRAIN], Y[TRAIN], 10).logits(X[TEST])
    assert found["pixels", "linear"].value == pytest.approx(top_k_accuracy_score(Y[TEST], logits.numpy(), k=1))
    assert found["pixels", "top5"].value == pytest.approx(top_k_accuracy_score(Y[TEST], logits.numpy(), k=5))
    said = weighted_knn(X[TRAIN], Y[TRAIN], X[TEST], 10)
    assert found["pixels", "knn200"].value == pytest.approx((said[200].numpy() == Y[TEST]).mean())
    for score in digits.scores:
        assert score.low <= score.value <= score.high
    assert found["noise", "linear"].high < 0.2
    assert digits.differences("pixels", "noise")["linear"].sign == 1
    assert isinstance(digits, Comparison)


def test_it_reads_like_the_comparison_of_tables(digits):
    head, pixels, _, empty, note, guess = digits.summary().splitlines()
    assert re.split(r"  +", head.strip()) == [
        "width", "20-NN accuracy", "200-NN accuracy", "linear accuracy", "linear top-5",
    ]  # fmt: skip
    assert pixels.startswith("pixels     64  .9")
    assert empty == ""
    assert note.startswith("Judged on 597 held-out rows, probes fitted on 1,200 other rows; 10 classes.")
    assert guess.startswith("Always guessing the commonest class: .1")
    said = digits.verdict("noise")
    assert said.startswith("pixels does better: with 8 numbers per row, noise predicts the labels of 597 held-out rows")
    assert "by weighted 20-NN (-." in said
    assert "by the linear probe (-." in said
    row = digits.rows()[0]
    assert list(row) == list(EmbeddingComparison({"a": X[:60]}, Y[:60]).rows()[0])
    assert row["rows"] == 597


def test_noise_alone_beats_no_guess():
    noise = np.random.default_rng(1).normal(size=(len(X), 8))
    sets = {"a": (noise[:300], noise[300:]), "b": (noise[:300, :4], noise[300:, :4])}
    alone = ProbeComparison(sets, Y[:300], Y[300:], epochs=1)
    assert alone.verdict("a").startswith("No representation clearly beats guessing the commonest class")


def test_whole_numbers_are_classes_however_many():
    labels = np.arange(400) % 100
    comparison = ProbeComparison({"h": (np.eye(100)[labels], np.eye(100)[labels[:100]])}, labels, labels[:100] * 1.0)
    assert comparison.classes == 100
    assert by_name(comparison)["h", "linear"].value == 1


def test_few_rows_few_classes_and_classes_that_only_the_test_set_has():
    h = np.repeat([[0.0, 1.0], [1.0, 0.0]], 15, axis=0)
    labels = np.array(["cat"] * 15 + ["dog"] * 15)
    other = np.array(["cat", "dog", "cow", "dog"])
    comparison = ProbeComparison({"h": (h, h[[0, 20, 20, 20]])}, labels, other)
    assert {metric for _, metric in by_name(comparison)} == {"knn20", "linear"}
    assert by_name(comparison)["h", "linear"].value == 0.75
    assert comparison.notes[-1].startswith("1 held-out row of classes that no other row has")


def test_classes_of_both_sets_are_numbered_alike():
    train, test = both_codes(np.array(["b", "a"], object), ["c", "b", "a"], 2, 3)
    assert {train[0], train[1]} == {test[1], test[2]}
    assert (train[0], train[1]) == (test[1], test[2])
    assert test[0] not in train


PAIR = (X[:40], X[40:60])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: ProbeComparison({"h": PAIR}, Y[:40] / 3, Y[40:60]),
            ValueError,
            "train labels must be classes: .*got .* among them. Numbers to predict",
        ),
        (lambda: ProbeComparison({"h": PAIR}, Y[:40], Y[40:60] + 0.5), ValueError, "test labels must be classes"),
        (
            lambda: ProbeComparison({"h": PAIR}, Y[:40], Y[40:60].astype(str)),
            TypeError,
            "test labels must be numbers, as train labels are; got texts",
        ),
        (
            lambda: ProbeComparison({"h": PAIR}, Y[:41], Y[40:60]),
            ValueError,
            "labels must be as many as the representations' 40 rows; got 41",
        ),
        (
            lambda: ProbeComparison({"h": PAIR}, [1] * 40, Y[40:60]),
            ValueError,
            "train labels must have at least two classes; got 1",
        ),
        (
            lambda: ProbeComparison({"h": PAIR}, Y[:40], [1] * 20),
            ValueError,
            "test labels must have at least two classes; got 1",
        ),
        (
            lambda: ProbeComparison({"h": (X[:19], X[40:60])}, Y[:19], Y[40:60]),
            ValueError,
            "training rows must be at least the 20 neighbours asked; got 19",
        ),
        (lambda: ProbeComparison({"h": X}, Y, Y), TypeError, r"representation 'h' must be a pair .*got a ndarray"),
        (lambda: ProbeComparison({1: PAIR}, Y, Y), TypeError, "names of representations must be texts"),
        (
            lambda: ProbeComparison([PAIR], Y, Y),
            TypeError,
            "representations must be a mapping of names to pairs; got a list",
        ),
        (lambda: ProbeComparison({}, Y, Y), ValueError, "representations must hold at least one"),
        (
            lambda: ProbeComparison({"h": (X[:40], X[40:60, 1:])}, Y, Y),
            ValueError,
            "'h' must have one width; got 64 and 63",
        ),
        (
            lambda: ProbeComparison({"h": PAIR, "g": (X[:41], X[40:60])}, Y, Y),
            ValueError,
            "same rows; got 'h': 40 and 20, 'g': 41 and 20",
        ),
        (
            lambda: ProbeComparison({"h": (X[:40, 0], X)}, Y, Y),
            ValueError,
            "train rows of representation 'h' must be a matrix",
        ),
        (lambda: ProbeComparison({"h": PAIR}, Y[:40], Y[40:60], epochs=0), ValueError, "epochs must be at least 1"),
    ],
)
def test_the_comparison_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_arrays_are_taken_however_they_lie_in_memory():
    expected = weighted_knn(X[:60], Y[:60], X[60:90], 10, k=[1])[1]
    fixed = X[:60].copy()
    fixed.flags.writeable = False
    for rows in (fixed, X[:60].astype(">f4"), np.asfortranarray(X[:60]), X[:60][::-1].copy()[::-1]):
        assert torch.equal(weighted_knn(rows, Y[:60], X[60:90], 10, k=[1])[1], expected)

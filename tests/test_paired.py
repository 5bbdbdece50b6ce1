"""Two tables of the same rows: the estimator, canonical axes, retrieval, keys."""

import inspect
import pickle
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_digits, load_linnerud, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn.functional import cosine_similarity

import vicreg
from vicreg import PairedVICReg, PairEmbedder, runs
from vicreg.data import as_frame, as_keys, by_key, in_order, most_alike, name_forms, same_keys
from vicreg.evaluation import retrieval
from vicreg.functional import canonical_axes
from vicreg.training.engine import machine
from vicreg.training.feed import Drawn
from vicreg.training.pair import Zipped, pair_run
from vicreg.training.pair_config import PairConfig
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.training.sides import table_side

SMALL = {"steps": 5, "batch_size": 16, "encoder": (8,), "expander": (8, 8), "random_state": 0}
PAIR = (
    "fit_transform gives the pair of both sides, as scikit-learn's own cross decompositions do, which are listed there"
)


def small(**parameters):
    return PairedVICReg(**{"n_components": 2, **SMALL, **parameters})


@parametrize_with_checks(
    [small()],
    expected_failed_checks=lambda _: {"check_transformer_general": PAIR, "check_transformer_data_not_an_array": PAIR},
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def halves():
    """The upper and lower halves of digits."""
    x, y = load_digits(return_X_y=True)
    return x[:, :32], x[:, 32:], y


def test_defaults_are_those_of_the_configuration():
    given = {name: one.default for name, one in inspect.signature(PairedVICReg).parameters.items()}
    for field in fields(PairConfig):
        if field.name in (
            "n_components",
            "sim_coeff",
            "variance_target",
            "linear_path",
            "dropout",
            "batch_size",
            "decoder",
        ):
            assert given[field.name] == field.default, field.name
        if field.name in ("learning_rate", "weight_decay", "precision", "device", "reconstruction"):
            assert given[field.name] == field.default, field.name
    assert PairConfig().steps_for(10, ("table", "table")) == given["steps"]
    assert (given["std_coeff"],) == PairConfig().std_coeff
    assert (given["cov_coeff"],) == PairConfig().cov_coeff


def test_conventions_are_those_of_cross_decomposition():
    X, y = load_linnerud(return_X_y=True)
    ours, theirs = small(), CCA(2)
    for one in (ours, theirs):
        assert one.fit(X, y) is one
        assert one.transform(X).shape == (20, 2)
        both = one.transform(X, y)
        assert isinstance(both, tuple)
        assert [part.shape for part in both] == [(20, 2), (20, 2)]
        assert isinstance(one.fit_transform(X, y), tuple)
    assert [name.removeprefix("pairedvicreg") for name in ours.get_feature_names_out()] == [
        name.removeprefix("cca") for name in theirs.get_feature_names_out()
    ]
    np.testing.assert_array_equal(ours.transform(X, y)[0], ours.transform(X))
    np.testing.assert_array_equal(ours.transform(X, y)[1], ours.transform(y, side="b"))
    assert ours.set_output(transform="pandas").transform(X).columns[0] == "pairedvicreg0"


def test_a_side_of_one_column_may_have_one_dimension():
    X, y = load_wine(return_X_y=True, as_frame=True)  # y has three levels, and is a number here
    expected = small().fit(X.to_numpy(), y.to_numpy()[:, None]).transform(X.to_numpy())
    assert expected.shape == (178, 1)  # no wider than the narrower side
    for other in (y, y.to_numpy(), y.tolist(), pl.from_pandas(y)):
        np.testing.assert_array_equal(small().fit(X.to_numpy(), other).transform(X.to_numpy()), expected)


def test_the_embedding_is_at_most_as_wide_as_the_narrower_side(halves):
    a, b, _ = halves
    model = small(n_components=16).fit(a, b[:, 1:5])
    assert [part.shape[1] for part in model.transform(a, b[:, 1:5])] == [4, 4]


def test_mixed_tables_on_both_sides():
    rows = 60
    X = pd.DataFrame(
        {"age": np.where(np.arange(rows) % 7 == 0, np.nan, np.arange(rows)), "city": ["A", "B", None] * 20}
    )
    y = pd.DataFrame({"born": pd.date_range("2000-01-01", periods=rows), "member": [True, False] * 30})
    model = small().fit(X, y)
    h_x, h_y = model.transform(X[X.columns[::-1]].iloc[:7], y.iloc[:5])
    assert (len(h_x), len(h_y)) == (7, 5)
    assert np.isfinite(h_x).all()
    assert list(model.feature_names_in_) == ["age", "city"]
    with pytest.raises(ValueError, match="also 'born'"):
        model.transform(X, y.drop(columns="born"))


def test_bad_input_is_told(halves):
    a, b, _ = halves
    with pytest.raises(ValueError, match="X and y must have the same number of rows; got 1797 and 5"):
        small().fit(a, b[:5])
    with pytest.raises(ValueError, match="y must be the other side's table; got None"):
        small().fit(a, None)
    with pytest.raises(ValueError, match="hold finite|infinit"):
        small().fit(a, np.where(b == b.max(), np.inf, b))
    with pytest.raises(NotFittedError):
        small().transform(a)
    model = small().fit(a, b)
    with pytest.raises(ValueError, match="y must have the columns of the fit; got y has 3 features"):
        model.transform(a, b[:, :3])
    with pytest.raises(ValueError, match="X and y must have the same number of rows"):
        model.score(a, b[:5])
    for wrong, said in (
        ({"encoder": "wide"}, "encoder must be the widths of the hidden layers"),
        ({"std_coeff": (1, 2, 3)}, "std_coeff must be one number, or one for each side"),
        ({"std_coeff": -1.0}, "std_coeff must be a finite number of at least 0"),
        ({"n_components": 0}, "n_components must be at least 1"),
        ({"dropout": 1.0}, "dropout must be below 1"),
        ({"aligned": None}, "aligned must be True or False; got None"),
        ({"views": ("identity",)}, "views must be one view or a pair"),
    ):
        with pytest.raises(ValueError, match=said):
            small(**wrong).fit(a, b)


def test_data_of_the_wrong_side_are_known_by_their_columns(halves, tmp_path):
    a, b, _ = halves
    left, right = (
        pd.DataFrame(x[:30, :3], columns=[f"{side}{k}" for k in range(3)]) for side, x in (("l", a), ("r", b))
    )
    model = small().fit(left, right)
    model.save(tmp_path / "pair")
    for one in (model, vicreg.load(tmp_path / "pair")):
        with pytest.raises(ValueError, match="These are the columns of the other side, b."):
            one.transform(right)
        with pytest.raises(ValueError, match="These are the columns of the other side, a."):
            one.transform(left, side="b")


def test_frames_whose_labels_are_in_another_order_are_told():
    draw = np.random.default_rng(0)
    X, y = (pd.DataFrame(draw.normal(size=(30, 3)), columns=list("pqr")) for _ in range(2))
    with pytest.warns(UserWarning, match=r"by their position. To pair them by label: fit\(X, y.loc\[X.index\]\)"):
        small().fit(X, y.sample(frac=1.0, random_state=0))
    for other in (y, y.set_index(np.arange(30, 60)), y.sample(frac=1.0, random_state=0).to_numpy()):
        small().fit(X, other)  # warnings are errors


def test_gaps_are_values_like_others(halves):
    a, b, _ = halves
    a = a.copy()
    a[::5, 3] = np.nan
    h = small().fit(a, b).transform(a)
    assert np.isfinite(h).all()


def test_seeds_clones_and_pickles(halves):
    a, b, _ = halves
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (small(random_state=seed).fit(a, b).transform(a) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    model = clone(small(encoder=((8,), (4, 4)), std_coeff=(25, 10))).fit(a, b)
    assert [len(one.settings["hidden"]) for one in (model.embedder_.a.encoder, model.embedder_.b.encoder)] == [1, 2]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(a), model.transform(a))
    assert {"invariance", "variance_a", "variance_b", "total"} <= set(model.history_)


def test_saved_and_loaded(halves, tmp_path):
    a, b, _ = halves
    model = small().fit(a, b)
    model.save(tmp_path / "pair")
    found = vicreg.load(tmp_path / "pair")
    assert isinstance(found, PairEmbedder)
    assert found.aligned
    np.testing.assert_array_equal(found.transform(b, side="b"), model.transform(b, side="b"))
    np.testing.assert_array_equal(found.transform(a), model.transform(a))
    for one in (found, model):
        np.testing.assert_array_equal(one.transform(a, b)[1], model.transform(b, side="b"))
        with pytest.raises(ValueError, match="side must be one of 'a', 'b'; got 'c'"):
            one.transform(a, side="c")
        with pytest.raises(TypeError, match="y must be the other side's data; got 'b'. Name .* transform.X, side='b'"):
            one.transform(b, "b")
        with pytest.raises(ValueError, match="side must be left out where both sides are given; got 'b'"):
            one.transform(a, b, side="b")
    with pytest.raises(ValueError, match="encoder must be left out for a run on pairs"):
        vicreg.load(tmp_path / "pair", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="be a run on a table; got one on pairs"):
        vicreg.inference.load_as(vicreg.Embedder, tmp_path / "pair")


def test_a_save_that_was_cut_short_is_found_out(halves, tmp_path, monkeypatch):
    a, b, _ = halves
    small().fit(a, b).save(tmp_path)
    other = small(random_state=1).fit(a, b)
    other.embedder_.a.save(tmp_path / "a")
    with pytest.raises(ValueError, match="an encoder of another pair"):
        vicreg.load(tmp_path)
    (tmp_path / runs.ENCODER).unlink()
    with pytest.raises(ValueError, match="hold an encoder"):
        vicreg.load(tmp_path)


def test_the_last_to_be_saved_is_loaded(halves, tmp_path):
    """One table's encoder over a pair's, and the other way round; folders beside it that are called a and b or not."""
    a, b, _ = halves
    one = vicreg.VICReg(n_components=2, steps=2, encoder=(8,), expander=(8, 8), random_state=0).fit(a[:40])
    pair = small().fit(a[:40], b[:40])
    for model, kind in ((pair, PairEmbedder), (one, vicreg.Embedder), (pair, PairEmbedder)):
        model.save(tmp_path)
        found = vicreg.load(tmp_path)
        assert isinstance(found, kind)
        np.testing.assert_array_equal(found.transform(a[:9]), model.transform(a[:9]))


def test_it_starts_at_canonical_correlation_and_does_better(halves):
    a, b, _ = halves
    rows = np.random.default_rng(0).permutation(len(a))
    fit, held = rows[:1200], rows[1200:1500]
    model = PairedVICReg(n_components=8, steps=300, encoder=(64,), random_state=0).fit(a[fit], b[fit])
    theirs = CCA(8).fit(a[fit][:, a[fit].std(0) > 0], b[fit][:, b[fit].std(0) > 0])
    mapped = theirs.transform(a[held][:, a[fit].std(0) > 0], b[held][:, b[fit].std(0) > 0])
    best = max(retrieval(*mapped, depths=(1,), metric=metric).recall[1] for metric in ("euclidean", "cosine"))
    assert model.score(a[held], b[held]) > best
    untrained = pair_run(
        PairConfig(n_components=8, steps=1, device="cpu"),
        table_side(as_frame(a[fit])),
        table_side(as_frame(b[fit])),
        machine("cpu"),
    )
    x, y = (torch.from_numpy(table_side(as_frame(side[fit])).x) for side in (a, b))
    axes = canonical_axes(x.numpy(), y.numpy(), 8, 0.1)
    left, right = untrained.state.model.eval().encoders
    for encoder, rows_, (projection, offset) in ((left, x, axes.left), (right, y, axes.right)):
        with torch.no_grad():
            np.testing.assert_allclose(encoder(rows_), rows_.numpy() @ projection.T + offset, atol=2e-3)


def test_unaligned_sides_keep_more_of_their_own_and_are_not_comparable(halves):
    a, b, _ = halves
    aligned, free = (small(n_components=8, steps=150, aligned=one).fit(a[:1000], b[:1000]) for one in (True, False))
    assert aligned.score(a[1000:1300], b[1000:1300]) > 5 * free.score(a[1000:1300], b[1000:1300])


def test_rows_are_told_from_their_embeddings_where_that_is_asked_for(halves):
    a, b, _ = halves
    for aligned, weight, there in ((True, None, False), (True, 30.0, True), (False, None, True), (False, 0.0, False)):
        model = small(aligned=aligned, reconstruction=weight).fit(a[:200], b[:200])
        assert ("reconstruction" in model.history_) == there
    error = {}
    for weight in (1e-6, 100.0):
        model = small(n_components=8, steps=80, decoder=(32,), reconstruction=weight, learning_rate=3e-3).fit(a, b)
        error[weight] = np.mean(model.history_["reconstruction"][-20:])
    assert error[100.0] < 0.9 * error[1e-6]


def test_canonical_axes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(400, 2))
    a = common @ rng.normal(size=(2, 6)) + rng.normal(size=(400, 6))
    b = common @ rng.normal(size=(2, 4)) + rng.normal(size=(400, 4))
    ours = canonical_axes(a, b, 2)
    theirs = CCA(2, max_iter=5000, tol=1e-12).fit(a, b).transform(a, b)
    mine = a @ ours.left[0].T + ours.left[1], b @ ours.right[0].T + ours.right[1]
    for one, other in zip(mine, theirs, strict=True):
        alike = cosine_similarity(torch.from_numpy(one), torch.from_numpy(other), dim=0)
        np.testing.assert_allclose(alike.abs(), 1, atol=1e-6)
        np.testing.assert_allclose(one.std(0, ddof=1), 1)
    expected = [np.corrcoef(mine[0][:, k], mine[1][:, k])[0, 1] for k in range(2)]
    np.testing.assert_allclose(ours.correlation, expected, atol=1e-10)


def test_canonical_axes_of_more_columns_than_rows_and_of_a_low_rank():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20, 50)), rng.normal(size=(20, 3))
    assert canonical_axes(a, np.hstack((b, b)), 16, ridge=0.1).left[0].shape == (3, 50)
    with pytest.raises(ValueError, match="a and b must have the same number of rows"):
        canonical_axes(a, b[:5], 2)
    shrunk, plain = (canonical_axes(a, b, 1, ridge=ridge).correlation[0] for ridge in (1.0, 0.0))
    assert shrunk < 0.9 < plain == pytest.approx(1)  # by chance alone: 50 columns for 20 rows


def test_retrieval_is_the_slow_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    b += a
    for metric in ("euclidean", "cosine"):
        found = retrieval(a, b, depths=(1, 5), metric=metric)
        ranks = {"a": [], "b": []}
        for way, asked, among in (("a", a, b), ("b", b, a)):
            for i in range(50):
                far = [
                    np.linalg.norm(asked[i] - one)
                    if metric == "euclidean"
                    else -asked[i] @ one / np.linalg.norm(asked[i]) / np.linalg.norm(one)
                    for one in among
                ]
                ranks[way].append(1 + sum(d < far[i] for d in far))
        for k in (1, 5):
            assert found.from_a[k] == pytest.approx(np.mean([rank <= k for rank in ranks["a"]]))
            assert found.from_b[k] == pytest.approx(np.mean([rank <= k for rank in ranks["b"]]))
        assert found.median_rank == np.median(ranks["a"] + ranks["b"])


def test_retrieval_counts_ties_fairly_and_works_in_chunks(monkeypatch):
    monkeypatch.setattr(sys.modules["vicreg.evaluation.retrieval"], "CHUNK_NUMBERS", 40)
    rng = np.random.default_rng(0)
    a = np.repeat(rng.normal(size=(10, 4)), 2, axis=0) + 1e3  # each row twice: half of the time it is the other one
    found = retrieval(a, a, depths=(1, 2))
    assert found.recall == {1: 0.5, 2: 1.0}
    assert found.median_rank == 1.5
    np.testing.assert_array_equal(found.first, np.full(20, 0.5))
    with pytest.raises(ValueError, match="a and b must have the same shape"):
        retrieval(a, a[:, :2])
    with pytest.raises(ValueError, match="finite numbers"):
        retrieval(a * np.nan, a)


def test_how_much_more_often_partners_are_found_first_is_by_resampled_pairs():
    rng = np.random.default_rng(0)
    a, noise = rng.normal(size=(2, 60, 3))
    near, far = retrieval(a, a + 0.3 * noise), retrieval(a, a + 0.6 * noise)
    found = near.over(far)
    assert found.value == pytest.approx(near.recall[1] - far.recall[1])
    paired = np.append(near.first - far.first, [1.0, -1.0])  # with the two made-up rows of Bonett and Price
    drawn = paired[rng.integers(62, size=(4000, 62))].mean(1)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.02)
    assert near.over().value == pytest.approx(near.recall[1] - 1 / 60)
    assert near.over().sign == 1
    assert retrieval(noise, a).over().sign == 0
    with pytest.raises(ValueError, match="the other must be of 60 pairs; got 4"):
        near.over(retrieval(a[:4], a[:4]))


def test_keys():
    named = "'id' on the left", "'id' on the right"
    np.testing.assert_array_equal(by_key(["b", "a"], ["a", "b"], named), [[0, 1], [1, 0]])
    assert as_keys(pd.Series([1, 2]).to_numpy()) == as_keys(np.array(["1", "2"])) == ["1", "2"]
    for gaps in (pd.array([1, None], dtype="Int64"), [1.0, np.nan], [1, pd.NA], pd.Series([1, ""], dtype="object")):
        assert as_keys(gaps) == ["1", None]
    for left, right, said in (
        (["a", "a", "b"], ["a", "b", "c"], "'id' on the left must have every key once; got 1 key more than once .'a'"),
        (["a", None], ["a", "b"], "'id' on the left must have a key in every row; got none in 1 row .row 1, counted"),
        (
            ["a", "b", "c"],
            ["c", "d"],
            "got 2 of 'id' on the left alone .'a', 'b'. and 1 of 'id' on the right alone .'d'.",
        ),
        (["a"], ["b"], "Are these the right keys?"),
    ):
        with pytest.raises(ValueError, match=said):
            by_key(left, right, named)
    with pytest.raises(ValueError, match="two sources must have as many rows; got 3 and 4"):
        in_order(3, 4)
    with pytest.raises(TypeError, match="each key must be text or a whole number; got 0.5"):
        as_keys([0.5])
    for left, right, alike in (
        (["b", "a"], ["b", "a"], "same"),
        ([1, 2], ["2", "1"], "shuffled"),
        (["a", "a"], ["a", "a"], None),
        (["a", None], ["a", None], None),
        (["a", "b"], ["a", "c"], None),
        ([0.5, 1.0], [1.0, 0.5], None),
    ):
        assert same_keys(left, right) == alike, (left, right)
    left, right = most_alike(name_forms(["x/1.png", "x/2.png"]), name_forms(["y/2.wav", "y/1.wav"]))
    assert (left, right) == (["1", "2"], ["2", "1"])


def test_settings_survive_yaml_and_are_checked():
    config = PairConfig(branches=("8", "linear/16"), std_coeff=(25, 10), views=("identity", "noise"), seconds=0.5)
    assert from_mapping(to_mapping(config), PairConfig) == config.check()
    for wrong, said in (
        ({"branches": ("8",)}, "branches must be two, one for each side"),
        ({"views": ("identity",)}, "views must be two, one for each side"),
        ({"cov_coeff": ()}, "cov_coeff must be one number, or one for each side"),
        ({"objective": "vicregl"}, "objective must need no feature maps"),
        ({"batch_size": 4, "accumulate": 3}, "accumulate must be at most 2"),
        ({"max_corrupt": 2.0}, "max_corrupt must be a finite number"),
    ):
        with pytest.raises(ValueError, match=said):
            PairConfig(**wrong).check()


@pytest.mark.parametrize("objective", ["barlow_twins", "simclr", "byol", "vicreg+sigreg"])
def test_relatives_learn_from_pairs(halves, objective):
    sides = [table_side(as_frame(side[:40])) for side in halves[:2]]
    config = PairConfig(n_components=4, objective=objective, steps=2, batch_size=20, aligned=False, device="cpu")
    assert pair_run(config, *sides, machine("cpu")).train().step == 2


def test_sides_of_different_length_and_expanders_of_different_width(halves):
    a, b, _ = halves
    with pytest.raises(ValueError, match="the sides of a pair must have as many rows; got 20 and 30"):
        pair_run(PairConfig(steps=1), table_side(as_frame(a[:20])), table_side(as_frame(b[:30])), machine("cpu"))
    sides = table_side(as_frame(a[:20])), table_side(as_frame(b[:20]))
    config = PairConfig(branches=("8/16", "8/32"), aligned=False, steps=1)
    with pytest.raises(ValueError, match="branches must give embeddings of one width"):
        pair_run(config, *sides, machine("cpu"))
    with pytest.raises(ValueError, match="name no expander where sides are aligned"):
        pair_run(PairConfig(branches=("8/16", "8/16"), steps=1), *sides, machine("cpu"))


def test_zipped_feeds_stay_together():
    class Counting:
        def __init__(self):
            self.closed, self.at = False, 0

        def draw(self, step):
            return Drawn([torch.full((2, 1), float(step))])

        def position(self):
            return {"at": self.at}

        def seek(self, position):
            self.at = position["at"]

        def close(self):
            self.closed = True

    left, right = Counting(), Counting()
    feed = Zipped(left, right)
    assert [view[0].item() for view in feed.draw(7).views] == [7, 7]
    feed.seek({"left": {"at": 3}, "right": {"at": 4}})
    assert feed.position() == {"left": {"at": 3}, "right": {"at": 4}}
    feed.close()
    assert left.closed
    assert right.closed

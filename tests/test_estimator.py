"""The estimator, as scikit-learn's users use it."""

import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import vicreg
from vicreg import Objective, Term, VICReg, runs
from vicreg.evaluation import pca
from vicreg.objectives import vicreg as vicreg_objective
from vicreg.training.config import TableConfig
from vicreg.training.table import joint_embedding

SMALL = {"steps": 5, "batch_size": 16, "encoder": (8,), "expander": (8, 8), "decoder": (8,), "random_state": 0}


def small(**parameters):
    return VICReg(**{"n_components": 2, **SMALL, **parameters})


@pytest.mark.filterwarnings("ignore:partial_fit must take views:UserWarning")
@parametrize_with_checks([small()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:partial_fit must take views:UserWarning")
@parametrize_with_checks([VICReg(random_state=0)])
def test_scikit_learns_own_checks_at_the_defaults(estimator, check):
    check(estimator)


def test_defaults_are_those_of_the_configuration():
    given = {name: one.default for name, one in inspect.signature(VICReg).parameters.items()}
    for field in fields(TableConfig):
        if field.name != "seed":
            assert given[field.name] == field.default, field.name


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True, as_frame=True)


def test_arrays_and_frames_give_the_same_embedding(wine):
    X, _ = wine
    expected = small().fit_transform(X.to_numpy())
    assert expected.shape == (178, 2)
    assert expected.dtype == np.float32
    for other in (X, pl.from_pandas(X)):
        np.testing.assert_array_equal(small().fit_transform(other), expected)


def test_columns_are_found_by_name_in_any_order(wine):
    X, _ = wine
    model = small().fit(X)
    np.testing.assert_array_equal(model.transform(X[X.columns[::-1]]), model.transform(X))


def test_mixed_tables(wine):
    rows = 60
    X = pd.DataFrame(
        {
            "age": np.where(np.arange(rows) % 7 == 0, np.nan, np.arange(rows)),
            "city": ["Bonn", "Lyon", None] * (rows // 3),
            "born": pd.date_range("2000-01-01", periods=rows, freq="37D"),
            "note": [f"row {i} says something of its own, number {i * i}" for i in range(rows)],
            "member": [True, False] * (rows // 2),
        }
    )
    model = small().fit(X)
    new = X.iloc[:3].assign(city=["Oslo", None, "Bonn"], age=[np.nan, 3, 4])
    assert np.isfinite(model.transform(new)).all()
    with pytest.raises(ValueError, match="also 'age'"):
        model.transform(X.drop(columns="age"))
    with pytest.warns(UserWarning, match="'more' as well. They are ignored"):
        model.transform(X.assign(more=1))


def test_a_rows_embedding_does_not_depend_on_the_rows_beside_it(wine):
    X = wine[0].to_numpy()
    model = small().fit(X)
    together = model.transform(X)
    alone = np.concatenate([model.transform(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(alone, together[:20], rtol=1e-5, atol=1e-6)


def test_pipelines_grid_searches_and_clones(wine):
    X, y = wine
    pipeline = make_pipeline(small(), LogisticRegression())
    search = GridSearchCV(pipeline, {"vicreg__n_components": [1, 2], "vicreg__cov_coeff": [0.5, np.float64(1)]}, cv=2)
    search.fit(X, y)
    assert search.best_score_ > 0.3
    assert clone(search.best_estimator_).get_params()["vicreg__steps"] == 5


def test_pickled_embeds_alike_and_learns_on_alike(wine):
    X = wine[0].to_numpy()
    model = small(views="marginal").fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.partial_fit(X).transform(X), model.partial_fit(X).transform(X))


def test_set_output_gives_frames(wine):
    X, _ = wine
    out = small().set_output(transform="pandas").fit_transform(X)
    assert list(out.columns) == ["vicreg0", "vicreg1"]
    assert out.index.equals(X.index)


def test_the_same_random_state_gives_the_same_result_and_leaves_the_global_generators(wine):
    X = wine[0].to_numpy()
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    np_before, before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    one, two = small().fit_transform(X), small().fit_transform(X)
    other, free = small(random_state=7).fit_transform(X), small(random_state=None).fit_transform(X)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, free)
    assert (np_before == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(before, torch.get_rng_state())
    small(random_state=np.random.RandomState(0)).fit(X)
    small(random_state=np.random.default_rng(0)).fit(X)


def test_history_names_the_terms_by_step(wine):
    history = small().fit(wine[0]).history_
    assert {"invariance", "variance_a", "covariance_b", "reconstruction", "total"} <= set(history)
    assert {len(values) for values in history.values()} == {5}


def test_streams(wine):
    X = wine[0].to_numpy()
    with pytest.warns(UserWarning, match="partial_fit must take views without neighbors; got 'neighbors'. It takes"):
        model = small().partial_fit(X[:90])
    model.partial_fit(X[90:])
    assert len(model.history_["total"]) == 6 + 6
    assert np.isfinite(model.transform(X)).all()
    with pytest.raises(ValueError, match="X has 3 features, but VICReg is expecting 13 features"):
        model.partial_fit(X[:, :3])


def test_a_streams_baseline_is_pca_on_all_rows_seen(wine):
    X = wine[0].to_numpy()
    model = small(n_components=5, views="marginal").partial_fit(X[:60])
    for part in (X[60:63], X[63:100], X[100:]):
        model.partial_fit(part)
    seen = model.embedder_.vectorise(X)
    oracle = PCA(5).fit(seen.astype(np.float64))
    np.testing.assert_allclose(model.baseline_.mean, oracle.mean_, atol=1e-12)
    np.testing.assert_allclose(np.abs(model.baseline_.components), np.abs(oracle.components_), atol=1e-9)
    np.testing.assert_allclose(model.baseline_.components, pca(seen, 5).components, atol=1e-9)


def test_a_part_that_fails_leaves_the_estimator_as_it_was(wine):
    X = wine[0].to_numpy()
    model = small(views="marginal").partial_fit(X[:90])
    before, history = model.transform(X), model.history_
    model.set_params(learning_rate=1e30)
    with pytest.raises(ValueError, match=r"training must stay finite; got (NaN|infinity) at step \d+\. Lower"):
        model.partial_fit(X[90:])
    np.testing.assert_array_equal(model.transform(X), before)
    assert model.history_ == history
    assert len(model.evaluate(X[90:], wine[1].to_numpy()[90:]).judged) == 88
    model.set_params(learning_rate=1e-3).partial_fit(X[90:])


def test_a_diverged_fit_is_refused(wine):
    model = small(learning_rate=1e30)
    with pytest.raises(ValueError, match=r"training must stay finite; got (NaN|infinity) at step \d+\. Lower"):
        model.fit(wine[0])
    with pytest.raises(NotFittedError):
        model.transform(wine[0])
    with pytest.raises(NotFittedError):
        model.history_  # noqa: B018


def test_fits_at_the_same_time_are_those_of_one_after_another(wine):
    X = wine[0].to_numpy()
    expected = small().fit_transform(X)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: small().fit_transform(X), range(24)))
    for one in together:
        np.testing.assert_array_equal(one, expected)


def test_evaluate_judges_on_rows_that_the_fit_did_not_see(wine):
    X, y = wine[0].to_numpy(), wine[1].to_numpy()
    model = small().fit(X[::2])
    comparison = model.evaluate(X[1::2], y[1::2])
    assert {score.representation for score in comparison.scores} == {"raw", "pca", "vicreg"}
    assert len(comparison.judged) == 89
    assert "vicreg" in comparison.verdict("vicreg")
    with pytest.warns(UserWarning, match="89 of 178 rows were seen by the fit and are left out"):
        assert len(model.evaluate(X, y).judged) == 89
    with pytest.raises(ValueError, match="X must hold rows that the fit did not see; got 89 that it saw"):
        model.evaluate(X[::2], y[::2])
    with pytest.raises(ValueError, match="y must hold a label for each of the 178 rows of X; got 3"):
        model.evaluate(X, y[:3])


def test_saved_and_loaded_embeds_alike(wine, tmp_path):
    X, _ = wine
    model = small().fit(X)
    model.save(tmp_path / "encoder")
    again = vicreg.load(tmp_path / "encoder")
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    assert {path.name for path in (tmp_path / "encoder").iterdir()} == {"encoder.json", "encoder.safetensors"}
    model.fit(X + 1).save(tmp_path / "encoder")
    np.testing.assert_array_equal(vicreg.load(tmp_path / "encoder").transform(X), model.transform(X))


def test_damaged_encoders_are_named(wine, tmp_path):
    small().fit(wine[0]).save(tmp_path)
    path = tmp_path / "encoder.safetensors"
    whole = path.read_bytes()
    tensors, plain = runs.read_tensors(path)
    for broken in (
        plain | {"settings": plain["settings"] | {"n_features": 12}},
        plain | {"settings": plain["settings"] | {"hiden": [8]}},
        plain | {"encoder": "rm"},
        {name: value for name, value in plain.items() if name != "columns"},
    ):
        runs.write_tensors(path, tensors, broken)
        with pytest.raises(ValueError, match="does not fit"):
            vicreg.load(tmp_path)
    for content, said in ((b"", "damaged"), (whole[: len(whole) // 2], "damaged"), (whole[:-4], "damaged|digest")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            vicreg.load(tmp_path)
    with pytest.raises(ValueError, match="must be the folder of a run; got no such folder"):
        vicreg.load(tmp_path / "nowhere")


def test_ones_own_modules_and_views(wine, tmp_path):
    X = wine[0].to_numpy()
    encoder = nn.Sequential(nn.Linear(13, 4), nn.Tanh())
    before = encoder[0].weight.clone()
    model = small(encoder=encoder, views=lambda batch, generator: batch.x + 0.1, reconstruction=0.0).fit(X)
    assert model.transform(X).shape == (178, 4)
    assert torch.equal(encoder[0].weight, before)
    model.save(tmp_path)
    with pytest.raises(ValueError, match="to be made from a file alone; got one of your own class Sequential. Pass"):
        vicreg.load(tmp_path)
    again = vicreg.load(tmp_path, encoder=encoder).transform(X)
    np.testing.assert_array_equal(again, model.transform(X))
    assert torch.equal(encoder[0].weight, before)
    with pytest.raises(ValueError, match="a description that does not fit"):
        vicreg.load(tmp_path, encoder=nn.Linear(2, 2))


def linear(width):
    return nn.Linear(13, width)


def test_one_module_serves_both_branches_by_a_copy_each(wine):
    encoder = linear(4)
    before = encoder.weight.clone()
    model = small(encoder=encoder, shared=False, steps=3).fit(wine[0])
    a, b = (branch.encoder for branch in model._state.model.branches)
    assert a is not b
    assert a.weight.data_ptr() != b.weight.data_ptr()
    assert not torch.equal(a.weight, b.weight)
    assert torch.equal(encoder.weight, before)


def test_a_pair_of_modules_is_one_for_each_branch(wine):
    pair = (linear(4), nn.Sequential(linear(4), nn.Tanh()))
    kept = small(encoder=pair, shared=False).fit(wine[0])
    assert [type(branch.encoder) for branch in kept._state.model.branches] == [nn.Linear, nn.Sequential]
    unlike = {"encoder": (linear(4), linear(3)), "shared": False}
    assert small(**unlike, reconstruction=0.0).fit_transform(wine[0]).shape == (178, 4)
    for parameters, said in (
        ({"encoder": pair}, "encoder must be one module, or two with shared=False; got 2 modules with shared=True"),
        ({"encoder": (*pair, linear(4)), "shared": False}, "encoder must be one module, or two .*; got 3 modules"),
        (unlike, r"encoder must be modules of one width to share a decoder; got \[4, 3\]. Set reconstruction=0"),
        ({"encoder": (linear(4), 3), "shared": False}, "encoder must be a list of whole numbers"),
        ({"encoder": lambda x: x}, "encoder must be a list of whole numbers"),
        ({"encoder": nn.Unflatten(1, (13, 1))}, r"encoder must map rows \(n, 13\) .*; got \(2, 13, 1\) for 2 rows"),
    ):
        with pytest.raises(ValueError, match=said):
            small(**parameters).fit(wine[0])


def test_a_modules_own_weights_are_where_it_starts(wine):
    encoder = linear(4)
    start = joint_embedding(TableConfig(), np.eye(3, 13, dtype=np.float32), [encoder]).encoder
    assert start is not encoder
    assert torch.equal(start.weight, encoder.weight)


def test_an_objective_may_be_given_as_an_object(wine):
    X = wine[0].to_numpy()
    named = small(reconstruction=0.0).fit(X)
    given = small(objective=vicreg_objective()).fit(X)
    np.testing.assert_array_equal(given.transform(X), named.transform(X))
    own = vicreg_objective() | {"small": Term(0.1, lambda a, b: a.square().mean(), on="h")}
    model = clone(small(objective=own, views="marginal")).fit(X).partial_fit(X)
    assert "small" in model.history_
    assert "reconstruction" not in model.history_
    needy = Objective({"maps": Term(1.0, lambda a, b: a.mean(), on="maps", needs=frozenset({"maps"}))})
    with pytest.raises(ValueError, match=r"objective must need no feature maps on a table; got \['maps'\]"):
        small(objective=needy).fit(X)


def test_views_may_be_a_pair_of_names(wine):
    X = wine[0].to_numpy()
    pair = small(views=("marginal", "marginal")).fit_transform(X)
    np.testing.assert_array_equal(pair, small(views="marginal").fit_transform(X))
    assert not np.array_equal(pair, small(views=["identity", "marginal"]).fit_transform(X))


def test_the_earliest_table_form(wine):
    """The same row to two encoders that share nothing, each a dense layer and a ReLU."""
    X = wine[0].to_numpy()
    form = {"views": "identity", "shared": False, "encoder": (50,), "encoder_norm": False, "linear_path": False,
            "n_components": None, "reconstruction": 0.0, "expander": ()}  # fmt: skip
    model = small(**form).fit(X)
    weights = model.embedder_.encoder.state_dict()
    assert list(weights) == ["hidden.0.weight", "hidden.0.bias"]
    weight, bias = (value.numpy() for value in weights.values())
    x = model.embedder_.vectorise(X)
    np.testing.assert_allclose(model.transform(X), np.maximum(x @ weight.T + bias, 0), rtol=1e-4, atol=1e-5)
    assert small(views="identity", shared=False, encoder=(50,)).fit_transform(X).shape == (178, 2)


def test_more_components_than_columns_and_fewer_rows_than_a_batch():
    X = load_iris().data[:9]
    Z = small(n_components=7, batch_size=256).fit_transform(X)
    assert Z.shape == (9, 7)
    assert np.isfinite(Z).all()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n_components": 0}, "n_components must be at least 1; got 0"),
        ({"n_components": 2.5}, "n_components must be of type int or None; got 2.5"),
        ({"views": "nonsense"}, "views must be one of"),
        ({"objective": "nonsense"}, "objective must be one of .*'vicreg'"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"device": "abacus"}, "device must be auto, cpu, cuda, cuda:N or mps; got 'abacus'"),
        ({"device": "meta"}, "device must be auto, cpu, cuda, cuda:N or mps; got 'meta'"),
        ({"precision": "16-mixed", "device": "cpu"}, "precision must be '32-true' or 'bf16-mixed' on the CPU"),
        ({"view_rate": 2.7, "views": "walk"}, "view_rate must be a whole number of steps"),
        ({"view_rate": 0.5, "views": ("mask", "mask")}, "view_rate must be left out unless views is one name"),
        ({"views": 3}, "views must be a name or callable; got 3"),
        ({"encoder": (0,)}, "each width in encoder must be at least 1; got 0"),
        ({"random_state": 2**63 - 1}, "random_state must lie between 0 and 9223372036854775806"),
        ({"sim_coeff": -1.0}, "sim_coeff"),
        ({"random_state": -3}, "random_state must lie between 0 and"),
    ],
)
def test_wrong_parameters_are_named(wine, parameters, said):
    with pytest.raises((ValueError, TypeError), match=said):
        small(**parameters).fit(wine[0])


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.ones((1, 3)), "at least 2 rows"),
        (np.ones((5, 3)), "columns that vary"),
        (np.full((5, 3), np.nan), "columns that vary"),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), "infinity"),
        (np.array([[[1.0]]]), "two dimensions"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "unique"),
    ],
)
def test_bad_tables_are_named(X, said):
    with pytest.raises(ValueError, match=said):
        small().fit(X)


def test_cells_that_are_lists_are_a_type_error():
    with pytest.raises(TypeError, match="must"):
        small().fit(pd.DataFrame({"a": [[1], [2, 3]], "b": [1, 2]}))


def test_before_fit():
    with pytest.raises(NotFittedError):
        small().transform([[1.0]])

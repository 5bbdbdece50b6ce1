"""The estimator, as scikit-learn's users use it."""

import inspect
import pickle
from dataclasses import fields

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

import vicreg
from vicreg import VICReg
from vicreg.training.config import TableConfig

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
    assert len(model.history_["total"]) == 5 + 5
    assert np.isfinite(model.transform(X)).all()
    with pytest.raises(ValueError, match="X has 3 features, but VICReg is expecting 13 features"):
        model.partial_fit(X[:, :3])


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
    description, tensors = tmp_path / "encoder.json", tmp_path / "encoder.safetensors"
    whole = description.read_text()
    for broken, said in (
        ("", "damaged JSON"),
        (whole[: len(whole) // 2], "damaged JSON"),
        ("[]", "a file without a format"),
        (whole.replace('"n_features": 13', '"n_features": 12'), "does not fit"),
        (whole.replace('"encoder": "mlp"', '"encoder": "rm"'), "does not fit"),
        (whole.replace('"hidden"', '"hiden"'), "does not fit"),
        (whole.replace('"columns"', '"clumns"'), "does not fit"),
    ):
        description.write_text(broken)
        with pytest.raises(ValueError, match=said):
            vicreg.load(tmp_path)
    description.write_text(whole)
    tensors.write_bytes(tensors.read_bytes()[:-4])
    with pytest.raises(ValueError, match="content of another digest"):
        vicreg.load(tmp_path)
    with pytest.raises(ValueError, match="must be the folder of a run; got no such folder"):
        vicreg.load(tmp_path / "nowhere")


def test_ones_own_modules_and_views(wine):
    X = wine[0].to_numpy()
    encoder = nn.Sequential(nn.Linear(13, 4), nn.Tanh())
    before = encoder[0].weight.clone()
    model = small(encoder=encoder, views=lambda batch, generator: batch.x + 0.1, reconstruction=0.0).fit(X)
    assert model.transform(X).shape == (178, 4)
    assert torch.equal(encoder[0].weight, before)
    with pytest.raises(ValueError, match="encoder must be one of vicreg's own to be saved; got Sequential"):
        model.save("nowhere")


def test_the_earliest_table_form(wine):
    """The same row to two encoders that share nothing, each a dense layer and a ReLU."""
    X = wine[0].to_numpy()
    form = {"views": "identity", "shared": False, "encoder": (50,), "linear_path": False, "reconstruction": 0.0}
    model = small(n_components=None, **{**form, "expander": ()}).fit(X)
    Z = model.transform(X)
    assert Z.shape == (178, 50)
    assert (Z >= 0).all()
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
        ({"objective": "nonsense"}, "objective must be one of 'vicreg'"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"device": "abacus"}, "device must be auto or a device of this machine"),
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

"""Scores: what each says of representations of which it is known what is in them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer, r2_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from vicreg.training.config import TableConfig
from vicreg.tuning.scores import LABEL_FREE, MIXTURE, SCORES, WITH_LABELS, score_of
from vicreg.tuning.tables import TableMaterial
from vicreg.tuning.tried import AnotherFit, Tried

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(300, 6))
CLASSES = (ROWS[:, 0] > 0).astype(int) + (ROWS[:, 1] > 0)


def judged(name: Any, h: np.ndarray, raw: np.ndarray = ROWS, y: np.ndarray = CLASSES, **more: Any) -> float:
    """A score of a representation (n, k) of these rows, of which the first 200 were learnt from."""
    trained = SimpleNamespace(learnt=h[:200], held=h[200:], raw=raw[200:], embedding=torch.from_numpy(h[200:]), **more)
    task = "classification" if y.dtype.kind == "i" else "regression"
    columns = (raw[:200], raw[200:], np.arange(raw.shape[1]))
    material = SimpleNamespace(labels=(y[:200], y[200:]), task=task, inputs=columns, columns=columns)
    tried = Tried(material, None)
    tried.__dict__.update(main=trained, other_seed=more.get("other", trained), without_columns=trained)
    return score_of(name, labelled=True)[1](tried)


def test_ranks_count_the_directions_that_are_there():
    two = ROWS[:, :2] @ DRAW.normal(size=(2, 6))
    for name in ("rankme", "rankme-embedding"):
        assert judged(name, ROWS) == pytest.approx(6, abs=0.2)
        assert 1 < judged(name, two) <= 2.001
    assert judged("rankme", ROWS) == pytest.approx(judged("rankme", 100 * ROWS), rel=1e-4)


def test_lidar_does_not_count_directions_in_which_views_scatter():
    def views(noise: np.ndarray) -> Any:
        return lambda count: [ROWS[200:] + noise * DRAW.normal(size=(100, 6)) for _ in range(count)]

    every = judged("lidar", ROWS, views=views(np.full(6, 0.1)))
    some = judged("lidar", ROWS, views=views(np.array([0.1] * 2 + [5.0] * 4)))
    assert every > 5.5
    assert some == pytest.approx(2, abs=0.4)


def test_alpha_req_is_best_at_a_decay_of_one():
    white = np.linalg.qr(DRAW.normal(size=(300, 40)))[0]
    white = white - white.mean(0)
    decays = {alpha: judged("alpha-req", white * np.arange(1, 41) ** (-alpha / 2)) for alpha in (0.2, 1.0, 3.0)}
    assert max(decays, key=decays.__getitem__) == 1.0
    assert decays[1.0] == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("name", ["trustworthiness", "neighbors"])
def test_neighbors_are_kept_by_a_rotation_and_lost_by_noise(name):
    turned = ROWS @ np.linalg.qr(DRAW.normal(size=(6, 6)))[0]
    assert judged(name, turned) == pytest.approx(1)
    assert judged(name, DRAW.normal(size=(300, 6))) < 0.6


def test_stability_is_that_of_another_seed():
    same = SimpleNamespace(held=2 * ROWS[200:, ::-1])
    assert judged("stability", ROWS, other=same) == pytest.approx(1)
    assert judged("stability", ROWS, other=SimpleNamespace(held=DRAW.normal(size=(100, 6)))) < 0.2


@pytest.mark.parametrize("name", ["columns", "own-columns"])
def test_columns_are_told_as_far_as_the_representation_holds_them(name):
    assert judged(name, ROWS) > 0.8
    assert judged(name, DRAW.normal(size=(300, 6))) < 0.02
    half = judged(name, ROWS[:, :3])
    linear = 1.0
    near = KNeighborsRegressor(5).fit(scaled(ROWS[:, :3])[:200], ROWS[:200, :3]).predict(scaled(ROWS[:, :3])[200:])
    near = 1 - ((near - ROWS[200:, :3]) ** 2).sum(0) / ((ROWS[200:, :3] - ROWS[:200, :3].mean(0)) ** 2).sum(0)
    assert half == pytest.approx((linear + near.mean()) / 2 / 2, abs=0.03)


def scaled(h: np.ndarray) -> np.ndarray:
    return StandardScaler().fit(h[:200]).transform(h)


def test_the_mixture_is_the_smallest_gain_over_the_default():
    def found(h: np.ndarray, first: dict[str, float]) -> tuple[float, dict[str, float]]:
        noted: dict[str, float] = {}
        trained = SimpleNamespace(learnt=h[:200], held=h[200:], embedding=torch.from_numpy(h[200:]))
        columns = (ROWS[:200], ROWS[200:], np.arange(6))
        tried = Tried(SimpleNamespace(columns=columns), None, first=first, note=noted.__setitem__)
        tried.__dict__.update(main=trained, without_columns=trained)
        return SCORES["mixture"](tried), noted

    value, first = found(ROWS[:, :3], {})
    assert value == 0
    assert first == {name: pytest.approx(judged(name, ROWS[:, :3])) for name in MIXTURE}
    value, more = found(ROWS, first)
    assert value == pytest.approx(min((more[name] - first[name]) / MIXTURE[name] for name in MIXTURE))
    assert 0 < value < max((more[name] - first[name]) / MIXTURE[name] for name in MIXTURE)


def test_labelled_scores_are_scikit_learns():
    assert judged("knn", ROWS) == KNeighborsClassifier(5).fit(ROWS[:200], CLASSES[:200]).score(
        ROWS[200:], CLASSES[200:]
    )
    assert judged("silhouette", ROWS) == pytest.approx(silhouette_score(ROWS[200:], CLASSES[200:]))
    probe = LogisticRegression().fit(scaled(ROWS)[:200], CLASSES[:200])
    assert judged("linear", ROWS) == pytest.approx(probe.score(scaled(ROWS)[200:], CLASSES[200:]), abs=0.03)
    y = ROWS[:, 0] + 0.1 * ROWS[:, 1] ** 2
    said = KNeighborsRegressor(5).fit(ROWS[:200], y[:200]).predict(ROWS[200:])
    assert judged("knn", ROWS, y=y) == pytest.approx(r2_score(y[200:], said))


def test_scorers_of_scikit_learn_and_functions_get_probe_rows_and_labels():
    probe = LogisticRegression(max_iter=300).fit(scaled(ROWS)[:200], CLASSES[:200])
    expected = f1_score(CLASSES[200:], probe.predict(scaled(ROWS)[200:]), average="macro")
    assert judged("f1_macro", ROWS) == pytest.approx(expected)
    assert judged(make_scorer(f1_score, average="macro"), ROWS) == pytest.approx(expected)
    _, score = score_of(lambda probe, h, y: float(probe is None and y is None and len(h)), labelled=False)
    tried = Tried(None, None)
    tried.__dict__["main"] = SimpleNamespace(held=ROWS)
    assert score(tried) == 300.0


def test_scores_by_names_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"score must be one of .* scikit-learn's; got 'rankm'. Did you mean 'rankme'"):
        score_of("rankm", labelled=True)
    for name in ("linear", "accuracy"):
        with pytest.raises(ValueError, match="score must need no labels where none are named; got"):
            score_of(name, labelled=False)
    with pytest.raises(TypeError, match="score must be a name or a function; got 7"):
        score_of(7, labelled=True)
    assert not set(LABEL_FREE) & set(WITH_LABELS)


def test_fits_happen_when_they_are_asked_for_and_once():
    fits = []

    class Counted(TableMaterial):
        def fit(self, config: Any, watch: Any = None, *, without_columns: bool = False) -> Any:
            fits.append((config.seed, without_columns))
            return super().fit(config, without_columns=without_columns)

    base = TableConfig(n_components=2, steps=2, device="cpu")
    x = ROWS.astype(np.float32)
    material = Counted(x[:200], x[200:], np.arange(6), base)
    tried = Tried(material, base)
    SCORES["columns"](tried)
    assert fits == [(0, True)]
    for name in LABEL_FREE:
        SCORES[name](tried)
    assert sorted(fits) == [(0, False), (0, True), (1, False)]
    with pytest.raises(AnotherFit):
        SCORES["stability"](Tried(material, base).at("main", tried.main))


def test_columns_that_are_kept_out_are_not_seen_and_are_the_same_for_all():
    x = ROWS.astype(np.float32)
    base = TableConfig(n_components=2, steps=2, device="cpu")
    material = TableMaterial(x[:200], x[200:], np.arange(6), base)
    hidden = material.hidden
    assert len(hidden) == 2
    assert np.array_equal(hidden, TableMaterial(x[:200], x[200:], np.arange(6), base).hidden)
    changed = x.copy()
    changed[:, hidden] = 7 * x[::-1, hidden]
    other = TableMaterial(changed[:200], changed[200:], np.arange(6), base)
    pair = [one.fit(base, without_columns=True).held for one in (material, other)]
    assert np.array_equal(*pair)
    one = TableMaterial(x[:200, :1], x[200:, :1], np.arange(1), base)
    with pytest.raises(ValueError, match="the score by held-out columns must have two columns that vary; got 1"):
        SCORES["columns"](Tried(one, base))


def test_a_score_by_labels_without_labels_is_refused():
    x = ROWS.astype(np.float32)
    base = TableConfig(n_components=2, steps=2, device="cpu")
    with pytest.raises(ValueError, match="a score by labels must have labels; got none"):
        SCORES["knn"](Tried(TableMaterial(x[:200], x[200:], np.arange(6), base), base))

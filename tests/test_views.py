"""Views of tables: what each may change, and where it takes it from."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from vicreg.views import (
    VIEWS,
    Custom,
    Identity,
    Marginal,
    Neighbors,
    Noise,
    Table,
    Walk,
    distinct_neighbors,
    neighbors,
    table_views,
)


def make_table(n=50, k=5):
    """Three source columns: one feature, three indicators of one level, two features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=generator)
    x[:, 1:4] = torch.eye(3)[torch.randint(3, (n,), generator=generator)]
    near = torch.from_numpy(distinct_neighbors(x.numpy(), k))
    return Table(x, torch.tensor([0, 1, 1, 1, 2, 2]), near)


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_contract(name):
    """Right shape and type, finite, the same from the same generator, inputs untouched, picklable."""
    table = make_table()
    before = table.x.clone()
    for view in pickle.loads(pickle.dumps(table_views(name))):
        batch = table.batch(torch.arange(20))
        seeds = [torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)]
        one, two = (view(batch, seed) for seed in seeds)
        assert one.shape == batch.x.shape
        assert one.dtype == batch.x.dtype
        assert one.isfinite().all()
        assert torch.equal(one, two)
    assert torch.equal(table.x, before)


def test_global_generator_is_not_used():
    table, before = make_table(), torch.get_rng_state()
    for name in VIEWS:
        for view in table_views(name):
            view(table.batch(torch.arange(9)), torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["neighbors", "marginal"])
def test_swapped_cells_are_whole_source_columns_of_rows_of_the_table(name):
    table = make_table()
    view = table_views(name, 0.5)[0](table.batch(torch.arange(50)), torch.Generator().manual_seed(1))
    for features in ([0], [1, 2, 3], [4, 5]):
        known = {tuple(row) for row in table.x[:, features].tolist()}
        assert all(tuple(row) in known for row in view[:, features].tolist())


def test_neighbors_take_cells_from_one_neighbor_only():
    table = make_table()
    rows = torch.arange(50)
    view = Neighbors(rate=1.0, n_neighbors=5)(table.batch(rows), torch.Generator().manual_seed(1))
    for row, seen in zip(rows.tolist(), view, strict=True):
        assert any(torch.equal(seen, table.x[near]) for near in table.neighbors[row].tolist())


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)])
def test_rate_is_the_share_of_cells_replaced(rate, expected):
    x = torch.arange(4000 * 5, dtype=torch.float32).view(4000, 5) + 1
    table = Table(x, torch.arange(5))
    masked = table_views("mask", rate)[0](table.batch(torch.arange(4000)), torch.Generator().manual_seed(0))
    assert float((masked == 0).float().mean()) == pytest.approx(expected, abs=0.02)


def test_marginal_draws_each_column_from_its_own_row():
    x = torch.arange(300.0)[:, None].expand(300, 4).contiguous()
    view = Marginal(1.0)(Table(x, torch.arange(4)).batch(torch.arange(300)), torch.Generator().manual_seed(0))
    assert (view != view[:, :1]).any()


def test_walk_of_two_steps_ends_two_steps_away():
    near = torch.tensor([[1], [2], [3], [0]])
    table = Table(torch.arange(4.0)[:, None], torch.zeros(1, dtype=torch.long), near)
    end = Walk(length=2, n_neighbors=1)(table.batch(torch.arange(4)), torch.Generator())
    assert end.flatten().tolist() == [2, 3, 0, 1]


def test_noise_has_the_deviation_asked_for():
    table = Table(torch.zeros(5000, 2), torch.arange(2))
    noise = Noise(0.3)(table.batch(torch.arange(5000)), torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)


def test_a_function_is_a_view():
    a, b = table_views(lambda batch, generator: batch.x + 1)
    table = make_table()
    assert torch.equal(a(table.batch(torch.arange(3)), torch.Generator()), table.x[:3] + 1)
    assert isinstance(b, Custom)


def test_names_may_stand_in_pairs():
    assert table_views(("identity", "walk")) == (Identity(), Walk())
    assert table_views(["walk", Noise(0.1)]) == (Walk(), Noise(0.1))


def test_a_walks_strength_is_a_whole_number_of_steps():
    assert table_views("walk", 2.0) == (Identity(), Walk(2))
    with pytest.raises(ValueError, match="view_rate must be a whole number of steps for views='walk'; got 2.7"):
        table_views("walk", 2.7)


@pytest.mark.parametrize(
    ("views", "said"),
    [
        ("identity", "view_rate must be left out for views='identity'; got 0.5"),
        (Noise(), "view_rate must be left out unless views is one name; got 0.5. Give views their strength"),
        (lambda batch, generator: batch.x, "view_rate must be left out unless views is one name"),
        (("mask", "noise"), "view_rate must be left out unless views is one name"),
    ],
)
def test_a_strength_without_meaning_is_refused(views, said):
    with pytest.raises(ValueError, match=said):
        table_views(views, 0.5)


def test_messages():
    table = Table(torch.zeros(4, 2), torch.arange(2))
    with pytest.raises(ValueError, match="views must be one of 'identity', .*; got 'nonsense'"):
        table_views("nonsense")
    with pytest.raises(TypeError, match="views must be a name or callable; got 3"):
        table_views(3)
    with pytest.raises(ValueError, match="views must be one view or a pair; got 3 of them"):
        table_views((Noise(), Noise(), Noise()))
    with pytest.raises(ValueError, match="view_rate must be a finite number of at least 0 and at most 1; got 2.0"):
        table_views("marginal", 2)
    with pytest.raises(ValueError, match="table must carry neighbors"):
        Neighbors()(table.batch(torch.arange(2)), torch.Generator())
    with pytest.raises(ValueError, match=r"a view must return a tensor of shape \(2, 2\); got \(1, 2\)"):
        Custom(lambda batch, generator: batch.x[:1])(table.batch(torch.arange(2)), torch.Generator())


@given(st.integers(2, 40), st.integers(1, 4), st.integers(1, 12), st.integers(0, 99))
def test_neighbors_are_the_nearest_distinct_rows(n, p, k, seed):
    """Against all pairwise distances; coarse values make many twins."""
    x = np.random.default_rng(seed).integers(0, 3, (n, p)).astype(np.float32)
    if len(np.unique(x, axis=0)) < 2:
        with pytest.raises(ValueError, match="X must hold at least two distinct rows"):
            distinct_neighbors(x, k)
        return
    near = distinct_neighbors(x, k)
    for row in range(n):
        others = np.unique(x[(x != x[row]).any(1)], axis=0)
        found = x[near[row]]
        assert len(np.unique(found, axis=0)) == len(found) == min(k, len(others))
        expected = np.sort(cdist(x[row : row + 1], others)[0])[: len(found)]
        np.testing.assert_allclose(np.linalg.norm(found - x[row], axis=1), expected, rtol=1e-5)


def test_the_large_search_finds_nearly_what_the_exact_one_finds(monkeypatch):
    pytest.importorskip("faiss")
    x = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)
    x[1] = x[0]
    exact = distinct_neighbors(x, 5)
    monkeypatch.setattr(neighbors, "EXACT_UP_TO", 100)
    fast = distinct_neighbors(x, 5)
    assert (fast != np.arange(4000)[:, None]).all()
    assert np.mean([len(set(a) & set(b)) / 5 for a, b in zip(exact, fast, strict=True)]) > 0.9


def test_a_large_table_without_faiss_says_what_to_install(monkeypatch):
    monkeypatch.setattr(neighbors, "EXACT_UP_TO", 2)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ImportError, match="faiss-cpu must be installed"):
        distinct_neighbors(np.arange(5, dtype=np.float32)[:, None], 1)


@given(st.integers(2, 30), st.integers(1, 5))
def test_what_was_not_found_is_never_the_row_itself(n, k):
    found = np.random.default_rng(n * 7 + k).integers(-1, n, (n, k + 1))
    near = neighbors._without_self(found, k)
    assert near.shape == (n, k)
    assert ((near >= 0) & (near != np.arange(n)[:, None])).all()

"""What the report shows, as pure functions: against NumPy, SciPy and slow definitions."""

import io
import json
import sys
import wave

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.spatial.distance import cdist

from vicreg import runs
from vicreg.functional import covariance, noise_floor, rankme, standard_deviation
from vicreg.portrait import (
    Portrait,
    as_colour,
    common_plane,
    cross_correlation,
    nearest,
    plane,
    quick_readings,
    retrieval_examples,
    snapshot,
    sound_clip,
    thumbnail,
    umap_plane,
    write_facts,
    write_influence,
    write_looks,
    write_map,
    write_media,
    write_neighbors,
    write_snapshots,
)

HOSTILE = ["<script>alert(1)</script>", 'a,b\n"c"', "</textarea>", "\u202e", "日本", ""]


@pytest.mark.parametrize(("n", "d"), [(50, 7), (20, 60), (2, 1), (300, 130)])
def test_a_snapshot_is_what_numpy_says(n, d):
    z = torch.from_numpy(np.random.default_rng(0).normal(size=(n, d)) * np.arange(1, d + 1)).float() + 3
    found = snapshot(z)
    whole = np.atleast_2d(np.cov(z.double().numpy(), rowvar=False))
    eigenvalues = np.sort(np.linalg.eigvalsh(whole))[::-1]
    np.testing.assert_allclose(found["eigenvalues"], eigenvalues, atol=1e-4 * eigenvalues[0])
    m = min(d, 128)
    np.testing.assert_allclose(found["covariance"], whole[:m, :m], atol=1e-4 * eigenvalues[0])
    np.testing.assert_allclose(found["deviation"], z.double().numpy().std(0, ddof=1), rtol=1e-4)
    assert found["histograms"].shape == (min(d, 64), 40)
    assert (found["histograms"].sum(1) == n).all()
    inner = z[:, :64].numpy()
    edges = found["edges"].numpy()
    for k in (0, min(d, 64) - 1):
        clipped = np.clip(inner[:, k], edges[0], edges[-1])
        expected = np.histogram(clipped, edges)[0]
        assert np.abs(found["histograms"][k].numpy() - expected).sum() <= 2  # one value may lie on an edge


def test_a_snapshot_takes_rows_of_large_batches_and_places_of_local_features():
    z = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    assert snapshot(z)["histograms"].sum(1).tolist() == [1667] * 3  # every third
    local = z[:4000].reshape(100, 40, 3)
    np.testing.assert_array_equal(snapshot(local)["eigenvalues"], snapshot(z[:4000])["eigenvalues"])
    assert snapshot(torch.full((4, 3), torch.nan)) == {}
    flat = snapshot(torch.zeros(9, 2))
    assert flat["eigenvalues"].tolist() == [0, 0]
    assert flat["histograms"].sum() == 18


@pytest.mark.parametrize(("n", "d"), [(60, 5), (40, 90), (128, 200)])
def test_quick_readings_are_those_of_functional(n, d):
    z = torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.arange(1.0, d + 1)
    deviation = standard_deviation(z)
    expected = [deviation.mean(), rankme(z), covariance(z), noise_floor(deviation**2, n)]
    torch.testing.assert_close(quick_readings(z), torch.stack(expected))


def test_quick_readings_of_what_is_broken_or_flat():
    assert quick_readings(torch.tensor([[1.0], [torch.inf]])).isnan().all()
    assert quick_readings(torch.ones(5, 3)).tolist() == [0, 0, 0, 0]
    wide = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    assert float(quick_readings(wide)[1]) == pytest.approx(float(rankme(wide[::3])), rel=1e-3)


def test_a_plane_is_that_of_the_singular_vectors():
    x = np.random.default_rng(0).normal(size=(80, 6)) @ np.diag([9, 5, 3, 1, 1, 1]) + 7
    found = plane(x)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    for k in range(2):
        own, theirs = found.xy[:, k], u[:, k] * s[k]
        np.testing.assert_allclose(own * np.sign(own @ theirs), theirs, atol=1e-4)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:2], rtol=1e-6)


def test_two_dimensions_are_themselves_and_fewer_are_filled_up():
    x = np.array([[5.0, 1.0], [2.0, 8.0]])
    np.testing.assert_array_equal(plane(x).xy, x)
    np.testing.assert_array_equal(plane(x[:, :1]).xy, [[5, 0], [2, 0]])
    assert plane(x[:, :1]).explained == (1.0, 0.0)
    assert plane(np.ones((4, 9))).xy.tolist() == [[0, 0]] * 4
    assert plane(np.ones((1, 3))).explained == (0.0, 0.0)


def test_axes_of_many_rows_are_of_a_part_and_all_are_shown(monkeypatch):
    monkeypatch.setattr(sys.modules["vicreg.portrait.plane"], "MOST_WORK", 4000)
    x = np.random.default_rng(0).normal(size=(400, 4)) * [9, 3, 1, 1]
    found = plane(x)
    assert found.xy.shape == (400, 2)
    assert found.explained[0] == pytest.approx(81 / 92, abs=0.05)


def test_sides_share_a_plane():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    left, right = common_plane(a, b, aligned=True)
    both = plane(np.concatenate((a, b))).xy
    np.testing.assert_array_equal(np.concatenate((left.xy, right.xy)), both)
    with pytest.raises(ValueError, match=r"aligned sides must have the same shape; got \(30, 4\) and \(30, 3\)"):
        common_plane(a, b[:, :3], aligned=True)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    wide = np.pad(a * [9, 5, 1, 1], ((0, 0), (0, 1)))
    left, right = common_plane(wide, 4 * wide @ turn, aligned=False)
    np.testing.assert_allclose(left.xy, right.xy, atol=1e-5)
    assert common_plane(np.ones((3, 2)), np.ones((3, 5)), aligned=False)[1].xy.tolist() == [[0, 0]] * 3


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(-3, 3).map(float)))
def test_neighbors_are_those_of_brute_force(x):
    found = nearest(x, k=5)
    distance = cdist(x, x, "sqeuclidean")
    np.fill_diagonal(distance, np.inf)
    k = min(5, len(x) - 1)
    assert (found[:, k:] == -1).all()
    for row, own in enumerate(found[:, :k]):
        assert len({*own.tolist(), row}) == k + 1
        np.testing.assert_array_equal(distance[row, own], np.sort(distance[row])[:k])


def test_neighbors_far_from_the_origin_and_in_blocks(monkeypatch):
    x = (np.random.default_rng(0).normal(size=(300, 3)) + 1000).astype(np.float32)
    expected = np.argsort(cdist(x, x) + np.diag([np.inf] * 300), axis=1)[:, :10]
    np.testing.assert_array_equal(nearest(x), expected)
    monkeypatch.setattr(sys.modules["vicreg.portrait.nearest"], "ENTRIES_AT_ONCE", {"cpu": 1000})
    np.testing.assert_array_equal(nearest(x), expected)


def test_a_thumbnail_is_small_and_keeps_its_shape():
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, 100:] = 255
    with Image.open(io.BytesIO(thumbnail(pixels))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 16))
        assert image.getpixel((5, 8))[0] < 40 < 200 < image.getpixel((60, 8))[0]


@pytest.mark.parametrize("rate", [8000, 44100, 4000, 16000.5])
def test_a_clip_plays_the_same_tone(rate):
    seconds = np.arange(int(3 * rate)) / rate
    samples = 0.01 * np.stack([np.sin(2 * np.pi * 440 * seconds)] * 2).astype(np.float32)
    with wave.open(io.BytesIO(sound_clip(samples, rate))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 1, 8000)
        heard = np.frombuffer(file.readframes(file.getnframes()), np.uint8).astype(float) - 128
    assert len(heard) == pytest.approx(16000, abs=2)
    assert np.abs(heard).max() > 120  # as loud as can be
    assert np.abs(np.fft.rfft(heard)).argmax() / len(heard) * 8000 == pytest.approx(440, abs=1)


def test_a_clip_of_nothing_is_silent():
    assert set(sound_clip(np.zeros((1, 30), np.float32), 8000)[44:]) == {128}
    assert len(sound_clip(np.zeros((1, 0), np.float32), 4000)) == 44


def test_colours_are_numbers_or_short_text():
    assert as_colour(np.array([True, False])).to_pylist() == ["True", "False"]
    assert as_colour(np.array([1, "x", None, 2.5, float("nan")], object)).to_pylist() == ["1", "x", None, "2.5", None]
    assert as_colour(np.array([0.5, 2.0, np.inf]), as_text=True).to_pylist() == ["0.5", "2", None]
    assert as_colour(["a" * 100]).to_pylist() == ["a" * 59 + "…"]
    assert as_colour([b"\xff", b"ok"]).to_pylist() == ["\\xff", "ok"]


def test_examples_are_found_by_looking_at_every_distance():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 3))
    b = a + 0.5 * rng.normal(size=(60, 3))
    found = retrieval_examples(a, b)
    distance = {"a": cdist(a, b), "b": cdist(b, a)}
    assert [one["rank"] == 1 for one in found] == [True] * 12 + [False] * 12
    assert [one["query_side"] for one in found] == (["a"] * 6 + ["b"] * 6) * 2
    for one in found:
        row = distance[one["query_side"]][one["query"]]
        assert one["found"] == np.argsort(row)[:5].tolist()
        assert one["rank"] == 1 + (row < row[one["query"]]).sum()
    assert retrieval_examples(a, b) == found
    assert len(retrieval_examples(a[:2], a[:2])) == 4  # all right
    with pytest.raises(ValueError, match="a and b must have the same shape"):
        retrieval_examples(a, b[:, :2])


def test_cross_correlation_is_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 4)), rng.normal(size=(50, 200))
    expected = np.corrcoef(a, b[:, :128], rowvar=False)[:4, 4:]
    np.testing.assert_allclose(cross_correlation(a, b), expected, atol=1e-6)
    assert cross_correlation(np.full((5, 1), 1e9), b[:5]).tolist() == [[0.0] * 128]


def test_files_hold_what_was_written(tmp_path):
    portrait = Portrait(tmp_path)
    z = torch.randn(9, 3)
    write_snapshots(portrait.start, 1, {"representation": snapshot(z), "broken": {}}, 9)
    tensors, plain = runs.read_tensors(portrait.start)
    assert plain == {"step": 1, "parts": ["representation"], "rows": 9}
    assert set(tensors) == {
        f"representation/{name}" for name in ("eigenvalues", "covariance", "deviation", "edges", "histograms")
    }
    write_looks(portrait.looks, [{"step": 1, "a": 0.5}, {"step": 2, "b": 1.5}])
    assert portrait.looks.read_text().split() == ["step,a,b", "1,0.5,", "2,,1.5"]
    colours = {name: as_colour(HOSTILE) for name in HOSTILE}
    rows, xy = np.arange(6), np.ones((6, 2), np.float32)
    items = [*HOSTILE[:5], "\udcff.png"]  # a name of a file that is no text
    write_map(portrait.map, items, rows, rows > 3, {"pca": xy}, colours, {"total": 6})
    table = pq.read_table(portrait.map)
    assert table.column_names == ["item", "row", "held_out", "pca_x", "pca_y", *(f"colour {one}" for one in HOSTILE)]
    assert table["item"].to_pylist() == [*HOSTILE[:5], "\\udcff.png"]
    assert table[f"colour {HOSTILE[0]}"].to_pylist() == HOSTILE
    assert json.loads(table.schema.metadata[b"vicreg"]) == {"total": 6}
    write_neighbors(portrait.neighbors, (nearest(xy), nearest(xy)))
    assert runs.read_array(portrait.neighbors).shape == (2, 6, 10)
    write_media(portrait.media, [(3, "image/jpeg", b"x")], ["a"])
    assert pq.read_table(portrait.media).to_pylist() == [
        {"position": 3, "mime": "image/jpeg", "content": b"x", "side": "a"}
    ]
    write_influence(portrait.influence, HOSTILE, np.ones(6), np.zeros(6), np.ones((6, 1)))
    assert runs.read(portrait.influence).decode().count("<script>") == 1
    write_facts(portrait.facts, {"words": ["\udcff"], "command": "vicreg fit 😀", "n": 3})
    assert runs.read_json(portrait.facts) == {"words": ["\\udcff"], "command": "vicreg fit 😀", "n": 3}


def test_without_umap_there_is_no_umap():
    assert umap_plane(np.zeros((60, 3))) is None  # tests hide it
    assert umap_plane(np.zeros((6, 3))) is None


@pytest.mark.slow
def test_umap_where_it_is_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "umap")
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(40, 5)), rng.normal(size=(40, 5)) + 20])
    found = umap_plane(x)
    between = np.linalg.norm(found[:40].mean(0) - found[40:].mean(0))
    assert between > 2 * found[:40].std()
    np.testing.assert_array_equal(umap_plane(x), found)


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 5))
def test_planes_of_any_shape_are_finite(n, p):
    x = np.random.default_rng(n).normal(size=(n, p))
    assert np.isfinite(plane(x).xy).all()
    assert 0 <= sum(plane(x).explained) <= 1 + 1e-9

"""Collections of pictures: folders, Parquet, arrays; their labels, their bad entries, and crops out of them."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from test_data_image_decode import encoded, photo

from vicreg.data import parts
from vicreg.data.corrupt import Corrupt, CorruptImage, readable
from vicreg.data.image import fingerprint_images, read_images
from vicreg.data.image_source import crops_of, decoded
from vicreg.data.kinds import kind_of


def fill(folder, names, kind="PNG"):
    for seed, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(seed=seed), kind))


# Folders


def test_a_tree_in_the_order_of_its_paths(tmp_path):
    names = ["dogs/b.PNG", "cats/tabby/1.png", "cats/2.Jpg", "cats/tabby/0.png", "dogs/a b.webp"]
    fill(tmp_path, names)
    fill(tmp_path, [".DS_Store", "cats/._2.jpg", ".hidden/a.png", "cats/notes.txt", "labels.csv", "cats/Thumbs.db"])
    source = read_images(tmp_path)
    assert source.names == sorted(names)
    assert source.labels.tolist() == ["cats", "cats", "cats", "dogs", "dogs"]
    assert source.groups.tolist() == [0, 1, 1, 2, 2]
    assert source.groups.dtype == np.int64
    assert source.array is None
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.picture(index), photo(seed=names.index(name)))
        assert source.size(index) == (45, 70)
    assert kind_of(tmp_path) == "image"
    assert read_images(tmp_path, labels="folder").names == source.names


def test_labels_of_some_or_none(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    source = read_images(tmp_path)
    assert source.labels is None
    assert source.groups.tolist() == [0, 0]
    fill(tmp_path, ["c/d.png"])
    assert read_images(tmp_path).labels.tolist() == [None, None, "c"]


def test_one_picture_is_a_collection(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    source = read_images(tmp_path / "b.png")
    assert (source.names, len(source)) == (["b.png"], 1)
    np.testing.assert_array_equal(source.picture(0), photo(seed=1))


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff\n.png")
    try:
        fill(tmp_path, [name])
    except OSError:
        pytest.skip("this file system takes no such names")
    source = read_images(tmp_path)
    assert source.names == [name]
    assert source.labels[0] == name.split("/")[0]
    np.testing.assert_array_equal(source.picture(0), photo())
    assert len(fingerprint_images(source)) == 32
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorruptImage) as error:
        source.picture(0)
    assert str(error.value).isprintable()


def test_links_and_loops(tmp_path):
    fill(tmp_path, ["set/a/1.png", "set/a/b/2.png", "elsewhere/3.png"])
    folder = tmp_path / "set"
    (folder / "a" / "b" / "up").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = read_images(folder)
    assert source.names == ["a/1.png", "a/b/2.png", "gone.png", "linked/3.png"]
    with pytest.raises(CorruptImage, match="'gone.png' must be readable; got No such file"):
        source.picture(2)
    assert kind_of(folder) == "image"
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    for ask in (read_images, kind_of):
        with pytest.raises(ValueError, match=r"the folder '.*loop' must hold pictures"):
            ask(loop)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_no_picture(tmp_path):
    fill(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    assert read_images(tmp_path).names == ["a.png"]


def test_folders_without_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist; got no such file or folder"):
        read_images(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must hold pictures \(\.jpg, .*\); got no files at all"):
        read_images(tmp_path)
    with pytest.raises(ValueError, match=r"must hold pictures, recordings, Parquet parts or \.tar shards; got none"):
        kind_of(tmp_path)
    fill(tmp_path, ["a.txt", "b.txt", "c/d.csv"])
    with pytest.raises(ValueError, match=r"got 3 other files \(2 '.txt', 1 '.csv'\)"):
        read_images(tmp_path)
    with pytest.raises(ValueError, match=r"must be a folder or end in .parquet, .npz or one of .jpg"):
        read_images(tmp_path / "a.txt")


def test_a_folders_labels_are_its_folders(tmp_path):
    fill(tmp_path, ["a.png"])
    with pytest.raises(ValueError, match="labels of a folder of pictures must be 'folder': the sub-folders; got"):
        read_images(tmp_path, labels="kind")
    with pytest.raises(ValueError, match="column of a folder of pictures must be left out; got 'x'"):
        read_images(tmp_path, column="x")


def test_what_may_not_be_read(tmp_path, monkeypatch):
    fill(tmp_path, ["a/a.png", "b/b.png"])

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    source = read_images(tmp_path)
    with monkeypatch.context() as patch:  # whoever runs the tests may read anything
        patch.setattr("builtins.open", refused)
        with pytest.raises(CorruptImage, match="'a/a.png' must be readable; got Permission denied"):
            source.picture(0)
    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refused)
        with pytest.raises(ValueError, match="the folder '.*' must be readable; got Permission denied"):
            read_images(tmp_path)


def test_a_picture_that_shrinks_keeps_what_is_asked(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(photo(400, 600), "JPEG"))
    source = read_images(tmp_path)
    heights = {side: source.picture(0, at_least=side).shape[0] for side in (50, 51, 100, 200, 201, 400, 500)}
    assert heights == {50: 50, 51: 100, 100: 100, 200: 200, 201: 400, 400: 400, 500: 400}


def test_fingerprints(tmp_path):
    fill(tmp_path / "one", ["a/1.png", "b/2.png"])
    fill(tmp_path / "two", ["a/1.png", "b/2.png"])
    one, two = (read_images(tmp_path / name) for name in ("one", "two"))
    assert fingerprint_images(one) == fingerprint_images(two)
    (tmp_path / "two" / "a" / "1.png").write_bytes(b"short")
    assert fingerprint_images(one) != fingerprint_images(two)
    (tmp_path / "one" / "b" / "2.png").rename(tmp_path / "one" / "b" / "3.png")
    assert fingerprint_images(one) != fingerprint_images(read_images(tmp_path / "one"))
    assert len(fingerprint_images(one)) == 32  # of a file that is gone, too


# Parquet


def table(n=5):
    bytes_ = [encoded(photo(seed=seed), "PNG") for seed in range(n)]
    struct = [{"bytes": one, "path": f"{i}.png"} for i, one in enumerate(bytes_)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return {
        "raw": pa.array(bytes_),
        "image": pa.array(struct, kind),
        "label": pa.array(range(n)),
        "word": pa.array([f"w{i}" for i in range(n)]).dictionary_encode(),
        "maybe": pa.array(["a", None, *["b"] * (n - 2)]),
        "blob": pa.array([b"no picture"] * n),
        "list": pa.array([[1]] * n),
    }


@pytest.mark.parametrize("kept", [2**30, 0], ids=["in memory", "in a temporary file"])
@pytest.mark.parametrize("column", ["raw", "image"])
def test_parquet(tmp_path, monkeypatch, kept, column):
    monkeypatch.setattr(parts, "KEPT", kept)
    path = tmp_path / "pets.parquet"
    columns = table()
    parquet.write_table(pa.table({"label": columns["label"], column: columns[column]}), path, row_group_size=2)
    source = read_images(path, labels="label")
    assert list(source.names) == list("01234")
    assert source.labels.tolist() == [0, 1, 2, 3, 4]
    assert source.groups is None
    assert read_images(path).labels is None
    for seed in (3, 0, 4, 1, 2):
        np.testing.assert_array_equal(source.picture(seed), photo(seed=seed))
    assert kind_of(path) == "image"
    assert not list(tmp_path.glob("vicreg-*"))


def test_parquet_labels_of_all_kinds(tmp_path):
    path = tmp_path / "pets.parquet"
    parquet.write_table(pa.table(table()), path)
    assert read_images(path, "word", "raw").labels.tolist() == ["w0", "w1", "w2", "w3", "w4"]
    assert read_images(path, "maybe", "raw").labels.tolist() == ["a", None, "b", "b", "b"]
    with pytest.raises(ValueError, match="must have a column of labels 'none'; got the columns 'raw', 'image'"):
        read_images(path, "none", "raw")
    with pytest.raises(TypeError, match="the labels 'list' must be numbers, truth values or text; got list"):
        read_images(path, "list", "raw")


def test_which_column_holds_the_pictures(tmp_path):
    path = tmp_path / "pets.parquet"
    columns = table()
    parquet.write_table(pa.table({"blob": columns["blob"], "raw": columns["raw"]}), path)
    np.testing.assert_array_equal(read_images(path).picture(0), photo())
    parquet.write_table(pa.table({"raw": columns["raw"], "image": columns["image"]}), path)
    np.testing.assert_array_equal(read_images(path).picture(0), photo())
    parquet.write_table(pa.table({"one": columns["raw"], "two": columns["raw"]}), path)
    with pytest.raises(ValueError, match="must have one column of pictures; got 'one', 'two'. Call the one"):
        read_images(path)
    np.testing.assert_array_equal(read_images(path, column="two").picture(4), photo(seed=4))
    with pytest.raises(ValueError, match=r"must hold pictures \(bytes, .*\) in 'label'; got the columns 'one'"):
        read_images(path, column="label")
    parquet.write_table(pa.table({"blob": columns["blob"], "label": columns["label"]}), path)
    with pytest.raises(ValueError, match="must have a column of pictures .* got the columns 'blob', 'label'"):
        read_images(path)
    assert kind_of(path) == "table"


def test_parquet_in_parts(tmp_path):
    columns = table()
    for name, rows in (("b", [2, 3]), ("a", [0, 1]), ("_skip", [4])):
        part = pa.table({key: columns[key].take(pa.array(rows)) for key in ("image", "label")})
        parquet.write_table(part, tmp_path / f"{name}.parquet")
    source = read_images(tmp_path, labels="label")
    assert source.labels.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(source.picture(2), photo(seed=2))
    assert kind_of(tmp_path) == "image"
    whole = tmp_path / "whole"
    whole.mkdir()
    rows = pa.table({key: columns[key][:4] for key in ("image", "label")})
    parquet.write_table(rows, whole / "one.parquet")
    assert fingerprint_images(read_images(whole)) == fingerprint_images(source)
    parquet.write_table(rows[:3], whole / "one.parquet")
    assert fingerprint_images(read_images(whole)) != fingerprint_images(source)


def test_bad_parquet(tmp_path):
    path = tmp_path / "pets.parquet"
    path.write_bytes(b"PAR1 is not enough")
    for ask in (read_images, kind_of):
        with pytest.raises(ValueError, match="the file '.*pets.parquet' must be a readable .parquet file"):
            ask(path)
    columns = table()
    parquet.write_table(pa.table({"image": columns["image"][:0]}), path)
    with pytest.raises(ValueError, match="must hold at least one row; got none"):
        read_images(path, column="image")
    kind = columns["image"].type
    cells = pa.array([None, {"bytes": None, "path": "/etc/passwd"}, columns["image"][2].as_py()], kind)
    parquet.write_table(pa.table({"image": cells}), path)
    source = read_images(path)
    for index in (0, 1):
        with pytest.raises(CorruptImage, match=f"the picture '{index}' must be readable; got no bytes in its row"):
            source.picture(index)
    np.testing.assert_array_equal(source.picture(2), photo(seed=2))


# Arrays


def test_npz(tmp_path):
    path = tmp_path / "digits.npz"
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (n, 8, 9), dtype=np.uint8) for n in (6, 4))
    np.savez(path, x_train=train, y_train=np.arange(6), x_test=test, y_test=np.arange(4))
    source = read_images(path)
    assert source.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert source.array.shape == (6, 8, 9, 3)
    assert list(source.names) == list("012345")
    for channel in range(3):
        np.testing.assert_array_equal(source.array[..., channel], train)
        np.testing.assert_array_equal(source.picture(3)[..., channel], train[3])
    assert source.size(0) == (8, 9)
    tested = read_images(path, column="x_test")
    assert (tested.labels.tolist(), tested.array.shape) == ([0, 1, 2, 3], (4, 8, 9, 3))
    assert kind_of(path) == "image"
    assert fingerprint_images(source) != fingerprint_images(tested)
    with pytest.raises(ValueError, match=r"must hold a class for each of 'x_train' \(6, 8, 9\) in 'y_test'; got"):
        read_images(path, labels="y_test")


def test_npz_in_colour(tmp_path):
    path = tmp_path / "photos.npz"
    np.savez(path, images=np.stack([photo(), photo(seed=1)]), labels=np.array(["a", "b"]), size=np.array(3))
    source = read_images(path)
    assert source.labels.tolist() == ["a", "b"]
    np.testing.assert_array_equal(source.picture(1), photo(seed=1))
    assert torch.from_numpy(source.picture(0)).shape == (45, 70, 3)
    np.savez(path, anything=np.zeros((2, 5, 5, 1), np.uint8))
    assert read_images(path).array.shape == (2, 5, 5, 3)


def test_bad_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, X=np.eye(3), y=np.arange(3))
    assert kind_of(path) == "table"
    with pytest.raises(ValueError, match=r"must hold pictures as uint8 of shape .*; got 'X' \(3, 3\) float64"):
        read_images(path)
    np.savez(path, X=np.eye(3), thumbnails=np.zeros((3, 4, 4), np.uint8))
    assert kind_of(path) == "table"
    np.savez(path, a=np.zeros((3, 4, 4), np.uint8), b=np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="must hold one array of pictures; got 'a', 'b'. Call the one"):
        read_images(path)
    with pytest.raises(ValueError, match="in 'c'; got 'a'"):
        read_images(path, column="c")
    np.savez(path, a=np.zeros((3, 4, 4), np.uint8), y=np.array([{}, 1, 2], object))
    assert read_images(path).labels is None
    with pytest.raises(ValueError, match="must hold a class for each of 'a'"):
        read_images(path, labels="y")
    path.write_bytes(path.read_bytes()[:100])
    for ask in (read_images, kind_of):
        with pytest.raises(ValueError, match=r"must be a readable .npz file"):
            ask(path)


def test_an_npz_damaged_in_the_middle(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.full((30, 40, 40), 7, np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"must be a readable .npz file; got \"Bad CRC-32"):
        read_images(path)


# What kind a path is


def test_kinds(tmp_path):
    for name, kind in {
        "people.csv": "table", "people.parquet": "table", "x.npz": "table", "x.npy": "table", "cat.WebP": "image",
        "a.tar": "shards", "a.tar.gz": "shards", "a-{0..3}.tar": "shards", "hf://datasets/a": "shards",
    }.items():  # fmt: skip
        assert kind_of(name) == kind
    (tmp_path / "{1}.csv").write_text("a\n1\n")
    assert kind_of(tmp_path / "{1}.csv") == "table"
    (tmp_path / "empty.npz").touch()
    assert kind_of(tmp_path / "empty.npz") == "table"
    several = tmp_path / "parts"
    several.mkdir()
    parquet.write_table(pa.table({"a": [1]}), several / "0.parquet")
    fill(several, ["plot.png"])
    assert kind_of(several) == "table"
    fill(tmp_path, ["deep/a/b/c/1.png"])
    assert kind_of(tmp_path / "deep") == "image"
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "0.tar").touch()
    assert kind_of(tmp_path / "tars") == "shards"


def test_the_search_for_a_picture_ends_at_the_first(tmp_path, monkeypatch):
    fill(tmp_path, [f"{folder}/{name}.png" for folder in range(20) for name in range(2)])
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr("os.scandir", lambda path: scanned.append(path) or scandir(path))
    assert kind_of(tmp_path) == "image"
    assert len(scanned) == 2


# Corrupt ones


def test_the_ledger_counts_each_once_and_stops_past_its_share():
    ledger = Corrupt(max_corrupt=0.1, of=20)
    for name in ("a", "b", "a"):
        ledger.add(CorruptImage(name, "an empty file"))
    ledger.good()
    assert ledger.names == ["a", "b"]
    assert "a" in ledger
    assert "c" not in ledger
    assert len(ledger.news()) == 2
    assert ledger.news() == []
    stopped = (
        r"corrupt pictures must be at most 0.1 of all \(--max-corrupt\); got 3 of 20: the picture 'a' must be "
        r"readable; got an empty file; the picture 'b' must be readable; got an empty file; the picture 'c' must be "
        r"readable; got no sense\. Mend or remove them, or raise --max-corrupt\."
    )
    with pytest.raises(ValueError, match=stopped):
        ledger.add(CorruptImage("c", "no sense"))
    other = Corrupt(max_corrupt=0.1, of=20)
    other.restore(ledger.state())
    assert other.names == ["a", "b", "c"]
    with pytest.raises(ValueError, match="got 4 of 20"):
        other.add(CorruptImage("d", "no sense"))
    with pytest.raises(ValueError, match="max_corrupt must be a finite number of at least 0 and at most 1; got 5"):
        Corrupt(5)
    none = Corrupt(0, of=10)
    with pytest.raises(ValueError, match="must be at most 0 of all"):
        none.add(CorruptImage("a", "an empty file"))


def test_the_share_of_a_stream_is_of_what_was_met():
    ledger = Corrupt(max_corrupt=0.01)
    for number in range(10):
        ledger.add(CorruptImage(str(number), "an empty file"))
    ledger.good(1090)
    ledger.add(CorruptImage("10", "an empty file"))
    with pytest.raises(ValueError, match="got 12 of 1,102"):
        ledger.add(CorruptImage("11", "an empty file"))


def test_threads_share_a_ledger():
    ledger = Corrupt(max_corrupt=1)
    barrier = threading.Barrier(8)

    def work(thread):
        barrier.wait()
        for number in range(200):
            ledger.good()
            ledger.add(CorruptImage(str(number + 100 * thread), "an empty file"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(ledger.names) == 900
    assert len(ledger.news()) == 5  # of the others the number is told
    assert ledger.in_all("pictures") == ["left out in all: 900 pictures, which could not be read."]
    assert ledger.state()["seen"] == 8 * 200 + 900


def test_the_next_readable_picture_takes_the_place(tmp_path):
    fill(tmp_path, [f"{i}.png" for i in range(6)])
    for name in ("2", "3", "5"):
        (tmp_path / f"{name}.png").write_bytes(b"nothing")
    (tmp_path / "3.png").unlink()
    (tmp_path / "3.png").symlink_to("nowhere")
    source = read_images(tmp_path)
    ledger = Corrupt(max_corrupt=0.5, of=6)
    found = [readable(source, index, lambda opened: opened.pixels(1)[0, 0].tolist(), ledger) for index in range(6)]
    assert [at for at, _ in found] == [0, 1, 4, 4, 4, 0]
    assert [first for _, first in found] == [photo(seed=seed)[0, 0].tolist() for seed in (0, 1, 4, 4, 4, 0)]
    assert sorted(ledger.names) == ["2.png", "3.png", "5.png"]
    assert ledger.state()["seen"] == 9
    with pytest.raises(ValueError, match="must be at most 0.05 of all"):
        readable(source, 2, lambda opened: opened.pixels(1), Corrupt(of=6))


def test_all_are_corrupt(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"nothing")
    ledger = Corrupt(max_corrupt=1, of=3)
    with pytest.raises(ValueError, match="pictures must be readable, one at least; got none that is"):
        readable(read_images(tmp_path), 1, lambda opened: opened.pixels(1), ledger)
    assert len(ledger.names) == 3


# Crops


def by_pillow(pixels, rectangle, flip, size):
    top, left, height, width = rectangle
    image = Image.fromarray(pixels).resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + width, top + height)
    )
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def fixed(rectangle, flip, size):
    return (lambda height, width: (rectangle, flip)), size


def test_crops_of_one_picture(tmp_path):
    fill(tmp_path, ["a.png"])
    source, ledger = read_images(tmp_path), Corrupt(of=1)
    seen = []

    def asked(height, width):
        seen.append((height, width))
        return (5, 7, 30, 40), True

    at, (one, two) = decoded(source, 0, [(asked, 16), fixed((0, 0, 45, 70), False, 8)], by_pillow, ledger)
    assert (at, seen) == (0, [(45, 70)])
    torch.testing.assert_close(one, by_pillow(photo(), (5, 7, 30, 40), True, 16))
    torch.testing.assert_close(two, by_pillow(photo(), (0, 0, 45, 70), False, 8))


@pytest.mark.parametrize(
    ("rectangle", "size", "height"),
    [
        ((0, 0, 320, 480), 40, 40),
        ((0, 0, 320, 480), 41, 80),
        ((31, 57, 161, 170), 80, 160),
        ((100, 100, 60, 60), 64, 320),
    ],
)
def test_a_jpeg_is_decoded_no_larger_than_its_crops_need(tmp_path, rectangle, size, height):
    (tmp_path / "a.jpg").write_bytes(encoded(photo(320, 480), "JPEG", quality=95))
    source = read_images(tmp_path)
    decoded_at = []

    def resize(pixels, *rest):
        decoded_at.append(pixels.shape)
        return by_pillow(pixels, *rest)

    crops = [fixed(rectangle, False, size), fixed((0, 0, 320, 480), True, min(size, 20))]
    found = crops_of(source.opened(0), crops, resize)
    assert decoded_at == [(height, height * 3 // 2, 3)] * 2
    for crop, (rectangle_of, side) in zip(found, crops, strict=True):
        expected = by_pillow(source.picture(0), *rectangle_of(320, 480), side)
        assert crop.shape == (3, side, side)
        assert (crop.float() - expected.float()).abs().mean() < 5


def test_threads_give_what_one_gives(tmp_path):
    for seed in range(12):
        (tmp_path / f"{seed:02}.jpg").write_bytes(encoded(photo(64, 96, seed=seed), "JPEG"))
    (tmp_path / "05.jpg").write_bytes(b"")
    source = read_images(tmp_path)

    def work(index):
        crops = [fixed((index, index, 40, 40), index % 2 == 0, 16)]
        return decoded(source, index, crops, by_pillow, ledger)

    ledger = Corrupt(max_corrupt=0.5, of=12)
    alone = [work(index) for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(12)))
    assert [at for at, _ in alone] == [at for at, _ in together] == [0, 1, 2, 3, 4, 6, 6, 7, 8, 9, 10, 11]
    for (_, (a,)), (_, (b,)) in zip(alone, together, strict=True):
        assert torch.equal(a, b)

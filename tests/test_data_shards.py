"""Shards: what is in a tar, which of them a process reads and when, and going on where a stream stopped."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import braceexpand
import fsspec
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from test_data_image_decode import encoded, photo

from vicreg.data import shards, tars
from vicreg.data.corrupt import Corrupt, CorruptImage
from vicreg.data.shards import Shards, fingerprint_shards, shard_urls
from vicreg.data.tars import Sample, Tar, every_sample, expanded

PICTURE = encoded(photo(8, 9), "PNG")


def tar_of(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write(folder, counts):
    """Shards of so many pictures; each picture's bytes are its name."""
    for shard, count in enumerate(counts):
        files = []
        for i in range(count):
            files += [(f"{shard}-{i}.jpg", f"{shard}-{i}".encode()), (f"{shard}-{i}.cls", str(i % 10).encode())]
        (folder / f"{shard:03}.tar").write_bytes(tar_of(files))
    return folder


def drawn(stream, count):
    return [next(stream).data.decode() for _ in range(count)]


def all_of(counts):
    return Counter(f"{shard}-{i}" for shard, count in enumerate(counts) for i in range(count))


# One tar


FILES = [
    ("README", b"no suffix"),
    ("a/one.cls", b" 3\n"),
    ("a/one.jpg", PICTURE),
    ("a/one.json", b"{}"),
    ("b.x/two.seg.PNG", b"second"),
    ("b.x/two.png", b"third"),
    ("none.txt", b"no picture"),
    ("three.webp", b""),
    ("four.jpeg", b"fourth"),
    ("four.pyd", b"\x80\x04N."),
]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_pictures_of_a_tar(tmp_path, mode):
    path = tmp_path / f"some.tar{'' if mode == 'w' else '.gz'}"
    path.write_bytes(tar_of(FILES, mode))
    found = list(every_sample(str(path)))
    assert [(one.name.removeprefix(f"{path}/"), one.data, one.label) for one in found] == [
        ("a/one.jpg", PICTURE, 3),
        ("b.x/two.seg.PNG", b"second", None),
        ("three.webp", b"", None),
        ("four.jpeg", b"fourth", None),
    ]
    np.testing.assert_array_equal(found[0].opened().pixels(), photo(8, 9))
    with pytest.raises(CorruptImage, match=r"some.tar.*/three.webp' must be one of jpeg, png"):
        found[2].opened()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
def test_as_webdataset_reads_it(tmp_path):
    write(tmp_path, [13])
    path = str(tmp_path / "000.tar")
    theirs = [(one["jpg"], int(one["cls"])) for one in webdataset.WebDataset(path, shardshuffle=False)]
    assert [(one.data, one.label) for one in every_sample(path)] == theirs
    assert len(theirs) == 13


def test_what_webdataset_writes(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(5):
            writer.write({"__key__": f"{i:04}", "png": PICTURE, "cls": i, "json": {"i": i}})
    assert [(one.data, one.label) for one in every_sample(str(tmp_path / "a.tar"))] == [(PICTURE, i) for i in range(5)]


def test_links_in_a_tar_are_not_followed(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert list(every_sample(str(path))) == []


def test_what_is_not_wanted_is_not_read(tmp_path):
    write(tmp_path, [3])
    tar = Tar(str(tmp_path / "000.tar"))
    assert [tar.next(wanted).data for wanted in (False, True, False)] == [b"", b"0-1", b""]
    assert tar.next() is None
    assert tar.next() is None
    tar.close()


def test_labels_that_are_none():
    assert Sample("a.jpg", b"").label is None
    assert Sample("a.jpg", b"", b"-12\n").label == -12
    for written in (b"cat", b"", b"1.5", b"\xff", b"9" * 30):
        with pytest.raises(ValueError, match=r"the label \(.cls\) of 'a.jpg' must be a whole number; got '"):
            _ = Sample("a.jpg", b"", written).label


def test_damaged_tars(tmp_path):
    path = tmp_path / "a.tar"
    whole = tar_of([(f"{i}.jpg", bytes(700)) for i in range(5)])
    for content in (b"", b"<html>not found</html>" * 100, whole[:100]):
        path.write_bytes(content)
        with pytest.raises(CorruptImage, match=r"a.tar' must be a whole .tar of pictures; got '"):
            Tar(str(path))
    for suffix, begin in (("a.tar", whole[:5300]), ("b.tar.gz", tar_of([("0.jpg", bytes(700))], "w:gz")[:-30])):
        path = tmp_path / suffix
        path.write_bytes(begin)
        with pytest.raises(CorruptImage, match=r"must be a whole .tar of pictures"):
            list(every_sample(str(path)))


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6), st.floats(0, 1))
def test_any_bytes_are_a_tar_or_damaged(changes, share):
    data = bytearray(tar_of(FILES))
    for place, value in changes:
        data[int(place * 7000)] = value
    with fsspec.open("memory://fuzz.tar", "wb") as file:
        file.write(bytes(data[: int(share * len(data))]))
    try:
        for sample in every_sample("memory://fuzz.tar"):
            assert isinstance(sample.data, bytes)
    except CorruptImage as error:
        assert str(error).startswith("the shard 'memory://fuzz.tar' must be a whole .tar")


def test_tars_out_of_reach(tmp_path, monkeypatch):
    for url in (str(tmp_path / "none.tar"), "memory://none.tar"):
        with pytest.raises(
            FileNotFoundError, match=r"the shard '.*none.tar' must exist; got no such file. Nothing is lost"
        ):
            Tar(url)
    with pytest.raises(OSError, match="must be readable; got 'Is a directory|must be readable; got .*Is a directory"):
        Tar(str(tmp_path))
    with pytest.raises(OSError, match="the shard 'nonsense://a.tar' must be readable; got 'Protocol not known"):
        Tar("nonsense://a.tar")
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ImportError, match="Shards by URL need fsspec"):
        Tar("memory://a.tar")


# Names


@pytest.mark.parametrize(
    "pattern",
    [
        "a.tar",
        "{000..012}.tar",
        "{8..11}.tar",
        "{3..1}.tar",
        "{a,b}-{0..1}.tar",
        "x{,y}.tar",
        "{007..9}.tar",
        "{98..0102}",
    ],
)
def test_patterns_expand_as_in_a_shell(pattern):
    assert expanded(pattern) == list(braceexpand.braceexpand(pattern))


def test_patterns_of_too_much():
    for pattern in ("{0..99999999}.tar", "{0..9999}-{0..9999}.tar"):
        with pytest.raises(ValueError, match="the pattern '.*' must mean at most 1,000,000 shards"):
            expanded(pattern)
    assert expanded("{x}.tar") == ["{x}.tar"]


def test_which_shards(tmp_path):
    write(tmp_path, [1, 1, 1])
    paths = [str(tmp_path / f"00{i}.tar") for i in range(3)]
    (tmp_path / "._000.tar").touch()
    (tmp_path / "notes.txt").touch()
    assert shard_urls(tmp_path) == shard_urls(str(tmp_path / "{000..002}.tar")) == paths
    assert shard_urls([paths[2], "s3://bucket/{0,1}.tar"]) == [paths[2], "s3://bucket/0.tar", "s3://bucket/1.tar"]
    assert shard_urls(paths[0]) == paths[:1]
    with pytest.raises(FileNotFoundError, match=r"must exist; got no files '.*003.tar', '.*004.tar'"):
        shard_urls(str(tmp_path / "{000..004}.tar"))
    with pytest.raises(ValueError, match=r"must be named once each; got '.*000.tar' more than once"):
        shard_urls([paths[0], str(tmp_path)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must be one .tar at least; got none"):
        shard_urls(tmp_path / "empty")


def test_fingerprints(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, [3, 2])
    a, b = (shard_urls(tmp_path / name) for name in ("a", "b"))
    assert fingerprint_shards(a) == fingerprint_shards(b)
    assert fingerprint_shards(a) != fingerprint_shards(a[:1])
    write(tmp_path / "b", [3, 40])
    assert fingerprint_shards(a) != fingerprint_shards(b)


# Streams


COUNTS = [7, 12, 1, 9, 5, 11]


@pytest.mark.parametrize("together", [1, 2, 6, 50])
@pytest.mark.parametrize("shuffled", [1, 4, 1000])
def test_an_epoch_has_every_picture_once(tmp_path, together, shuffled):
    stream = Shards(write(tmp_path, COUNTS), seed=3, together=together, shuffled=shuffled)
    first, second = drawn(stream, 45), drawn(stream, 45)
    stream.close()
    assert Counter(first) == Counter(second) == all_of(COUNTS)
    assert first != second
    again = Shards(tmp_path, seed=3, together=together, shuffled=shuffled)
    assert drawn(again, 90) == first + second
    again.close()
    other = Shards(tmp_path, seed=4, together=together, shuffled=shuffled)
    assert drawn(other, 45) != first
    other.close()


def test_shards_are_mixed_and_shuffled(tmp_path):
    stream = Shards(write(tmp_path, [50] * 4), together=4, shuffled=40)
    block = drawn(stream, 40)
    stream.close()
    assert Counter(name.split("-")[0] for name in block) == {str(shard): 10 for shard in range(4)}
    assert block != sorted(block)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_shards(tmp_path, world):
    write(tmp_path, COUNTS)
    for epoch in range(3):
        seen = Counter()
        for rank in range(world):
            stream = Shards(tmp_path, seed=1, rank=rank, world=world)
            stream.seek({"epoch": epoch, "group": 0, "sample": 0})
            names = []
            while not names or stream.position()["epoch"] == epoch:
                names += drawn(stream, 1)
            seen += Counter(names if stream.position()["epoch"] == epoch else names[:-1])
            stream.close()
        assert seen == all_of(COUNTS)
    with pytest.raises(
        ValueError, match=r"shards must be at least as many as processes \(7\); got 6. Cut them smaller"
    ):
        Shards(tmp_path, world=7)
    with pytest.raises(ValueError, match="rank must lie between 0 and 1; got 2"):
        Shards(tmp_path, rank=2, world=2)


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("shuffled", [1, 8, 1000])
def test_a_stream_goes_on_from_any_position(tmp_path, together, shuffled):
    settings = {"seed": 5, "rank": 1, "world": 2, "together": together, "shuffled": shuffled}
    stream = Shards(write(tmp_path, COUNTS), **settings)
    positions, names = [], []
    for _ in range(60):
        positions.append(json.loads(json.dumps(stream.position())))
        names += drawn(stream, 1)
    stream.close()
    assert positions[0] == {"epoch": 0, "group": 0, "sample": 0}
    other = Shards(tmp_path, **settings)
    for at in range(0, 60, 7):
        other.seek(positions[at])
        assert other.position() == positions[at]
        assert drawn(other, 60 - at) == names[at:]
    other.close()
    for bad in ({}, {"epoch": 0, "group": 0}, {"epoch": -1, "group": 0, "sample": 0}):
        with pytest.raises(ValueError, match="must"):
            other.seek(bad)


def test_going_on_reads_no_block_before_its_own(tmp_path, monkeypatch):
    write(tmp_path, [100])
    read = []
    original = Tar._read
    monkeypatch.setattr(Tar, "_read", lambda self, member: read.append(member.name) or original(self, member))
    stream = Shards(tmp_path, shuffled=10)
    stream.seek({"epoch": 0, "group": 0, "sample": 87})
    drawn(stream, 1)
    stream.close()
    assert {name.split(".")[0] for name in read} == {f"0-{i}" for i in range(80, 90)}


def test_by_url(tmp_path):
    write(tmp_path, COUNTS)
    for path in tmp_path.iterdir():
        with fsspec.open(f"memory://set/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    local = Shards(str(tmp_path / "{000..005}.tar"), seed=2)
    remote = Shards("memory://set/{000..005}.tar", seed=2)
    assert drawn(local, 100) == drawn(remote, 100)
    local.close()
    remote.close()


def test_damaged_shards_are_counted_and_passed_over(tmp_path):
    write(tmp_path, COUNTS)
    (tmp_path / "001.tar").write_bytes(b"nothing")
    data = (tmp_path / "005.tar").read_bytes()
    (tmp_path / "005.tar").write_bytes(data[: 6 * 1024 + 700])
    ledger = Corrupt()
    stream = Shards(tmp_path, ledger=ledger)
    epochs = [Counter(drawn(stream, 7 + 1 + 9 + 5 + 3)) for _ in range(2)]
    stream.close()
    whole = all_of([7, 0, 1, 9, 5, 3])
    assert epochs == [whole, whole]
    assert [Path(name).name for name in sorted(ledger.names)] == ["001.tar", "005.tar"]
    strict = Shards(tmp_path, ledger=Corrupt(max_corrupt=0))
    with pytest.raises(ValueError, match="corrupt pictures must be at most 0 of all"):
        drawn(strict, 45)
    strict.close()


def test_a_shard_that_vanishes_stops_the_stream_where_it_can_go_on(tmp_path):
    write(tmp_path, COUNTS)
    stream = Shards(tmp_path, together=1, seed=1)
    names = drawn(stream, 2)
    hidden = {path.name: path.rename(path.with_suffix(".away")) for path in tmp_path.glob("*.tar")}
    with pytest.raises(FileNotFoundError, match="the shard '.*' must exist; got no such file. Nothing is lost"):
        names.extend(sample.data.decode() for sample in stream)
    for name, path in hidden.items():
        path.rename(tmp_path / name)
    other = Shards(tmp_path, together=1, seed=1)
    other.seek(stream.position())
    names += drawn(other, 45 - len(names))
    other.close()
    assert Counter(names) == all_of(COUNTS)


def test_shards_without_pictures(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_of([("a.txt", b"1")]))
    stream = Shards(tmp_path)
    with pytest.raises(ValueError, match=r"the shards must hold pictures; got none in '.*a.tar'"):
        next(stream)


def test_nothing_runs_what_a_shard_or_its_name_says():
    with pytest.raises(FileNotFoundError, match="must exist; got no files 'pipe:cat a.tar'"):
        shard_urls("pipe:cat a.tar")
    for module in (shards, tars):
        assert "pickle" not in Path(module.__file__).read_text()

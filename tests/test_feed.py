"""Pictures as feeds: who gets which, kept or opened or streamed, and where a stream goes on."""

import io
import random
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from vicreg.data import Corrupt, GivenImages, Shards
from vicreg.training.collection import STEPS_AHEAD, Deal, Partners, threads
from vicreg.training.engine import machine
from vicreg.training.feed import Order, every_row, full_batches, seed_of
from vicreg.training.pictures import Cut, OpenedPictures, ResidentPictures
from vicreg.training.shards import MOST_UNREAD, ShardPictures
from vicreg.views import image_views
from vicreg.views.image import IMAGENET_MEAN, IMAGENET_STD

N, SIDE, BATCH = 20, 12, 6
CPU = torch.device("cpu")


def pictures(count=N, height=SIDE, width=SIDE):
    """Each of one colour but for its gradient, so that a picture is known by any of its parts."""
    y = np.linspace(0, 20, height)[:, None, None] + np.linspace(0, 10, width)[None, :, None]
    colours = np.random.default_rng(0).integers(0, 220, size=(count, 1, 1, 3))
    return (y + colours).astype(np.uint8)


def encoded(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def files(tmp_path):
    for index, picture in enumerate(pictures()):
        (tmp_path / f"{index:02}.png").write_bytes(encoded(picture))
    return sorted(tmp_path.iterdir())


def deal(rank=0, count=1, partners=None, n=N, seed=0):
    return Deal(Order(full_batches(n, BATCH), n, seed), rank, count, partners)


def opened(source, name="crop", steps=10, labels=None, ledger=None, dealt=None, **views):
    ledger = Corrupt(of=len(source)) if ledger is None else ledger
    chosen = image_views(name, SIDE, **views)
    return OpenedPictures(source, chosen, dealt or deal(n=len(source)), steps, CPU, ledger, 3, labels, 2)


def in_levels(view):
    """Back from what an encoder eats to 0 ... 255."""
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (view * std + mean) * 255


def alive():
    return [one for one in threading.enumerate() if one.name.startswith("vicreg-pictures")]


def test_views_of_the_same_pictures_are_the_same_rows():
    a, b, c = deal().rows(0, 3)
    assert a is b
    assert b is c
    a, b, c = deal(partners=Partners(np.arange(N) // 4)).rows(0, 3)
    assert a is c
    assert a is not b


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("partners", [None, Partners(np.arange(N) // 4)])
def test_processes_share_the_batch_of_one(count, partners):
    for step in range(7):
        whole = deal(partners=partners).rows(step, 2)
        parts = [deal(rank, count, partners).rows(step, 2) for rank in range(count)]
        for view in range(2):
            assert {len(part[view]) for part in parts} == {BATCH // count}
            joined = torch.stack([part[view] for part in parts], dim=1).flatten()  # dealt like cards
            assert torch.equal(joined, whole[view])
        assert len(set(whole[0].tolist())) == BATCH


def test_an_epoch_shows_each_picture_once_and_the_next_in_another_order():
    order = Order(every_row(N, BATCH), N, seed=3)
    epochs = [torch.cat([order.rows(step) for step in range(k * 4, k * 4 + 4)]).tolist() for k in range(3)]
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({seed_of(seed, *which) for seed in range(5) for which in [(), (0,), (1,), (0, 1), (1, 0)]}) == 25


def test_partners_are_others_of_the_group_each_as_often():
    groups = np.array([7, 0, 7, 3, 7, 7, 0, 7])
    partners, generator = Partners(groups), Generator().manual_seed(0)
    rows = torch.arange(8).repeat(4000)
    found = partners.of(rows, generator)
    assert np.array_equal(groups[found], groups[rows])
    alone = rows == 3
    assert torch.equal(found[alone], rows[alone])
    assert not bool((found == rows)[~alone].any())
    counts = torch.bincount(rows * 8 + found, minlength=64).view(8, 8)
    assert counts[1, 6] == counts[6, 1] == 4000
    among = counts[[0, 2, 4, 5, 7]][:, [0, 2, 4, 5, 7]]
    expected = 1000 * (1 - torch.eye(5))
    assert float(((among - expected) ** 2 / expected.clamp(min=1)).sum()) < 40  # chi-square, 15 degrees of freedom


def test_partners_need_a_folder_with_two():
    said = "the source must have two samples in some folder for views of one folder; got 3 folders with one each"
    with pytest.raises(ValueError, match=said):
        Partners(np.array([4, 2, 9]))


def test_pictures_kept_and_opened_are_the_same_pixels(files):
    labels = torch.arange(N)
    kept = ResidentPictures(torch.from_numpy(pictures()), image_views("identity", SIDE), deal(), labels, 2)
    feed = opened(GivenImages(files), "identity", labels=labels)
    for step in range(7):
        a, b = kept.draw(step), feed.draw(step)
        assert torch.equal(a.labels, b.labels)
        assert (a.n_large, a.x, len(a.views)) == (b.n_large, b.x, len(b.views)) == (2, None, 2)
        wanted = torch.from_numpy(pictures()[a.labels]).permute(0, 3, 1, 2).float()
        for one in (*a.views, *b.views):
            assert one.dtype == torch.float32
            torch.testing.assert_close(in_levels(one), wanted, rtol=0, atol=1e-3)
    feed.close()


@pytest.mark.parametrize("size", [12, 60])  # by matrices and one by one
def test_pictures_kept_and_opened_are_cropped_alike(files, size):
    large = pictures(N, size, size)
    views = image_views("crop", size)
    kept = ResidentPictures(torch.from_numpy(large), views, deal())
    feed = OpenedPictures(GivenImages(list(large)), views, deal(), 9, CPU, Corrupt(), 2)
    for step in range(3):
        a, b = kept.draw(step), feed.draw(step)
        for one, other in zip(a.views, b.views, strict=True):
            assert (in_levels(one) - in_levels(other)).abs().max() < 2.01
        assert not torch.equal(a.views[0], a.views[1])
    feed.close()


def test_same_folder_views_show_two_pictures_of_the_folder(files):
    groups = np.arange(N) % 5
    kept = ResidentPictures(
        torch.from_numpy(pictures()), image_views("identity", SIDE), deal(partners=Partners(groups))
    )
    feed = opened(GivenImages(files), "identity", dealt=deal(partners=Partners(groups)))
    known = torch.from_numpy(pictures()).permute(0, 3, 1, 2).flatten(1).float()
    for step in range(4):
        a, b = kept.draw(step), feed.draw(step)
        shown = [torch.cdist(in_levels(view).flatten(1), known).argmin(1).numpy() for view in a.views]
        assert np.array_equal(groups[shown[0]], groups[shown[1]])
        assert (shown[0] != shown[1]).all()
        for one, other in zip(a.views, b.views, strict=True):
            torch.testing.assert_close(one, other)
    feed.close()


def test_small_crops_are_of_the_first_picture(files):
    groups = np.arange(N) // 2
    views = {"n_small": 2, "small_size": 5}
    feed = opened(GivenImages(files), dealt=deal(partners=Partners(groups)), **views)
    drawn = feed.draw(0)
    assert [tuple(one.shape) for one in drawn.views] == [(6, 3, 12, 12)] * 2 + [(6, 3, 5, 5)] * 2
    assert drawn.n_large == 2
    levels = [in_levels(one).mean(dim=(2, 3)) for one in drawn.views]  # a picture's colour, give or take its gradient
    assert all((levels[0] - small).abs().max() < 31 for small in levels[2:])
    assert (levels[0] - levels[1]).abs().max() > 31
    feed.close()


def test_corrupt_pictures_give_way_to_the_next_that_is_learnt_from(files):
    for index in (3, 4, 19):
        files[index].write_bytes(b"nothing")
    ledger = Corrupt(0.2, of=N)
    feed = opened(GivenImages(files), "identity", 8, torch.arange(N) * 10, ledger)
    known = torch.from_numpy(pictures()).permute(0, 3, 1, 2).flatten(1).float()
    instead = {3: 5, 4: 5, 19: 0}
    for step in range(8):
        drawn = feed.draw(step)
        wanted = [instead.get(row, row) for row in deal().rows(step, 1)[0].tolist()]
        assert drawn.labels.tolist() == [10 * row for row in wanted]
        assert torch.cdist(in_levels(drawn.views[1]).flatten(1), known).argmin(1).tolist() == wanted
    assert sorted(ledger.names) == [str(files[index]) for index in (3, 4, 19)]
    feed.close()


def test_too_many_corrupt_pictures_end_the_run_and_its_threads(files):
    for index in range(4):
        files[index].write_bytes(b"nothing")
    feed = opened(GivenImages(files), ledger=Corrupt(0.1, of=N))
    # Threads may have met the fourth before the third is told of.
    with pytest.raises(ValueError, match="corrupt pictures must be at most 0.1 of all .* got [34] of 20"):
        list(map(feed.draw, range(10)))
    feed.close()
    assert alive() == []


def test_nothing_is_opened_beyond_the_run_or_far_ahead(files):
    seen = []

    class Counted(GivenImages):
        def opened(self, index):
            seen.append(index)
            return super().opened(index)

    feed = opened(Counted(files), steps=4)
    feed.draw(0)
    feed._pool.shutdown(wait=True)
    assert len(seen) == (1 + STEPS_AHEAD) * BATCH
    feed = opened(Counted(files), steps=2)
    seen.clear()
    feed.draw(0)
    feed.draw(1)
    feed.close()
    assert len(seen) == 2 * BATCH


def test_feeds_leave_the_randomness_of_others_alone(files):
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    feed = opened(GivenImages(files), "paper")
    feed.draw(0)
    feed.close()
    ResidentPictures(torch.from_numpy(pictures()), image_views("paper", SIDE), deal()).draw(0)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002


def test_processes_draw_views_of_their_own(files):
    draws = [opened(GivenImages(files), "paper", dealt=deal(rank, 2)) for rank in (0, 1)]
    one, two = (feed.draw(0) for feed in draws)
    assert one.views[0].shape == two.views[0].shape == (3, 3, SIDE, SIDE)
    again = opened(GivenImages(files), "paper", dealt=deal(1, 2))
    assert torch.equal(again.draw(0).views[1], two.views[1])
    for feed in (*draws, again):
        feed.close()
    array = torch.from_numpy(np.repeat(pictures(1, SIDE, SIDE), N, axis=0))  # the same picture for all
    one, two = (ResidentPictures(array, image_views("paper", SIDE), deal(rank, 2)).draw(0) for rank in (0, 1))
    assert not torch.equal(one.views[0], two.views[0])


def test_a_later_step_is_what_it_would_have_been(files):
    for make in (
        lambda: opened(GivenImages(files), "official"),
        lambda: ResidentPictures(torch.from_numpy(pictures()), image_views("official", SIDE), deal()),
    ):
        first, second = make(), make()
        whole = [first.draw(step) for step in range(6)]
        second.seek(first.position())
        for step in (4, 5):
            drawn = second.draw(step)
            assert all(torch.equal(a, b) for a, b in zip(drawn.views, whole[step].views, strict=True))
        first.close()
        second.close()
    assert alive() == []


def test_numbers_choose_the_rectangle_and_the_flip():
    view = image_views("crop", 8)[0]
    u = view.draw(200, Generator().manual_seed(0)).tolist()
    chosen = [Cut(view, one)(20, 30) for one in u]
    assert all(min(t, left) >= 0 and t + h <= 20 and left + w <= 30 for (t, left, h, w), _ in chosen)
    assert [flip for _, flip in chosen] == [one[-1] < 0.5 for one in u]
    assert threads(5) == 5
    assert threads(None) >= 1


@pytest.fixture
def tars(tmp_path):
    """Five shards with 30 pictures, every seventh of which is damaged."""
    for shard in range(5):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for index in range(shard, 30, 5):
                data = encoded(pictures(30)[index]) if index % 7 else b"nothing"
                for name, content in ((f"{index:02}.png", data), (f"{index:02}.cls", str(index).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return tmp_path


def streamed(where, rank=0, world=1, each=4, name="paper", max_corrupt=0.05):
    ledger = Corrupt(max_corrupt)
    shards = Shards(where, 0, rank, world, together=2, shuffled=5, ledger=ledger)
    return ShardPictures(shards, image_views(name, SIDE), each, 0, machine("cpu"), 2)


def shown(feed, step):
    """Which of the 30 pictures a step shows, each exactly, by what is seen."""
    seen = in_levels(feed.draw(step).views[0])
    wanted = torch.from_numpy(pictures(30)).permute(0, 3, 1, 2).float()
    apart = (seen[:, None] - wanted).abs().amax((2, 3, 4))
    assert apart.amin(1).max() < 1e-3
    return apart.argmin(1).tolist()


def test_a_stream_shows_each_picture_that_can_be_read_once_an_epoch(tars):
    feed = streamed(tars, each=5, name="identity")
    good = [index for index in range(30) if index % 7]
    for _ in range(2):
        assert sorted(index for step in range(5) for index in shown(feed, step)) == good
    assert len(feed.shards.ledger.names) == 5
    feed.close()
    assert alive() == []


def test_processes_read_shards_of_their_own(tars):
    feeds = [streamed(tars, rank, 2, each=2, name="identity") for rank in (0, 1)]
    few = [{index for step in range(5) for index in shown(feed, step)} for feed in feeds]
    assert not few[0] & few[1]
    for feed in feeds:
        feed.close()


@pytest.mark.parametrize("step", range(1, 13))
def test_a_stream_goes_on_from_any_step(tars, step):
    whole = streamed(tars)
    drawn = [whole.draw(k) for k in range(step)]
    position = whole.position()
    rest = [whole.draw(k) for k in range(step, step + 3)]
    again = streamed(tars)
    again.seek(position)
    assert again.position()["taken"] == position["taken"] >= 4 * len(drawn)
    for k, wanted in enumerate(rest, step):
        found = again.draw(k)
        assert all(torch.equal(a, b) for a, b in zip(found.views, wanted.views, strict=True))
    assert again.position()["stream"] == whole.position()["stream"]
    whole.close()
    again.close()


def test_a_stream_of_nothing_readable_ends(tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        for index in range(3):
            tar.addfile(tarfile.TarInfo(f"{index}.png"), io.BytesIO())
    feed = streamed(tmp_path)
    with pytest.raises(ValueError, match=f"pictures must be readable, one at least; got {MOST_UNREAD} in a row"):
        feed.draw(0)
    feed.close()
    feed = streamed(tmp_path, max_corrupt=0.0)
    with pytest.raises(ValueError, match="corrupt pictures must be at most 0 of all"):
        feed.draw(0)
    feed.close()
    assert alive() == []


def test_a_stream_without_labels_has_none(tmp_path):
    with tarfile.open(tmp_path / "cats.tar", "w") as tar:
        for index, picture in enumerate(pictures(4)):
            info = tarfile.TarInfo(f"{index}.png")
            info.size = len(encoded(picture))
            tar.addfile(info, io.BytesIO(encoded(picture)))
    feed = streamed(tmp_path)
    assert feed.draw(0).labels is None
    feed.close()

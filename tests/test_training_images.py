"""Runs on pictures: settings, networks, losses, resuming, precision, several processes."""

import io
import shutil
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Generator, nn

from vicreg import VICRegLoss
from vicreg.data import GivenImages
from vicreg.networks import image_encoder
from vicreg.networks.weights import load_weights
from vicreg.training import recipes
from vicreg.training.config import ImageConfig
from vicreg.training.engine import machine
from vicreg.training.image import image_run, image_size, shard_run, views_of
from vicreg.training.preparing import channels_last_is_safe
from vicreg.training.recipes import RECIPES
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.views.image import evaluation_view

TINY = ImageConfig(width=16, expander=(32,), image_size=8, batch_size=6, steps=4, learning_rate=0.5, device="cpu")


def pictures(count=20, height=8, width=8):
    return np.random.default_rng(0).integers(256, size=(count, height, width, 3), dtype=np.uint8)


class Small(nn.Module):
    """A user's encoder, without batch norm."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.second = nn.Conv2d(16, 24, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(torch.tanh(self.second(torch.tanh(self.first(x)))).mean(dim=(2, 3)))


def small(dropout=0.0):
    torch.manual_seed(0)
    return Small(dropout)


class Files(GivenImages):
    """Pictures that are opened one by one: each of another size."""

    def __init__(self, count=20):
        super().__init__([pictures(1, 8 + k % 3, 9 + k % 2)[0] + np.uint8(k) for k in range(count)])
        self.groups = np.arange(count) // 4


def tars(folder):
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for index, picture in enumerate(pictures(10)):
                file = io.BytesIO()
                Image.fromarray(picture + np.uint8(shard)).save(file, "PNG")
                info = tarfile.TarInfo(f"{index}.png")
                info.size = file.tell()
                file.seek(0)
                tar.addfile(info, file)
    return str(folder)


def prepared(source, config, encoders=(), folder=None):
    place = machine(config.device, precision=config.precision)
    if source == "shards":
        return shard_run(config, str(folder), place, encoders)
    made = GivenImages(pictures()) if source == "resident" else Files()
    return image_run(config, made, place, encoders=encoders)


def weights(state):
    return {name: value.clone() for name, value in state.model.state_dict().items()}


# Settings


def refused(said, **settings):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **settings).check()


def test_settings_out_of_their_range_are_refused():
    refused("views must be one of .*paper.*same-folder.*; got 'blur'", views="blur")
    refused("objective must be one of .*; got 'vic'", objective="vic")
    refused("small_views must be 0 with separate branches; got 2. Small crops", small_views=2, shared=False)
    refused("small_views must be 0 with views 'identity'; got 1", small_views=1, views="identity")
    refused("small_views must be at least 0; got -1", small_views=-1)
    for name in ("width", "image_size", "small_size", "epochs", "steps", "devices", "nodes", "workers", "accumulate"):
        refused(f"{name} must be at least 1; got 0", **{name: 0})
    refused("batch_size must be at least 2; got 1", batch_size=1)
    refused("each width in expander must be at least 1; got 0", expander=(8, 0))
    refused("learning_rate must be a finite number above 0; got 0", learning_rate=0.0)
    for name in ("weight_decay", "warmup_epochs", "sim_coeff", "std_coeff", "cov_coeff", "variance_target"):
        refused(f"{name} must be a finite number of at least 0; got -1", **{name: -1.0})
    refused("max_corrupt must be a finite number of at least 0 and at most 1; got 1.5", max_corrupt=1.5)
    refused("seed must lie between 0 and .*; got -1", seed=-1)
    refused("device must be auto, cpu, cuda, cuda:N or mps; got 'tpu'", device="tpu")
    refused("optimizer must be one of 'lars', 'larc', 'adamw'; got 'sgd'", optimizer="sgd")
    refused("precision must be one of .*; got '64'", precision="64")
    refused("channels_last must be of type bool.*; got 1", channels_last=1)
    refused("encoder must be of type str; got 18", encoder=18)
    refused("width must be of type int.*; got '16'", width="16")
    refused("accumulate must be at most half of batch_size = 6; got 4", accumulate=4)


def test_batches_are_for_every_device():
    said = r"batch_size must be a multiple of devices \* nodes = 4, at least twice that; got "
    refused(f"{said}6", devices=2, nodes=2)
    refused(f"{said}4", devices=2, nodes=2, batch_size=4)
    refused(
        "accumulate must be at most half of batch_size = 12 / 2 devices; got 4", devices=2, batch_size=12, accumulate=4
    )
    replace(TINY, devices=2, batch_size=12, accumulate=3).check()


@pytest.mark.parametrize("config", [TINY, ImageConfig(), *RECIPES.values()])
def test_settings_survive_yaml(config):
    written = yaml.safe_dump(to_mapping(config.check()))
    assert from_mapping(yaml.safe_load(written), ImageConfig) == config
    assert "python" not in written


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete_and_name_their_source(name):
    config = RECIPES[name]
    constant = next(key for key, value in vars(recipes).items() if value is config)
    text = Path(recipes.__file__).read_text().split(f"\n{constant} = ")[1].split('"""')[1]
    assert any(source in text for source in ("arXiv", "github", "facebookresearch/", "solo-learn"))
    assert config.encoder in name.replace("cifar10-", "").replace("imagenet-", "") + "-"
    assert (config.epochs, config.steps) != (None, None)


def test_steps_are_epochs_of_full_batches():
    config = ImageConfig(epochs=3, batch_size=8)
    assert [config.steps_for(n) for n in (5, 8, 17, 24)] == [3, 3, 6, 9]
    assert replace(config, steps=7).steps_for(1000) == 7


def test_the_size_is_that_of_small_pictures():
    def found(height, width, **settings):
        return image_size(replace(TINY, image_size=None, **settings), GivenImages([pictures(1, height, width)[0]] * 2))

    assert [found(*size) for size in ((32, 32), (40, 30), (64, 64), (65, 65), (500, 375), (3, 5))] == [
        32, 30, 64, 224, 224, 8,
    ]  # fmt: skip
    views = views_of(replace(TINY, views="same-folder", small_views=1), 32)
    assert [view.size for view in views] == [32, 32, 14]
    assert views_of(TINY, 32)[0].blur == 0
    assert views_of(TINY, 96)[0].blur == 0.5
    assert [view.solarize for view in views_of(replace(TINY, views="official"), 32)] == [0, 0.2]


# Runs


def test_a_run_on_arrays_is_plain_pytorch_on_the_same_views():
    """The whole step against its definition: networks called one by one, the loss, SGD with LARS's own formula."""
    config = replace(TINY, views="crop", warmup_epochs=0.0, optimizer="lars")
    run, copy = (image_run(config, GivenImages(pictures()), machine("cpu")) for _ in range(2))
    before = copy.state.model.train()
    (branch,) = before.branches
    drawn = copy.feed.draw(0)
    values = VICRegLoss().terms(*(branch.expander(branch.encoder(view)) for view in drawn.views))
    values["total"].backward()
    state = run.state
    run = replace(run, how=replace(run.how, steps=1))
    state.steps = 1
    run.train()
    for name, value in state.history().items():
        assert value[0] == pytest.approx(values[name].item(), rel=1e-5), name
    rate = 0.5 * 6 / 256
    for (name, was), now in zip(before.named_parameters(), state.model.parameters(), strict=True):
        step = was.grad + (1e-4 * was if was.ndim > 1 else 0)
        if was.ndim > 1 and step.norm() > 0 and was.norm() > 0:
            step = step * 0.001 * was.norm() / step.norm()
        torch.testing.assert_close(
            now, was - rate * step, rtol=1e-4, atol=1e-7, msg=lambda said, name=name: name + said
        )


@pytest.mark.parametrize("settings", [{"small_views": 2, "small_size": 5}, {"views": "same-folder"}, {"shared": False}])
@pytest.mark.parametrize("source", ["resident", "opened"])
def test_views_reach_the_loss(settings, source):
    config = replace(TINY, steps=1, **settings)
    made = GivenImages(pictures()) if source == "resident" else Files()
    made.groups = np.arange(20) // 4
    one, other = (image_run(config, made, machine("cpu")) for _ in range(2))
    drawn = other.feed.draw(0)
    other.feed.close()
    branches = list(other.state.model.train().branches)
    branches = branches * len(drawn.views) if len(branches) == 1 else branches
    z = [branch.expander(branch.encoder(view)) for branch, view in zip(branches, drawn.views, strict=True)]
    n_large = 2 if config.small_views else None
    wanted = VICRegLoss()(*z, n_large=n_large).item()
    history = one.train().history()
    assert history["total"] == pytest.approx([wanted], rel=1e-5)
    assert len([name for name in history if name.startswith("variance")]) == len(drawn.views)
    if n_large:
        pairs = [(a - b).square().mean() for a, b in combinations(z, 2) if a is z[0] or a is z[1]]
        assert history["invariance"] == pytest.approx([torch.stack(pairs).mean().item()], rel=1e-4)


def test_a_run_learns_to_tell_pictures_apart():
    """Noisy copies of a few pictures: the loss falls, and new copies are nearest to those of the same picture."""
    clean = pictures(6, 2, 2).repeat(4, axis=1).repeat(4, axis=2)

    def noisy(copies, seed):
        noise = np.random.default_rng(seed).normal(0, 40, (copies, *clean.shape))
        return np.clip(clean + noise, 0, 255).astype(np.uint8).reshape(-1, 8, 8, 3)

    config = replace(TINY, steps=60, batch_size=48, optimizer="adamw", learning_rate=0.02, views="crop")
    state = image_run(config, GivenImages(noisy(8, 1)), machine("cpu")).train()
    total = state.history()["total"]
    assert np.mean(total[-5:]) < 0.7 * np.mean(total[:5])
    assert not state.model.training
    view = evaluation_view(8)
    with torch.no_grad():
        known, new = (
            state.model.encoder(view.finish(view.crop(torch.from_numpy(noisy(8, seed)).permute(0, 3, 1, 2))))
            for seed in (1, 2)
        )
    nearest = torch.cdist(new, known).argmin(1)
    assert float((nearest % 6 == torch.arange(48) % 6).float().mean()) > 0.9


def test_the_networks_are_drawn_from_the_seed():
    one, same, other = (
        image_run(replace(TINY, seed=seed), GivenImages(pictures()), machine("cpu")).train() for seed in (0, 0, 1)
    )
    assert torch.equal(one.terms, same.terms)
    assert not torch.equal(one.terms, other.terms)


def test_two_branches_differ_and_the_first_is_kept():
    state = prepared("resident", replace(TINY, shared=False)).state
    first, second = state.model.branches
    assert not torch.equal(first.encoder.conv1.weight, second.encoder.conv1.weight)
    assert state.model.encoder is first.encoder
    with pytest.raises(ValueError, match="encoder must be one module, or two with shared=False; got 2 modules"):
        prepared("resident", TINY, [small(), small()])
    pair = [small(), small()]
    state = prepared("resident", replace(TINY, shared=False), pair).state
    assert [type(branch.encoder) for branch in state.model.branches] == [Small, Small]
    assert state.model.encoder is not pair[0]


def test_a_users_encoder_is_copied_and_starts_as_it_is():
    encoder = small()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    run = prepared("resident", TINY, [encoder])
    assert all(torch.equal(before[name], value) for name, value in run.state.model.encoder.state_dict().items())
    run.train()
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert not torch.equal(before["first.weight"], run.state.model.encoder.first.weight)
    assert run.state.model.branches[0].expander[0].in_features == 24


def test_an_encoder_whose_output_is_no_vector_is_refused():
    said = r"encoder must give one vector for each sample, \(2, width\); got \(2, 24, 8, 8\). Pool its maps."
    with pytest.raises(ValueError, match=said):
        prepared("resident", TINY, [nn.Conv2d(3, 24, 3, padding=1)])


def test_a_run_starts_from_a_file_of_weights(tmp_path):
    donor = image_encoder("resnet18", 8, Generator().manual_seed(7), 16)
    heads = {"fc.weight": torch.zeros(10, 128), "fc.bias": torch.zeros(10)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in (donor.state_dict() | heads).items()}}, tmp_path / "w.pth")
    run = prepared("resident", replace(TINY, weights=str(tmp_path / "w.pth"), shared=False))
    for branch in run.state.model.branches:
        for name, value in donor.state_dict().items():
            assert torch.equal(branch.encoder.state_dict()[name], value)
    assert any("fc" in note for note in run.notes)
    assert list(run.notes) == load_weights(donor, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="resnet18"):
        prepared("resident", replace(TINY, weights=str(tmp_path / "w.pth"), width=8))
    with pytest.raises(ValueError, match=r"none.pth' must be a file of weights; got 'No such file or directory'"):
        prepared("resident", replace(TINY, weights=str(tmp_path / "none.pth")))


def test_what_is_wrong_with_the_networks_is_said_before_pictures_are_read():
    class Unread(GivenImages):
        array = None

        def opened(self, index):
            raise AssertionError("was opened")

    for settings in ({"encoder": "resnet19"}, {"encoder": "resnet18", "weights": "nowhere.pth"}):
        source = Unread([pictures(1)[0]] * 4)
        with pytest.raises(ValueError, match="encoder must be one of|nowhere.pth"):
            image_run(replace(TINY, image_size=8, **settings), source, machine("cpu"))


@pytest.mark.parametrize("count", [2, 5])
def test_fewer_pictures_than_a_batch_are_one_batch(count):
    run = image_run(replace(TINY, batch_size=256, steps=None, epochs=2), GivenImages(pictures(count)), machine("cpu"))
    assert run.how.learning_rate == 0.5 * count / 256
    assert (run.state.steps, run.epoch) == (2, 1)
    assert run.train().joint.z[0].shape == (count, 32)


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match="the pictures must be at least 2 to learn from; got 1"):
        image_run(TINY, GivenImages(pictures(1)), machine("cpu"))
    place = replace(machine("cpu"), count=3)
    with pytest.raises(ValueError, match="the pictures must be at least 6 to learn from on 3 devices; got 5"):
        image_run(TINY, GivenImages(pictures(5)), place)


def test_corrupt_pictures_are_left_out_of_a_resident_run(tmp_path):
    for index, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / f"{index:02}.png")
    (tmp_path / "07.png").write_bytes(b"nothing")
    source = GivenImages(sorted(tmp_path.iterdir()))
    run = image_run(replace(TINY, batch_size=19), source, machine("cpu"), codes=np.arange(20))
    assert run.ledger.names == [str(tmp_path / "07.png")]
    assert sorted(run.feed.draw(0).labels.tolist()) == [k for k in range(20) if k != 7]
    with pytest.raises(ValueError, match=r"corrupt pictures must be at most 0 of all \(--max-corrupt\); got 1 of 20"):
        image_run(replace(TINY, max_corrupt=0.0), source, machine("cpu"))


def test_an_error_in_a_thread_ends_the_run_and_leaves_no_threads():
    class Bad(Files):
        def opened(self, index):
            if index == 13 and self.broken:
                raise RuntimeError("the disk is gone")
            return super().opened(index)

        broken = False

    source = Bad()
    run = image_run(replace(TINY, steps=20), source, machine("cpu"))
    source.broken = True
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run.train()
    assert not [one for one in threading.enumerate() if one.name.startswith("vicreg-pictures")]


def test_shards_ask_for_steps_and_own_pictures(tmp_path):
    where = tars(tmp_path)
    with pytest.raises(ValueError, match="steps must be given for shards; got None. Nobody knows how many"):
        shard_run(replace(TINY, steps=None), where, machine("cpu"))
    with pytest.raises(ValueError, match="views must be of one picture each in shards; got same-folder"):
        shard_run(replace(TINY, views="same-folder"), where, machine("cpu"))
    with pytest.raises(ValueError, match="views must be others for pictures without folders; got same-folder"):
        image_run(replace(TINY, views="same-folder"), GivenImages(pictures()), machine("cpu"))
    run = shard_run(replace(TINY, image_size=None, encoder="resnet18"), where, machine("cpu"))
    assert run.size == 224
    run.feed.close()


# Going on


CASES = [
    ("resident", {"optimizer": "lars"}),
    ("resident", {"optimizer": "larc", "channels_last": True}),
    ("resident", {"optimizer": "adamw", "accumulate": 2}),
    ("resident", {"optimizer": "adamw", "precision": "bf16-mixed", "small_views": 1, "small_size": 8}),
    ("opened", {"optimizer": "larc", "shared": False}),
    ("opened", {"optimizer": "adamw", "views": "same-folder"}),
    ("shards", {"optimizer": "larc"}),
    ("shards", {"optimizer": "adamw", "channels_last": False}),
]


@pytest.mark.parametrize(("source", "settings"), CASES)
@pytest.mark.parametrize("own", [False, True])
def test_a_run_that_goes_on_is_bit_identical(tmp_path, source, settings, own):
    config = replace(TINY, steps=6, **settings)
    encoders = [small(dropout=0.3)] if own else []
    where = tars(tmp_path) if source == "shards" else None
    kept = {}

    def keep(state):
        if state.step == 4:
            kept.update(tensors={k: v.clone() for k, v in state.tensors().items()}, plain=state.plain())

    torch.manual_seed(11)
    outside = torch.get_rng_state()
    whole = prepared(source, config, encoders, where)
    whole.train([keep])
    again = prepared(source, config, encoders, where)
    again.state.restore(kept["tensors"], yaml.safe_load(yaml.safe_dump(kept["plain"])))
    again.train()
    assert torch.equal(whole.state.terms, again.state.terms)
    for name, value in weights(whole.state).items():
        assert torch.equal(value, weights(again.state)[name]), name
    assert torch.isfinite(whole.state.terms).all()
    if not own:
        assert torch.equal(torch.get_rng_state(), outside)


def test_resuming_another_run_is_refused():
    kept = prepared("resident", TINY).train()
    with pytest.raises(ValueError, match="checkpoint must fit the run's networks; got other tensors"):
        prepared("resident", replace(TINY, expander=(16,))).state.restore(kept.tensors(), kept.plain())
    with pytest.raises(ValueError, match="checkpoint must be of a run of 9 steps; got 4"):
        prepared("resident", replace(TINY, steps=9)).state.restore(kept.tensors(), kept.plain())


# Layout, precision, compiling


def test_layout_changes_nothing_but_rounding():
    first, last = (prepared("resident", replace(TINY, channels_last=one, steps=2)) for one in (False, True))
    assert not first.how.channels_last
    assert last.state.model.encoder.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.train().terms, first.train().terms, rtol=1e-3, atol=1e-4)


def test_channels_last_is_left_where_it_would_abort():
    assert not channels_last_is_safe(nn.Conv2d(8, 8, 1, stride=2))
    assert channels_last_is_safe(nn.Conv2d(16, 32, 1, stride=2))
    assert channels_last_is_safe(nn.Conv2d(8, 8, 3, stride=2))
    assert not prepared("resident", replace(TINY, width=8)).how.channels_last
    assert prepared("resident", TINY).how.channels_last


def test_mixed_precision_keeps_the_loss_in_float32():
    single, mixed = (prepared("resident", replace(TINY, precision=one)) for one in ("32-true", "bf16-mixed"))
    one, other = single.train(), mixed.train()
    assert other.terms.dtype == torch.float32
    assert {value.dtype for name, value in weights(other).items() if "tracked" not in name} == {torch.float32}
    assert not torch.equal(one.terms, other.terms)
    torch.testing.assert_close(one.terms[0], other.terms[0], rtol=0.05, atol=0.05)
    z = other.joint.z[0]
    assert not torch.equal(z, z.bfloat16().float()) or z.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own, inside its compiler
@pytest.mark.parametrize("accumulate", [1, 2])
def test_compiled_networks_give_the_same(accumulate):
    config = replace(TINY, steps=3, accumulate=accumulate, learning_rate=0.1)
    eager, compiled = (
        prepared("resident", config, [small()]),
        prepared("resident", replace(config, compile=True), [small()]),
    )
    one, other = eager.train(), compiled.train()
    torch.testing.assert_close(one.terms, other.terms, rtol=1e-4, atol=1e-5)
    assert list(one.tensors()) == list(other.tensors())
    assert not [name for name in other.tensors() if "_orig_mod" in name]


# Machines


def test_machines_that_are_not_there_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="precision must be '32-true' or 'bf16-mixed' on the CPU; got '16-mixed'"):
        machine("cpu", precision="16-mixed")
    with pytest.raises(ValueError, match="devices must be at most the .* cores of this machine; got 100000"):
        machine("cpu", devices=100000)
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:N or mps; got 'gpu'"):
        machine("gpu")
    monkeypatch.setattr("vicreg.training.engine.device_of", torch.device)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    with pytest.raises(ValueError, match=r"devices \* nodes must be 1 on mps; got 2"):
        machine("mps", devices=2)
    with pytest.raises(ValueError, match="devices must be at most the 3 GPUs of this machine; got 4"):
        machine("cuda", devices=4)
    with pytest.raises(
        ValueError, match="device must have no number where there are several; got cuda:1. Try device='cuda'"
    ):
        machine("cuda:1", devices=2)


def test_processes_that_nobody_asked_for_are_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = r"devices \* nodes must be the 2 processes that torchrun started; got {}. Try devices=2."
    with pytest.raises(ValueError, match=said.format(1)):
        prepared("resident", TINY)
    with pytest.raises(ValueError, match=said.format(2 * 3)):
        machine("cpu", devices=2, nodes=3)


def together(rank, world, settings, dropout):
    """A run on one of several processes, or on one alone: its terms, its weights and the rows it saw."""
    config = replace(TINY, batch_size=12, steps=3, warmup_epochs=0.0, views="crop", expander=(), **settings)
    place = machine("cpu", devices=world) if world > 1 else machine("cpu")
    assert (place.rank, place.count) == (rank, world)
    run = image_run(config, GivenImages(pictures()), place, np.arange(20), encoders=[small(dropout)])
    if world == 1:  # the views of both processes, as they would draw them
        feeds = [replace_rank(run.feed, k) for k in range(2)]
        run = replace(run, feed=Both(feeds))
    seen = []
    state = run.train([lambda state: seen.append(state.drawn.labels.tolist())])
    return state.terms.tolist(), {name: value.tolist() for name, value in state.model.state_dict().items()}, seen


def replace_rank(feed, rank):
    return type(feed)(feed.array, feed.views, replace(feed.deal, rank=rank, count=2), feed.labels, feed.n_large)


class Both:
    """What two processes draw, as one batch."""

    def __init__(self, feeds):
        self.feeds = feeds

    def draw(self, step):
        drawn = [feed.draw(step) for feed in self.feeds]
        views = [torch.cat(parts) for parts in zip(*(one.views for one in drawn), strict=True)]
        return replace(drawn[0], views=views, labels=torch.cat([one.labels for one in drawn]))

    def position(self):
        return {}

    def close(self):
        pass


@pytest.mark.parametrize(
    "settings", [{}, {"accumulate": 3}, {"small_views": 1, "optimizer": "adamw"}, {"shared": False}]
)
def test_two_processes_learn_what_one_would(pools, settings):
    alone = together(0, 1, settings, 0.0)
    terms, found, seen = zip(*pools(2).run(together, 2, settings, 0.0), strict=True)
    assert terms[0] == terms[1]
    torch.testing.assert_close(torch.tensor(terms[0]), torch.tensor(alone[0]), rtol=1e-4, atol=1e-5)
    for name, wanted in alone[1].items():
        assert found[0][name] == found[1][name], name
        torch.testing.assert_close(torch.tensor(found[0][name]), torch.tensor(wanted), rtol=1e-3, atol=1e-5)
    for step in range(3):
        assert seen[0][step] + seen[1][step] == alone[2][step]
        assert len(set(alone[2][step])) == 12


SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch

from vicreg.data import GivenImages
from vicreg.training.config import ImageConfig
from vicreg.training.engine import machine
from vicreg.training.image import image_run

if __name__ == "__main__":
    place = machine("cpu", devices=2)
    pictures = np.random.default_rng(0).integers(256, size=(20, 8, 8, 3), dtype=np.uint8)
    config = ImageConfig(width=16, expander=(32,), batch_size=8, steps=3, accumulate=2, device="cpu", devices=2)
    state = image_run(config, GivenImages(pictures), place).train()
    with torch.no_grad():
        checksum = sum(float(one.double().sum()) for one in state.model.parameters())
    said = f"{place.count} {state.step} {state.terms[-1, -1].item()} {checksum}"
    Path(sys.argv[1], f"rank-{place.rank}").write_text(said)
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], []])
def test_processes_are_started_by_torchrun_or_by_ourselves(tmp_path, launcher):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / f"rank-{rank}").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("2 3 ")

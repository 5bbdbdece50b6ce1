"""The relatives as objectives: by name, joined, over processes, in runs."""

import copy
import math
import pickle
import tarfile
from dataclasses import replace
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from commands import QUICK, people
from commands import run as command
from PIL import Image
from sklearn.datasets import load_digits
from torch import Generator, nn

from vicreg.data import Corrupt, GivenImages, Shards
from vicreg.functional import rankme, terms
from vicreg.functional.contrastive import nt_xent
from vicreg.functional.correlation import correlation, cross_diagonal, cross_off_diagonal
from vicreg.functional.local import matched, middles
from vicreg.functional.prediction import deviation, prediction_error
from vicreg.functional.sliced import centre, directions, epps_pulley, scale, shape
from vicreg.networks import Branch, JointEmbedding, expander, image_encoder
from vicreg.objectives import OBJECTIVES, Outputs, Term, objective_of, relatives, vicreg
from vicreg.objectives.batchwise import EachPair, EachSliced, described
from vicreg.training.collection import Deal, Partners
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.engine import machine
from vicreg.training.feed import Order, full_batches
from vicreg.training.image import image_run
from vicreg.training.momentum import rising, steady
from vicreg.training.pictures import OpenedPictures, ResidentPictures
from vicreg.training.settings import from_mapping
from vicreg.training.shards import ShardPictures
from vicreg.training.signal_config import SignalConfig
from vicreg.training.table import one_pass, table_run
from vicreg.views import image_views, table_views

JOINED = ["byol+variance", "simsiam+variance+covariance", "vicreg+sigreg", "barlow_twins+visreg", "simclr+correlation"]
ON_TABLES = [name for name in OBJECTIVES if name != "vicregl"]


def normal(*size, seed=0):
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def made(views=2, n=10, d=6, n_large=None):
    """Outputs with every field; leaves."""

    def field(*size, seed):
        return tuple((normal(n, *size, seed=seed + i) * 1.5 + i).requires_grad_() for i in range(views))

    z, p, target, maps = field(d, seed=0), field(d, seed=10), field(d, seed=20), field(4, d, seed=30)
    shown = [torch.tensor([0.0, 0.0, 20.0, 20.0, 0.0]) + 10 * normal(n, 5, seed=40 + i).abs() for i in range(views)]
    cuts = tuple(torch.cat((cut[:, :4], cut[:, 4:] > 7), dim=1) for cut in shown)
    return Outputs(x=None, h=z, z=z, p=p, target=target[: n_large or views], maps=maps, cuts=cuts, n_large=n_large)


def fields_of(outputs):
    return [*outputs.z, *outputs.p, *outputs.maps]


# What each is


def pairs(views, large):
    return [(i, j) for i in range(views) for j in range(views) if i != j and min(i, j) < large]


def expected(name, outputs):
    """Each method's total from its formulas; the directions are drawn as the objective draws them."""
    z, large = outputs.z, outputs.n_large or len(outputs.z)
    every = pairs(len(z), large)
    mean = lambda fn, one=z: sum(fn(one[i], one[j]) for i, j in every) / len(every)  # noqa: E731
    each = lambda fn: sum(fn(one) for one in z) / len(z)  # noqa: E731
    if name == "barlow_twins":
        return mean(cross_diagonal) + 5e-3 * mean(cross_off_diagonal)
    if name == "simclr":
        return mean(partial(nt_xent, temperature=0.1))
    if name == "byol":
        return 2 * prediction_error(outputs.p, outputs.target)
    if name == "simsiam":
        return 0.5 * prediction_error(outputs.p, z)
    if name == "vibcreg":
        return 25 * mean(terms.invariance) + 50 * each(terms.variance) + 400 * each(correlation)
    if name == "vicregl":

        def vic(a, b):
            both = [25 * terms.variance(one) + terms.covariance(one) for one in (a, b)]
            return 25 * terms.invariance(a, b) + sum(both) / 2

        whole = 25 * mean(terms.invariance) + 25 * each(terms.variance) + each(terms.covariance)
        local = mean(lambda a, b: vic(*matched(a, b)), outputs.maps)
        points = [middles(cut, 4) for cut in outputs.cuts]
        near = [vic(*matched(outputs.maps[i], outputs.maps[j], 2, (points[i], points[j]))) for i, j in every]
        return 0.75 * whole + 0.25 * (local + sum(near) / len(near))
    along = directions(z[0], 256)
    if name == "sigreg":
        return 0.95 * deviation(z, large) + 0.05 * each(lambda one: epps_pulley(one, along))
    if name == "visreg":
        reg = each(scale) + each(lambda one: shape(one, along)) + each(centre)
        return 0.4 * deviation(z, large) + 0.6 * reg
    return 25 * mean(terms.invariance) + 25 * each(terms.variance) + 2 * each(terms.covariance)


@pytest.mark.parametrize(("views", "n_large"), [(2, None), (4, 2)])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_is_its_formula(name, views, n_large):
    outputs = made(views, n_large=n_large)
    torch.manual_seed(1)
    total, _ = OBJECTIVES[name]()(outputs)
    torch.manual_seed(1)
    wanted = expected(name, outputs)
    assert total.item() == pytest.approx(wanted.item(), rel=1e-9)
    ours = torch.autograd.grad(total, fields_of(outputs), allow_unused=True)
    theirs = torch.autograd.grad(wanted, fields_of(outputs), allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        zero = torch.zeros(())
        torch.testing.assert_close(zero.double() if one is None else one, zero.double() if other is None else other)


@pytest.mark.parametrize("name", [*OBJECTIVES, *JOINED])
def test_contract(name):
    """Finite, differentiable, the same from the same seed, picklable, its terms detached."""
    objective, outputs = objective_of(name), made()
    found = []
    for one in (objective, objective, pickle.loads(pickle.dumps(objective)), copy.deepcopy(objective)):
        torch.manual_seed(2)
        total, values = one(outputs)
        gradients = torch.autograd.grad(total, fields_of(outputs), allow_unused=True)
        assert total.isfinite()
        assert all(value.isfinite() and value.ndim == 0 and not value.requires_grad for value in values.values())
        assert any(one is not None and one.abs().max() > 0 for one in gradients)
        found.append((total.item(), [None if one is None else one.tolist() for one in gradients]))
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("name", ["sigreg", "visreg"])
def test_directions_are_new_each_time(name):
    outputs = made()
    torch.manual_seed(2)
    assert OBJECTIVES[name]()(outputs)[0].item() != OBJECTIVES[name]()(outputs)[0].item()


def test_what_is_said_of_settings_is_the_same_on_every_machine():
    for name in [*OBJECTIVES, *JOINED]:
        for term in objective_of(name).values():
            assert "0x" not in described(term.fn)
    assert described(EachPair(partial(nt_xent, temperature=0.5))) == "EachPair(fn=nt_xent(temperature=0.5), least=2)"
    assert described(EachSliced(shape, 4)) == "EachSliced(fn=shape, slices=4)"


# By name


def test_terms_join_a_method():
    joined = objective_of("byol+variance+covariance")
    assert list(joined) == ["prediction", "variance", "covariance"]
    assert (joined["variance"].weight, joined["covariance"].weight) == (1.0, 0.01)
    assert joined.needs == {"predictor", "target"}
    assert joined == relatives.byol() | {
        "variance": Term(1.0, terms.variance),
        "covariance": Term(0.01, terms.covariance),
    }
    assert list(objective_of("vicreg + sigreg")) == ["invariance", "variance", "covariance", "sigreg"]
    assert list(objective_of("simclr+visreg")) == ["nt_xent", "scale", "shape", "centre"]
    assert list(objective_of("simclr+barlow_twins")) == ["nt_xent", "diagonal", "off_diagonal"]


def test_settings_are_vicreg_s():
    named = objective_of("vicreg", sim_coeff=10.0, cov_coeff=0.0, variance_target=2.0)
    assert named(made())[0].item() == vicreg(10.0, cov_coeff=0.0, variance_target=2.0)(made())[0].item()
    assert objective_of("simclr+vicreg", sim_coeff=10.0)["invariance"].weight == 10.0
    assert objective_of("vibcreg", sim_coeff=25.0)["invariance"].weight == 25.0


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("vicrge", r"objective must be one of 'barlow_twins', .*; got 'vicrge'\. Did you mean 'vicreg' or 'vicregl'\?"),
        ("SimCLR", r"got 'SimCLR'\. Did you mean 'simclr'"),
        ("zzz", r"got 'zzz'\.$"),
        ("", r"objective must be one of .*; got ''"),
        ("variance", r"objective must be one of"),
        (
            "byol+varience",
            r"is joined with must be one of .*; got 'varience' in 'byol\+varience'\. Did you mean 'v",
        ),
        ("byol+", r"got '' in 'byol\+'"),
        ("vicreg+variance", r"objective must have each term once; got 'variance' twice in 'vicreg\+variance'"),
        ("byol+variance+variance", r"objective must have each term once; got 'variance' twice"),
        ("byol+simsiam", r"objective must have each term once; got 'prediction' twice"),
        ("vicreg+vibcreg", r"objective must have each term once; got 'invariance', 'variance' twice"),
    ],
)
def test_names_that_are_none(name, match):
    with pytest.raises(ValueError, match=match):
        objective_of(name)


def test_settings_without_effect_are_refused():
    said = r"std_coeff must be left at 25.0 with objective 'byol\+variance'; got 3.0. Only vicreg has it"
    with pytest.raises(ValueError, match=said):
        objective_of("byol+variance", std_coeff=3.0)
    for kind in (TableConfig, ImageConfig):
        with pytest.raises(ValueError, match=r"sim_coeff must be left at 25.0 with objective 'simclr'; got 1.0"):
            from_mapping({"objective": "simclr", "sim_coeff": 1.0}, kind)
        with pytest.raises(ValueError, match=r"objective must be one of .*; got 'vicrge'. Did you mean 'vicreg'"):
            kind(objective="vicrge").check()
    with pytest.raises(
        ValueError, match=r"objective must need no feature maps on a table; got 'vicregl'. Pictures have"
    ):
        TableConfig(objective="vicregl").check()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: relatives.barlow_twins(-1.0), ValueError, "off_coeff must be a finite number of at least 0; got -1"),
        (lambda: relatives.simclr(0.0), ValueError, "temperature must be a finite number above 0; got 0"),
        (lambda: relatives.vibcreg(corr_coeff=-1), ValueError, "corr_coeff must be a finite number of at least 0"),
        (lambda: relatives.vicregl(1.5), ValueError, "alpha must be a finite number of at least 0 and at most 1"),
        (lambda: relatives.vicregl(matches=0), ValueError, "matches must be at least 1; got 0"),
        (lambda: relatives.vicregl(nearest=2), ValueError, "nearest must be a finite number of at least 0 and at most"),
        (
            lambda: OBJECTIVES["vicregl"]()(replace(made(), cuts=None)),
            ValueError,
            r"Outputs.cuts must be given; got None. The term 'located' acts on it",
        ),
        (lambda: relatives.sigreg(2.0), ValueError, "sig_coeff must be a finite number of at least 0 and at most 1"),
        (lambda: relatives.sigreg(slices=0), ValueError, "slices must be at least 1; got 0"),
        (lambda: relatives.visreg("a"), TypeError, "reg_coeff must be a number; got 'a'"),
        (lambda: relatives.gaussian(-1.0), ValueError, "weight must be a finite number of at least 0"),
        (lambda: Term(1.0, terms.variance, on="n_large"), ValueError, "on must be one of .*; got 'n_large'"),
        (
            lambda: OBJECTIVES["byol"]()(replace(made(), target=None)),
            ValueError,
            r"Outputs.target must be given; got None. The term 'prediction' acts on it",
        ),
        (
            lambda: OBJECTIVES["simclr"]()(replace(made(), z=(normal(4, 3), normal(4, 2)))),
            ValueError,
            r"z_a and z_b must have the same shape",
        ),
        (
            lambda: OBJECTIVES["sigreg"]()(made(n=1)),
            ValueError,
            "z must have at least 2 rows",
        ),
    ],
)
def test_messages(call, error, match):
    with pytest.raises(error, match=match):
        call()


# Over processes


def split(outputs, rows, rank):
    """A process's rows of every field, by way of a linear map, whose gradient all processes' rows make up."""
    weight = normal(6, outputs.z[0].shape[1], seed=99).requires_grad_()

    def own(views):
        return tuple(torch.split(one.detach(), rows)[rank][..., :6] @ weight for one in views)

    parts = {name: own(getattr(outputs, name)) for name in ("z", "p", "target", "maps")}
    cuts = tuple(torch.split(cut, rows)[rank] for cut in outputs.cuts)
    return weight, Outputs(x=None, h=parts["z"], n_large=outputs.n_large, cuts=cuts, **parts)


def by_one(name, rows, d, views, n_large):
    weight, outputs = split(made(views, sum(rows), d, n_large), (sum(rows),), 0)
    torch.manual_seed(0)
    total, values = objective_of(name)(outputs)
    total.backward()
    return {key: value.item() for key, value in values.items()} | {"total": total.item()}, weight.grad


def by_many(rank, name, rows, d, views, n_large):
    weight, outputs = split(made(views, sum(rows), d, n_large), rows, rank)
    torch.manual_seed(rank)  # directions are the first process's
    total, values = objective_of(name)(outputs)
    total.backward()
    gradient = weight.grad
    torch.distributed.all_reduce(gradient)
    found = {key: value.item() for key, value in values.items()} | {"total": total.item()}
    return found, (gradient / len(rows)).tolist()


@pytest.mark.parametrize(
    ("rows", "d", "views", "n_large"), [((7, 4), 6, 2, None), ((1, 9), 40, 2, None), ((5, 3), 6, 4, 2)]
)
@pytest.mark.parametrize("name", [*OBJECTIVES, *JOINED])
def test_over_processes_it_is_that_of_the_global_batch(pools, name, rows, d, views, n_large):
    values, gradient = by_one(name, rows, d, views, n_large)
    for found, own in pools(2).run(by_many, name, rows, d, views, n_large):
        assert found == pytest.approx(values, rel=1e-8)
        torch.testing.assert_close(torch.tensor(own, dtype=torch.float64), gradient, rtol=1e-7, atol=1e-8)


def faulty(rank, name):
    outputs = made(n=4)
    if rank == 1:
        outputs = replace(outputs, z=(outputs.z[0][:, :3], outputs.z[1][:, :3]))
    try:
        objective_of(name)(outputs)
    except ValueError as error:
        return str(error)
    return "none"


@pytest.mark.parametrize("name", ["barlow_twins", "simclr", "sigreg", "simsiam"])
def test_a_fault_of_one_process_is_the_same_error_on_all(pools, name):
    first, second = pools(2).run(faulty, name)
    assert first == second
    assert first.startswith("What the loss is called on must be alike on every process; got")


# Predictor and target


def tiny(**options):
    return JointEmbedding([Branch(expander(4, (8, 3)), expander(3, (8, 6)))], **options)


def test_an_averaged_target_follows_in_closed_form():
    """t_k = (product of m) t_0 + sum_i (1 - m_i) (product of the later m) w_i."""
    torch.manual_seed(0)
    joint = tiny(averaged=True).double()
    start = [one.clone() for one in joint.target.parameters()]
    rates, walked = [0.9, 0.5, 0.99], []
    for rate in rates:
        with torch.no_grad():
            for one in joint.branches.parameters():
                one.add_(torch.randn_like(one))
        walked.append([one.detach().clone() for one in joint.branches.parameters()])
        joint.follow(rate)
    for i, (one, first) in enumerate(zip(joint.target.parameters(), start, strict=True)):
        wanted = math.prod(rates) * first
        for k, rate in enumerate(rates):
            wanted = wanted + (1 - rate) * math.prod(rates[k + 1 :]) * walked[k][i]
        torch.testing.assert_close(one, wanted)
        assert not one.requires_grad


def test_targets_and_predictions_are_of_the_right_views():
    predictors = [nn.Linear(6, 6)]
    joint = tiny(averaged=True, predictors=predictors, n_large=2)
    views = [torch.randn(5, 4) for _ in range(3)]
    made = joint.eval()(views)
    assert (len(made.p), len(made.target), made.maps, made.decoded) == (3, 2, None, None)
    for i in range(3):
        torch.testing.assert_close(made.p[i], predictors[0](made.z[i]))
    for i in range(2):
        assert not made.target[i].requires_grad
        torch.testing.assert_close(made.target[i], made.z[i])  # it has not moved yet
    with torch.no_grad():
        joint.branches[0].encoder[1].weight.zero_()
    assert not torch.equal(joint(views).target[0], joint(views).z[0])


def test_separate_branches_have_separate_targets_and_predictors():
    branches = [Branch(nn.Linear(4, 3), nn.Linear(3, 6)) for _ in range(2)]
    joint = JointEmbedding(branches, predictors=[nn.Linear(6, 6), nn.Linear(6, 6)], averaged=True)
    made = joint([torch.ones(5, 4), torch.ones(5, 4)])
    assert not torch.equal(made.target[0], made.target[1])
    assert not torch.equal(made.p[0], made.p[1])
    with pytest.raises(ValueError, match="predictors must be one for each of 2 branches; got 1"):
        JointEmbedding(branches, predictors=[nn.Identity()])


def test_the_target_s_batch_norm_is_that_of_the_batch_in_training():
    joint = tiny(averaged=True)
    batch = 5 * torch.randn(20, 4) + 3
    in_training = joint.train()([batch, batch]).target[0]
    torch.testing.assert_close(in_training, joint([batch, batch]).z[0])
    assert joint.target.training


def test_momentum_rises_as_byol_s():
    assert rising(0, 100) == pytest.approx(0.99)
    assert rising(100, 100) == 1.0
    assert rising(30, 100, 0.996) == pytest.approx(1 - 0.004 * (math.cos(0.3 * math.pi) + 1) / 2)
    assert steady(7, 10) == steady(0, 1) == 0.99


# Feature maps


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_encoders_show_their_maps(name):
    encoder = image_encoder(name, 16, Generator().manual_seed(0), 16 if name == "resnet18" else 64).eval()
    pictures = torch.rand(3, 3, 16, 16)
    h, maps = encoder.with_maps(pictures)
    torch.testing.assert_close(h, encoder(pictures))
    torch.testing.assert_close(maps, encoder.maps(pictures))


def test_local_embeddings_are_of_each_place():
    encoder = image_encoder("resnet18", 32, Generator().manual_seed(0), 8)
    head = nn.Linear(encoder.width, 5)
    joint = JointEmbedding([Branch(encoder, nn.Identity(), head)]).eval()
    pictures = torch.rand(3, 3, 32, 32)
    (local, _), maps = joint([pictures, pictures]).maps, encoder.maps(pictures)
    assert local.shape == (3, maps.shape[2] * maps.shape[3], 5)
    torch.testing.assert_close(local[1, maps.shape[3]], head(maps[1, :, 1, 0]))
    with pytest.raises(TypeError, match=r"encoder must have a method with_maps\(x\) .*; got Linear"):
        Branch(nn.Linear(3, 4), nn.Identity(), head)


# Where views were cut out


def coordinates(height, width):
    """A picture whose red is the row and whose green is the column, four levels a pixel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((4 * rows, 4 * columns, 0 * rows), axis=2).astype(np.uint8)


def read_off(view, mean, std, side=4):
    """Middles of a view's places as the picture itself tells them, (b, side^2, 2)."""
    levels = 255 * (view * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None])
    places = nn.functional.avg_pool2d(levels[:, :2], view.shape[2] // side)
    return places.flatten(2).mT / 4 + 0.5


def feeds_of(kind, tmp_path):
    """Draws of two large crops and one small, which flip, of pictures that tell where they are."""
    views = image_views("crop", 24, n_small=1, small_size=12)
    order = Order(full_batches(8, 8), 8, seed=3)
    if kind == "resident":
        array = torch.from_numpy(np.stack([coordinates(48, 48)] * 8))
        return views, ResidentPictures(array, views, Deal(order), n_large=2)
    images = [coordinates(40 + 2 * i, 60 - 3 * i) for i in range(8)]
    if kind == "opened":
        source = GivenImages(images)
        return views, OpenedPictures(source, views, Deal(order), 1, torch.device("cpu"), Corrupt(0.05, of=8), 1)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i, image in enumerate(images):
            buffer = BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            entry = tarfile.TarInfo(f"{i}.png")
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)
    return views, ShardPictures(Shards(str(tmp_path / "a.tar"), 3), views, 8, 3, machine("cpu"), 1, 2)


@pytest.mark.parametrize("kind", ["resident", "opened", "shards"])
def test_feeds_say_where_views_were_cut_out(kind, tmp_path):
    views, feed = feeds_of(kind, tmp_path)
    drawn = feed.draw(0)
    feed.close()
    assert {bool(flag) for cut in drawn.cuts for flag in cut[:, 4]} == {True, False}
    for view, shown, cut in zip(views, drawn.views, drawn.cuts, strict=True):
        assert cut.shape == (8, 5)
        torch.testing.assert_close(read_off(shown, view.mean, view.std), middles(cut, 16), rtol=0, atol=0.8)


def test_views_of_two_pictures_have_no_place_in_common():
    order = Order(full_batches(4, 4), 4, seed=0)
    deal = Deal(order, partners=Partners(np.zeros(4, dtype=np.int64)))
    array = torch.from_numpy(np.stack([coordinates(16, 16)] * 4))
    assert ResidentPictures(array, image_views("crop", 8), deal).draw(0).cuts is None
    source = GivenImages([coordinates(16, 16)] * 4)
    feed = OpenedPictures(source, image_views("crop", 8), deal, 1, torch.device("cpu"), Corrupt(0.05, of=4), 1)
    assert feed.draw(0).cuts is None
    feed.close()
    with pytest.raises(ValueError, match="objective must match no places by where they are with views 'same-folder'"):
        ImageConfig(objective="vicregl", views="same-folder").check()


def test_places_that_show_the_same_are_matched():
    """The same picture, once flipped: by where they are, places find those that show what they show."""
    cuts = (torch.tensor([[0.0, 0.0, 8.0, 8.0, 0.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0, 1.0]]))
    maps = torch.arange(16.0).view(1, 4, 4)
    pair = (maps.reshape(1, 16, 1), maps.flip(2).reshape(1, 16, 1))
    found = matched(*pair, None, tuple(middles(cut, 16) for cut in cuts))
    assert torch.equal(*found)


def test_signals_have_feature_matches_alone():
    assert list(SignalConfig(objective="vicregl").named()) == ["invariance", "variance", "covariance", "local"]


# Runs on tables

DIGITS = load_digits().data.astype(np.float32)
DIGITS = ((DIGITS - DIGITS.mean(axis=0)) / (DIGITS.std(axis=0) + 1e-6))[:600]


def table(name, steps, **settings):
    options = {"reconstruction": 0.0, "batch_size": 128, "encoder": (64,), "expander": (64, 64), "n_components": 8}
    config = TableConfig(objective=name, steps=steps, device="cpu", **{**options, **settings})
    return config, table_run(config, DIGITS, np.arange(64), table_views("marginal"))


def spread(state):
    """Rank of the representations; and how far the embeddings' directions are spread: 1 all over, 0 all rows in one."""
    with torch.no_grad():
        h, z = state.model.branches[0](torch.from_numpy(DIGITS))
    return rankme(h).item(), nn.functional.normalize(z, dim=1).var(dim=0).sum().item()


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("name", [*ON_TABLES, *JOINED])
def test_none_collapses(name, linear_path):
    """From whitened principal components, and from anywhere."""
    rank, directions_apart = spread(table(name, 60, linear_path=linear_path, learning_rate=3e-3)[1].train())
    assert rank > 5
    assert directions_apart > 0.5


def test_without_what_keeps_it_up_it_collapses():
    """The bounds above tell."""
    run = table("vicreg", 150, std_coeff=0.0, cov_coeff=0.0, linear_path=False, learning_rate=3e-3)[1]
    assert spread(run.train())[1] < 0.2


def kept(run, at):
    found = {}

    def stop(state):
        if state.step == at:
            found.update(tensors={k: v.clone() for k, v in state.tensors().items()}, plain=state.plain())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train([stop])
    return found


@pytest.mark.parametrize("name", ["byol+variance", "simsiam", "sigreg", "visreg"])
def test_resumed_is_bit_identical(name):
    whole = table(name, 8)[1].train()
    found = kept(table(name, 8)[1], 5)
    if "byol" in name:
        assert any(key.startswith("model.target.") for key in found["tensors"])
    again = table(name, 8)[1]
    again.state.restore(found["tensors"], found["plain"])
    state = again.train()
    assert torch.equal(whole.terms, state.terms)
    for one, other in zip(whole.model.state_dict().values(), state.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_loop_averages_the_target_and_trains_it_not():
    run = table("byol", 6)[1]
    slow = [one.clone() for one in run.state.model.target.parameters()]
    weights = {id(one) for group in run.state.optimizer.param_groups for one in group["params"]}
    assert not weights & {id(one) for one in run.state.model.target.parameters()}
    assert {id(one) for one in run.state.model.predictors.parameters()} <= weights

    def follow(state):
        rate = 1 - 0.01 * (math.cos(math.pi * (state.step - 1) / 6) + 1) / 2
        for one, fast in zip(slow, state.model.branches.parameters(), strict=True):
            one.mul_(rate).add_(fast.detach(), alpha=1 - rate)

    state = run.train([follow])
    for one, wanted in zip(state.model.target.parameters(), slow, strict=True):
        torch.testing.assert_close(one, wanted)
        assert one.grad is None


def test_predictors_are_as_published():
    """BYOL's hidden layer is as wide as the expander's, SimSiam's a quarter of the embedding."""
    wide = table("byol", 1, expander=(48, 32))[1].state.model.predictors[0]
    narrow = table("simsiam", 1, expander=(48, 32))[1].state.model
    widths = lambda net: [tuple(one.shape) for one in net.parameters() if one.ndim == 2]  # noqa: E731
    assert widths(wide) == [(48, 32), (32, 48)]
    assert widths(narrow.predictors[0]) == [(8, 32), (32, 8)]
    assert narrow.target is None


def test_a_predictor_changes_no_other_start():
    for name in ("byol", "simsiam"):
        one, other = table(name, 1)[1].state.model, table("vicreg", 1)[1].state.model
        for a, b in zip(one.branches.parameters(), other.branches.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["byol", "simclr", "vibcreg", "visreg"])
def test_other_ways_to_run(name):
    """With micro-batches, two branches, a decoder, an expander that is none, and on a stream."""
    for options in ({"accumulate": 2}, {"shared": False}, {"reconstruction": 10.0}, {"expander": ()}):
        history = table(name, 3, **options)[1].train().history()
        assert np.isfinite(history["total"]).all()
        assert ("reconstruction" in history) == ("reconstruction" in options)
    config, run = table(name, 3)
    state = one_pass(run.train(), config, DIGITS[:200], np.arange(64), table_views("marginal")).train()
    assert state.step == 5


def test_micro_batches_give_the_gradient_of_the_whole():
    """Without batch norm: the target and the stop of the gradient take no part in the second pass."""
    torch.manual_seed(0)

    def networks():
        torch.manual_seed(0)
        branch = Branch(nn.Linear(64, 8), nn.Linear(8, 16))
        return JointEmbedding([branch], predictors=[nn.Linear(16, 16)], averaged=True)

    states = []
    for accumulate in (1, 4):
        again = table("byol", 2)[1]
        model = networks()
        optimizer = torch.optim.SGD(model.branches.parameters(), lr=0.1)
        state = replace(again.state, model=model, optimizer=optimizer)
        states.append(replace(again, state=state, how=replace(again.how, accumulate=accumulate)).train())
    for one, other in zip(states[0].model.parameters(), states[1].model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# Runs on pictures

TINY = ImageConfig(width=8, expander=(32, 16), image_size=16, batch_size=6, steps=2, learning_rate=0.05, device="cpu")


def pictures(count=12):
    return np.random.default_rng(0).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [*OBJECTIVES, "byol+variance"])
def test_on_pictures(name):
    run = image_run(replace(TINY, objective=name, small_views=1), GivenImages(pictures()), machine("cpu"))
    history = run.train().history()
    assert np.isfinite(history["total"]).all()
    assert len(history["total"]) == 2


def test_places_are_found_in_micro_batches_too():
    """The cuts are those of all the step's pictures, whichever micro-batch they went through."""
    run = image_run(replace(TINY, objective="vicregl", accumulate=3), GivenImages(pictures()), machine("cpu"))
    history = run.train().history()
    assert np.isfinite(history["located"]).all()


def test_maps_need_an_encoder_that_shows_them():
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5))
    own(torch.zeros(1, 3, 16, 16))
    with pytest.raises(TypeError, match=r"encoder must have a method with_maps\(x\) .*; got Sequential. ResNets"):
        image_run(replace(TINY, objective="vicregl"), GivenImages(pictures()), machine("cpu"), encoders=[own])


# As people type them


@pytest.mark.parametrize("name", [*ON_TABLES, "byol+variance", "vicreg+sigreg"])
def test_fit_on_a_table(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    people(60).to_csv("people.csv", index=False)
    assert command("fit", "people.csv", "--labels", "kind", "--objective", name, *QUICK) == 0
    header = (tmp_path / "runs" / "people" / "metrics.csv").read_text().splitlines()[0]
    for term in objective_of(name):
        assert term in header


def test_vicregl_on_a_table_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    people(60).to_csv("people.csv", index=False)
    assert command("fit", "people.csv", "--objective", "vicregl", *QUICK) == 2
    assert "objective must need no feature maps on a table; got 'vicregl'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert command("fit", "people.csv", "--objective", "byol+varance", *QUICK) == 2
    assert "Did you mean 'variance'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vicregl", "byol"])
def test_fit_on_pictures(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(pictures()):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    words = ["--steps", "2", "--batch-size", "6", "--width", "8", "--expander", "16", "--device", "cpu"]
    assert command("fit", "photos", "--objective", name, *words) == 0
    assert (tmp_path / "runs" / "photos" / "encoder.safetensors").exists()

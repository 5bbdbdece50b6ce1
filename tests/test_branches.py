"""Two branches that differ, on tables and pictures: their form as text, their networks, their runs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import yaml
from commands import run as command
from PIL import Image
from torch import nn

from vicreg import VICReg, load
from vicreg.data import GivenImages
from vicreg.networks import ResNet, ViT
from vicreg.training.branches import BranchForm, branch_forms
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.engine import machine
from vicreg.training.image import image_run
from vicreg.training.settings import check_types, from_mapping, to_mapping
from vicreg.training.table import table_run
from vicreg.views import table_views

TABLE = TableConfig(n_components=3, steps=3, batch_size=16, expander=(8, 6), decoder=(8,), reconstruction=0.0,
                    device="cpu", branches=("16-8", "4"))  # fmt: skip
PICTURES = ImageConfig(width=16, image_size=16, batch_size=6, steps=2, device="cpu", branches=("resnet18", "vit_tiny"))


def rows(count=40, width=5):
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def trained(config):
    """The networks of a trained run, after checking that every branch moved and stayed finite."""
    if isinstance(config, TableConfig):
        run = table_run(config, rows(), np.arange(5), table_views("marginal"))
    else:
        pictures = np.random.default_rng(0).integers(256, size=(12, 16, 16, 3), dtype=np.uint8)
        run = image_run(config, GivenImages(pictures), machine("cpu"))
    before = [[one.detach().clone() for one in branch.parameters()] for branch in run.state.model.branches]
    model = run.train().model
    for old, branch in zip(before, model.branches, strict=True):
        assert any(not torch.equal(*pair) for pair in zip(old, branch.parameters(), strict=True))
        assert all(one.isfinite().all() for one in branch.parameters())
    return model


def shapes(module):
    return [tuple(one.shape) for one in module.parameters() if one.ndim == 2]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("a", "b"), [("a", None), ("b", None)]),
        (("a,b",), [("a", None), ("b", None)]),
        ("a/3-4, b/none", [("a", (3, 4)), ("b", ())]),
        (("timm:hf_hub:some/model/8", "timm:hf_hub:some/model"), [("timm:hf_hub:some/model", (8,)),
                                                                  ("timm:hf_hub:some/model", None)]),
        (("128-64/256", "linear"), [("128-64", (256,)), ("linear", None)]),
    ],
)  # fmt: skip
def test_branches_are_read(given, expected):
    assert branch_forms(given) == tuple(BranchForm(*one) for one in expected)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(TABLE, branches=("16",)), "branches must be two, one for each view; got 1. As in A,B."),
        (replace(TABLE, branches=("16,8", "4")), "branches must be two, one for each view; got 3"),
        (replace(TABLE, branches=("16,",)), "each branch must be of the form ENCODER or ENCODER/EXPANDER; got ''"),
        (replace(TABLE, branches=("16/a", "4")), "each branch must be of the form .*; got '16/a'. As in resnet18"),
        (replace(TABLE, branches=("16/8/8", "4")), "each branch must be of the form .*; got '16/8/8'"),
        (replace(TABLE, branches=("resnet18", "4")), "each branch's encoder must be widths with dashes, as"),
        (replace(TABLE, branches=("16-0", "4")), "each width in encoder must be at least 1; got 0"),
        (replace(TABLE, branches=("16/0", "4")), "each width in expander must be at least 1; got 0"),
        (replace(TABLE, branches=(16, 4)), r"branches must be a list of texts; got \(16, 4\)"),
        (replace(PICTURES, small_views=2), "small_views must be 0 with separate branches; got 2. Small crops"),
        (replace(PICTURES, weights="w.pth"), "weights must be left out for branches that differ; got 'w.pth'"),
    ],
)  # fmt: skip
def test_wrong_branches_are_named(config, said):
    with pytest.raises(ValueError, match=said):
        config.check()


def test_widths_that_do_not_agree_are_named():
    embeddings = r"branches must give embeddings of one width; got \[6, 7\]. The last widths of the expanders"
    for config, said in (
        (replace(TABLE, branches=("16", "4/8-7")), embeddings),
        (replace(PICTURES, branches=("resnet18/8-6", "vit_tiny/7")), embeddings),
        (replace(TABLE, n_components=None, linear_path=False, reconstruction=1.0),
         r"branches must give representations of one width to share a decoder; got \[8, 4\]. .*--reconstruction 0"),
        (replace(TABLE, branches=("linear", "4"), linear_path=False), "encoder must have hidden layers or a linear"),
        (replace(PICTURES, branches=("resnet18", "nonsense")), "encoder must be one of 'resnet18'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            trained(config)


def test_modules_leave_no_room_for_named_branches():
    model = VICReg(encoder=nn.Linear(5, 2), branches=("4", "5"), steps=1)
    with pytest.raises(ValueError, match="branches must be left out where encoders are given as modules"):
        model.fit(rows())


@dataclass(frozen=True)
class Lists:
    """Settings with every kind of list."""

    texts: tuple[str, ...] = ("a",)
    numbers: tuple[float, ...] | None = (0.5,)
    whole: tuple[int, ...] = (1,)

    def check(self):
        check_types(self)
        return self


def test_lists_of_each_type_come_back_from_yaml():
    config = Lists(("b", "c"), (1.0, 2.5), (3, 4))
    assert from_mapping(yaml.safe_load(yaml.safe_dump(to_mapping(config))), Lists) == config
    found = from_mapping({"texts": "a,b", "numbers": [1, 2.5]}, Lists)
    assert found == Lists(("a,b",), (1.0, 2.5))
    assert [type(one) for one in found.numbers] == [float, float]
    assert from_mapping({"numbers": None}, Lists).numbers is None
    for values, said in (
        ({"texts": [1]}, "texts must be a list of texts"),
        ({"numbers": ["a"]}, "numbers must be a list of numbers"),
        ({"numbers": [True]}, "numbers must be a list of numbers"),
        ({"whole": [1.0]}, "whole must be a list of whole numbers"),
        ({"whole": "1"}, "whole must be a list of whole numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            from_mapping(values, Lists)


def test_each_branch_of_a_table_is_what_it_was_said_to_be():
    model = trained(replace(TABLE, branches=("16-8/10-6", "linear")))
    first, second = model.branches
    assert shapes(first.encoder) == [(16, 5), (8, 16), (3, 8), (3, 5)]
    assert shapes(first.expander) == [(10, 3), (6, 10)]
    assert shapes(second.encoder) == [(3, 5)]
    assert shapes(second.expander) == [(8, 3), (6, 8)]
    assert model.encoder is first.encoder


def test_each_branch_of_pictures_is_what_it_was_said_to_be():
    first, second = trained(PICTURES).branches
    assert isinstance(first.encoder, ResNet)
    assert isinstance(second.encoder, ViT)
    assert shapes(first.expander) == [(512, 128), (512, 512), (512, 512)]  # four times the wider representation
    assert shapes(second.expander) == [(512, 16), (512, 512), (512, 512)]


def test_two_branches_of_one_form_are_one_unless_they_are_not_to_be_shared():
    alike = ("16-8", "16-8")
    plain = replace(TABLE, branches=(), encoder=(16, 8))
    for shared, count in ((True, 1), (False, 2)):
        named = trained(replace(TABLE, branches=alike, shared=shared))
        expected = trained(replace(plain, shared=shared))
        assert len(named.branches) == count
        for a, b in zip(named.parameters(), expected.parameters(), strict=True):
            assert torch.equal(a, b)
    assert len(trained(replace(TABLE, branches=("16-8", "16-8/8-6"))).branches) == 2


@pytest.mark.parametrize("objective", ["byol", "simsiam", "barlow_twins", "simclr"])
def test_branches_that_differ_have_predictors_and_targets_of_their_own(objective):
    model = trained(replace(TABLE, objective=objective))
    if objective in ("byol", "simsiam"):
        assert len(model.predictors) == 2
    if objective == "byol":
        assert [shapes(target.encoder) for target in model.target] == [shapes(one.encoder) for one in model.branches]


def test_branches_that_differ_match_their_feature_maps():
    resnet, vit = trained(replace(PICTURES, objective="vicregl")).branches
    places = torch.zeros(2, 3, 16, 16)
    assert resnet.with_maps(places)[2].shape == (2, 4, 512)
    assert vit.with_maps(places)[2].shape == (2, 64, 512)


def test_a_decoder_is_shared_by_branches_that_differ():
    model = trained(replace(TABLE, reconstruction=1.0))
    assert model.decoder is not None


@pytest.mark.parametrize("expander", ["/none", ""])
def test_without_expanders_the_loss_acts_on_the_representations(expander):
    config = replace(TABLE, branches=(f"16{expander}", f"4{expander}"), expander=() if not expander else (8,))
    assert all(isinstance(branch.expander, nn.Identity) for branch in trained(config).branches)


def test_the_estimator_takes_branches_as_one_text_or_several():
    X = rows()
    settings = {"n_components": 2, "steps": 3, "random_state": 0, "reconstruction": 0.0}
    several = VICReg(branches=("16-8", "linear/9"), expander=(9,), **settings).fit_transform(X)
    np.testing.assert_array_equal(several, VICReg(branches="16-8,linear/9", expander=(9,), **settings).fit_transform(X))
    assert not np.array_equal(several, VICReg(branches="linear,16-8", expander=(9,), **settings).fit_transform(X))


def test_the_command_line_takes_branches(tmp_path):
    np.savetxt(tmp_path / "digits.csv", rows(), delimiter=",", header="a,b,c,d,e", comments="")
    for index in range(8):
        pixels = np.random.default_rng(index).integers(256, size=(16, 16, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    common = ["--steps", "2", "--batch-size", "6", "--device", "cpu"]
    for source, flags in (
        ("digits.csv", ["--branches", "16-8,4", "--reconstruction", "0", "--n-components", "2"]),
        ("photos", ["--branches", "resnet18,vit_tiny", "--width", "16"]),
    ):
        folder = tmp_path / f"run-{source}"
        assert command("fit", tmp_path / source, "--out", folder, *flags, *common) == 0
        assert yaml.safe_load((folder / "config.yaml").read_text())["settings"]["branches"] == [flags[1]]
        assert load(folder) is not None

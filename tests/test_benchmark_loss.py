"""The loss benchmark measures what it says, on a grid that takes seconds."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from vicreg import VICRegLoss

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import loss as benchmark
import loss_accuracy
import loss_processes
import loss_step
import measure
import published

GOLDEN = Path(__file__).parent / "golden"
CPU = torch.device("cpu")
TINY = ["--threads", "1", "--cells", "12x8", "8x40", "--seconds", "0.05", "--processes", "0"]


@pytest.mark.parametrize("name", published.FORMS)
@pytest.mark.parametrize("shape", [(33, 70), (70, 33), (40, 40)])
def test_published_forms_are_vicreg(name, shape):
    assert published.disagreement(published.FORMS[name], VICRegLoss(), *shape) < 1e-11


@pytest.mark.parametrize("case", ["wide", "tall", "collapsed", "offset", "scales"])
@pytest.mark.parametrize("name", ["official", "mask", "einsum"])
def test_published_forms_give_the_published_numbers(name, case):
    tensors = np.load(GOLDEN / "vicreg_golden.npz")
    views = [torch.tensor(tensors[f"{case}.{view}"]).requires_grad_() for view in ("z_a", "z_b")]
    value, *gradients = published.with_gradients(published.FORMS[name], *views)
    losses = json.loads((GOLDEN / "vicreg_golden.json").read_text())
    assert value.item() == pytest.approx(losses[case]["official"], rel=1e-10, abs=0)
    for gradient, view in zip(gradients, ("grad_a", "grad_b"), strict=True):
        expected = torch.tensor(tensors[f"{case}.official.{view}"])
        assert published.relative(gradient, expected) < 1e-10


def test_a_form_that_is_another_loss_stops_the_run(monkeypatch):
    check = published.check_agreement
    check()
    monkeypatch.setitem(published.FORMS, "wrong", VICRegLoss(convention="algorithm1"))
    with pytest.raises(SystemExit, match="wrong and vicreg disagree by"):
        check()


def test_bytes_are_the_most_at_one_time():
    kilobyte = torch.ones(256)

    def work():
        first = kilobyte + 1  # 1 KiB
        second = first * 2  # 2 KiB
        del first
        third = torch.cat((second, second))  # 3 KiB
        del second
        return third + third  # 4 KiB

    assert measure.first_run(work, CPU)[1] == 4096
    assert measure.first_run(work, CPU)[1] == 4096
    assert measure.first_run(lambda: kilobyte.add_(0), CPU)[1] < 64


def test_bytes_inside_a_backward_pass_count():
    """Of x -> sum exp(x): its gradient needs exp(x), kept from the forward pass, and what it is multiplied by."""
    x = torch.zeros(1024, requires_grad=True)
    most = measure.first_run(lambda: torch.autograd.grad(x.exp().sum(), x), CPU)[1]
    assert 2 * 4096 <= most < 2 * 4096 + 64


def test_rounds_and_their_ratios():
    works = {"one": lambda: torch.ones(8), "other": lambda: torch.ones(4096)}
    took, most = measure.in_turn(works, 0.0, 5, CPU)
    assert [len(values) for values in took.values()] == [5, 5]
    assert most == {"one": 32, "other": 16384}
    assert measure.ratios([2.0, 9.0, 8.0], [1.0, 3.0, 4.0]) == {"median": 2.0, "low": 2.0, "high": 2.5}


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
@pytest.mark.parametrize("by_columns", [True, False])
@pytest.mark.parametrize("kind", loss_accuracy.KINDS)
def test_the_reference_is_the_definition(monkeypatch, shape, by_columns, kind):
    monkeypatch.setattr(loss_accuracy, "COLUMNS_AT_ONCE", 7)
    x, y = loss_accuracy.embeddings(kind, *shape, CPU)
    found, moments = loss_accuracy.reference(x, y, by_columns)
    views = [(z.double() - x.double().mean(dim=0)).requires_grad_() for z in (x, y)]
    for one, expected in zip(found, published.with_gradients(published.FORMS["mask"], *views), strict=True):
        assert published.relative(one, expected) < 1e-11
    whole = torch.cov(views[0].T).square().sum() / shape[1]
    (with_diagonal,) = torch.autograd.grad(whole, views[0])
    assert moments[0].whole_value.item() == pytest.approx(whole.item(), rel=1e-11)
    assert published.relative(moments[0].whole_gradient, with_diagonal) < 1e-11


def test_errors_see_a_wrong_loss(monkeypatch):
    x, y = loss_accuracy.embeddings("white", 30, 20, CPU)
    assert loss_accuracy.errors(x, y, True)["of_bound"] < 1
    monkeypatch.setattr(loss_accuracy, "VICRegLoss", lambda *weights: VICRegLoss(*weights, eps=1e-3))
    assert loss_accuracy.errors(x, y, True)["of_bound"] > 1


def test_what_the_loss_is_of_a_step():
    """ResNet-50 with an expander of 8192, two views of 256: operations by hand."""
    (row,) = (r for r in loss_step.shares() if (r["network"], r["d"], r["n"]) == ("ResNet-50", 8192, 256))
    assert row["step"] == pytest.approx(6 * 2 * 256 * (4.09e9 + 150994944))
    assert row["official"] == pytest.approx(100 * 2.0616e11 / (row["step"] + 2.0616e11), rel=1e-4)
    assert row["ours"] < row["official"] / 40


def test_d_by_d_forms_run_where_they_fit():
    form = published.FORMS["official"]
    assert benchmark.fits(form, 256, 4096, CPU)
    assert not benchmark.fits(form, 64, 16384, CPU)  # more than 4 GiB
    assert not benchmark.fits(form, 4096, 8192, CPU)  # more than 0.5 TFLOP


def test_memory_scales_as_the_choice_of_forms_takes_it_to():
    views = [torch.randn(32, 256, requires_grad=True) for _ in range(2)]
    small = [z.detach()[:4, :32].clone().requires_grad_() for z in views]
    form = published.FORMS["official"]
    most = [
        measure.first_run(lambda pair=pair: published.with_gradients(form, *pair), CPU)[1] for pair in (views, small)
    ]
    assert 64 * most[1] == pytest.approx(most[0], rel=0.2)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    benchmark.main([*TINY, "--json", str(folder / "loss.json"), "--docs", str(folder)])
    return folder


def test_the_promised_fields(results):
    found = json.loads((results / "loss.json").read_text())
    assert set(found) == {"about", "grid", "accuracy", "reduced", "step"}
    assert found["about"]["versions"].keys() >= {"vicreg", "torch"}
    assert found["about"]["threads"] == 1
    assert found["about"]["cpu"]
    assert [(row["n"], row["d"]) for row in found["grid"]] == [(12, 8), (8, 40)]
    for row in found["grid"]:
        assert row["samples"] >= 5
        assert row["seconds"].keys() >= {"ours", "official", "mask", "einsum", "products"}
        for spread in [*row["seconds"].values(), *row["speed"].values(), row["products"]]:
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert row["memory"] == row["bytes"]["ours"] / row["bytes"]["official"]
        assert row["bytes"]["ours"] >= 2 * 4 * row["n"] * row["d"]
        assert row["products_asked"] is None
    kinds = dict.fromkeys(row["kind"] for row in found["accuracy"])
    assert list(kinds) == list(loss_accuracy.KINDS)
    assert all(row["of_bound"] < 1 and row["float64"] < 1e-11 for row in found["accuracy"])
    assert {row["precision"] for row in found["reduced"]} == {"medium"}
    assert all(1e-7 < row["gradient"] < 1e-1 for row in found["reduced"])


def test_the_page_and_its_picture(results):
    page = (results / "loss.md").read_text()
    assert "python benchmarks/loss.py --threads 1 --cells 12x8 8x40" in page
    assert "(loss.svg)" in page
    assert page.count("| 12 x 8 |") == 1
    drawn = ElementTree.parse(results / "loss.svg").getroot()  # noqa: S314  # ours
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert sum(title.startswith("official ") for title in titles) == 2


def test_rows_are_printed_with_what_was_asked(capsys):
    benchmark.main(["--quick", "--threads", "1", "--cells", "64x64", "--seconds", "0.05"])
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.split()[:2] == ["64", "64"])
    assert "(1.4)" in row
    assert "mask" not in printed


@pytest.mark.slow
def test_two_processes():
    found = loss_processes.compare(2, 64, 96, rounds=2)
    assert found["samples"] == 2
    assert found["seconds"].keys() == {"shared", "gathered"}
    assert found["ratio"]["median"] > 0

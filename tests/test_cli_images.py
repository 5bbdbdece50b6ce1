"""`vicreg fit`, `embed`, `evaluate` and `export` on pictures, as a user types them; and `vicreg.pretrain`."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from commands import run
from images import TINY, array, digits, encoded, shards, tree
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file
from torch import nn

import vicreg
from vicreg import distributed
from vicreg.workflows import Interrupted

SHORT = [*TINY, "--steps", "3"]
VICREG = [sys.executable, "-c", "from vicreg.cli import main; main()"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures in all forms, and a run on a folder of them."""
    folder = tmp_path_factory.mktemp("made")
    tree(folder / "tree")
    array(folder / "array.npz")
    shards(folder / "shards")
    images, labels = digits(40)
    rows = {"picture": [encoded(image) for image in images], "kind": labels % 2}
    parquet.write_table(pa.table(rows), folder / "table.parquet")
    assert run("fit", folder / "tree", "--labels", "folder", *SHORT, "--out", folder / "run") == 0
    return folder


@pytest.fixture(autouse=True)
def here(made, tmp_path, monkeypatch):
    """A folder of one's own, beside the same pictures."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)


def settings(folder):
    return yaml.safe_load(Path(folder, "config.yaml").read_text())["settings"]


def test_a_run_has_what_the_page_says(made, capsys):
    names = {path.name for path in Path("run").iterdir()}
    assert names == {"config.yaml", "encoder.json", "encoder.safetensors", "epochs.csv", "metrics.csv", "scores.csv",
                     "split.npy", "portrait", "report.html"}  # fmt: skip
    held = np.load("run/split.npy")
    assert held.sum() == 12
    assert len(held) == 60
    header = Path("run/epochs.csv").read_text().splitlines()[0]
    for name in ("epoch", "rankme", "alpha_req", "knn", "online_linear", "pictures_per_second"):
        assert name in header


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["array.npz"], "60 pictures."),
        pytest.param(["array.npz", "--labels", "labels"], "12 of them held out to judge on.", marks=pytest.mark.slow),
        pytest.param(["table.parquet", "--labels", "kind"], "40 pictures, 8 of them held out", marks=pytest.mark.slow),
        (["shards"], "A stream of pictures from shards."),
        (["tree", "--views", "same-folder"], "60 pictures."),
    ],
)
def test_every_kind_of_source_is_fitted(words, said, capsys):
    assert run("fit", *words, *SHORT, "--out", "mine") == 0
    out = capsys.readouterr().out
    assert said in out
    assert out.endswith("The run is in mine; its report is mine/report.html.\n")
    assert vicreg.load("mine").transform(np.zeros((2, 9, 7, 3), np.uint8)).shape == (2, 128)


def test_recipe_and_config_are_where_flags_start_from():
    assert run("fit", "array.npz", "--recipe", "cifar10-resnet18", *SHORT, "--out", "by-recipe") == 0
    found = settings("by-recipe")
    assert (found["views"], found["cov_coeff"], found["steps"], found["width"]) == ("cifar", 0.0978, 3, 16)
    assert run("fit", "array.npz", "--config", "by-recipe/config.yaml", "--seed", "7", "--out", "by-config") == 0
    assert settings("by-config") == found | {"seed": 7}


@pytest.mark.parametrize("words", [["fit", "tree", "--help"], ["fit", "people.csv", "-h"], ["embed", "run", "-h"]])
def test_help_beside_arguments_is_whole(words, capsys):
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert "SOURCE" in out.partition("─ options")[0].partition("positional")[2]
    assert ("--image-size" in out) == (words[1] == "tree")


def test_embeddings_are_those_of_load_with_the_pictures_names(capsys):
    assert run("embed", "run", "tree", "--out", "found.parquet") == 0
    said = capsys.readouterr().out
    assert "left out: the picture 'kind0/000.png' must be one of jpeg, png," in said
    assert "Wrote 59 pictures of 128 numbers to found.parquet." in said
    found = parquet.read_table("found.parquet").to_pandas().set_index("name")
    assert len(found) == 59
    names = found.index[[0, 5, 58]].tolist()
    files = [Path("tree", name) for name in names]
    given = [files[0], Image.open(files[1]), np.asarray(Image.open(files[2]))]
    np.testing.assert_allclose(vicreg.load("run").transform(given), found.loc[names].to_numpy(), atol=1e-6)


def test_shards_are_embedded_like_the_pictures_in_them():
    assert run("embed", "run", "shards", "--out", "found.parquet") == 0
    found = parquet.read_table("found.parquet").to_pandas().set_index("name")
    assert found.index.tolist()[:1] == ["shards/0.tar/0.png"]
    assert len(found) == 60
    image = np.pad(digits(60)[0][41], ((0, 1), (0, 0)))
    by_load = vicreg.load("run").transform([np.repeat(image[..., None], 3, axis=2)])
    np.testing.assert_allclose(by_load[0], found.loc["shards/2.tar/41.png"].to_numpy(), atol=1e-6)


def test_a_damaged_shard_is_counted_and_a_missing_one_named(capsys):
    Path("some").mkdir()
    shutil.copy("shards/0.tar", "some/0.tar")
    Path("some/1.tar").write_bytes(b"no tar" * 200)
    assert run("embed", "run", "some", "--out", "found.parquet") == 0
    said = capsys.readouterr().out
    assert "left out: the shard 'some/1.tar' must be a whole .tar of pictures" in said
    assert parquet.read_metadata("found.parquet").num_rows == 20
    assert run("embed", "run", "some/{0..2}.tar", "--out", "found.parquet") == 2
    assert "must exist; got no files 'some/2.tar'." in capsys.readouterr().err


@pytest.mark.parametrize("source", ["tree", "shards"])
def test_several_processes_embed_a_share_each(source, monkeypatch, capsys):
    assert run("embed", "run", source, "--out", "whole.parquet") == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run("embed", "run", source, "--out", "parts.parquet") == 0
    parts, whole = (
        parquet.read_table(path).to_pandas().set_index("name") for path in ("parts.parquet", "whole.parquet")
    )
    assert sorted(parts.index) == sorted(whole.index)
    np.testing.assert_allclose(parts.loc[whole.index].to_numpy(), whole.to_numpy(), atol=1e-6)
    assert run("embed", "run", source, "--out", "whole.parquet") == 2
    said = "--out must be a folder where there are several processes; got the file whole.parquet. Remove it"
    assert said in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert run("embed", "run", source, "--out", "parts.parquet") == 2
    said = "--out must hold no parts of another number of processes; got 'part-00000-of-00002.parquet', "
    assert said in capsys.readouterr().err
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert run("embed", "run", source, "--out", "parts.parquet") == 2
    assert "--out must be a file; got the folder 'parts.parquet'. Remove it" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_judges_on_what_was_held_out_on_others_and_on_a_test_set(capsys, made):
    written = (made / "run" / "scores.csv").read_text()
    assert run("evaluate", "run") == 0
    assert "Judged on 12 held-out rows, probes fitted on 47 other rows; 3 classes." in capsys.readouterr().out
    assert (made / "run" / "scores.csv").read_text() == written
    assert run("evaluate", "run", "table.parquet", "--labels", "kind") == 0
    assert "Judged on 8 held-out rows, probes fitted on 32 other rows; 2 classes." in capsys.readouterr().out
    assert run("evaluate", "run", "tree", "--test", "tree") == 0
    shown = capsys.readouterr().out
    assert "Judged on 59 held-out rows, probes fitted on 59 other rows" in shown
    for name in ("raw", "pca", "random", "vicreg"):
        assert f"\n{name} " in shown
    assert {"scores-table.parquet.csv", "scores-tree.csv"} <= {path.name for path in (made / "run").iterdir()}


@pytest.mark.slow
def test_evaluate_augmented_and_on_few_labels(capsys):
    assert run("evaluate", "run", "--augmented", "--shares", "0.1", "0.5") == 0
    said = capsys.readouterr().out
    assert "Linear probe on augmented pictures: accuracy ." in said.replace("accuracy 0", "accuracy ")
    assert "Fine-tuned on 5 labelled pictures (0.1 of them)" in said
    assert "Fine-tuned on 24 labelled pictures (0.5 of them)" in said


def test_export_writes_what_others_read(capsys):
    assert run("export", "run", "--format", "safetensors", "--out", "encoder.st") == 0
    assert "conv1.weight" in load_file("encoder.st")
    assert run("export", "run", "--format", "torchvision", "--out", "x.pth") == 2
    assert "must be one of resnet18, resnet34, resnet50 at its usual width" in capsys.readouterr().err
    assert run("export", "run", "--format", "safetensors", "--out", "run/encoder.safetensors") == 2
    assert "--out must be apart from the run" in capsys.readouterr().err


def test_readings_stand_in_for_labels(capsys):
    assert run("fit", "array.npz", *SHORT, "--out", "mine") == 0
    capsys.readouterr()
    assert run("evaluate", "mine") == 0
    assert "Without labels there is no telling how useful the representation is." in capsys.readouterr().out


def folder_of(*pictures):
    Path("some").mkdir()
    for index, picture in enumerate(pictures):
        (Path("some") / f"{index}.png").write_bytes(picture)


def odd():
    """Pictures of every kind that there is."""
    grey = Image.new("L", (20, 30), 90)
    turned = Image.Exif()
    turned[0x112] = 6
    Path("odd").mkdir()
    for name, image in {
        "one": Image.new("RGB", (1, 1)),
        "long": Image.new("L", (20_000, 1)),
        "deep": Image.fromarray(np.full((9, 9), 40_000, np.uint16)),
        "palette": grey.convert("P"),
        "alpha": Image.new("RGBA", (8, 8), (9, 9, 9, 0)),
    }.items():
        image.save(f"odd/{name}.png")
    Image.new("CMYK", (30, 20)).save("odd/cmyk.jpg")
    grey.save("odd/turned.jpg", exif=turned)


def test_odd_pictures_are_pictures(capsys):
    odd()
    assert run("fit", "odd", *SHORT, "--out", "mine") == 0
    assert "left out" not in capsys.readouterr().out
    assert run("embed", "mine", "odd", "--out", "found.parquet") == 0
    assert "Wrote 7 pictures" in capsys.readouterr().out


def test_a_bomb_and_a_truncated_file_are_left_out_and_too_many_stop_the_run(capsys):
    odd()
    Image.new("1", (20_000, 20_000)).save("odd/bomb.png")
    whole = Path("odd/turned.jpg").read_bytes()
    Path("odd/truncated.jpg").write_bytes(whole[: len(whole) // 2])
    assert run("fit", "odd", *SHORT, "--out", "mine", "--max-corrupt", "0.3") == 0
    out = capsys.readouterr().out
    assert "left out: the picture 'bomb.png' must have at most 178,956,970 pixels; got 20000 x 20000" in out
    assert "left out: the picture 'truncated.jpg' must be readable; got" in out
    assert run("fit", "odd", *SHORT, "--out", "other") == 2
    err = capsys.readouterr().err
    assert "vicreg: corrupt pictures must be at most 0.05 of all (--max-corrupt); got 1 of 9: the picture '" in err
    assert err.endswith("Mend or remove them, or raise --max-corrupt.\n")
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "nowhere/", "--width", "16"], "the file 'nowhere/' must exist; got no such file or folder."),
        (["fit", "empty"], "the folder 'empty' must hold pictures, recordings, Parquet parts or .tar shards; got none"),
        (["fit", "tree", "--labels", "colour"], "labels of a folder of pictures must be 'folder'"),
        (["fit", "table.parquet", "--labels", "colour"], "must have a column of labels 'colour'; got the columns"),
        (["fit", "array.npz", "--labels", "colour"], "in 'colour'; got 'images' (60, 8, 8) uint8, 'labels' (60,)"),
        (["fit", "tree/kind0/003.png"], "the pictures must be at least 2 to learn from; got 1."),
        (["fit", "tree/kind0", "--labels", "folder"], "--labels must name labels that the source has; got 'folder'"),
        (["fit", "shards"], "steps must be given for shards; got None."),
        (["fit", "shards", "--labels", "cls"], "--labels must be left out for shards; got 'cls'. Judge later"),
        (["fit", "tree", "--encoder", "resnet19"], "encoder must be one of 'resnet18', 'resnet34', "),
        (["fit", "tree", "--recipe", "x"], "--recipe must be one of 'cifar10-resnet18', 'cifar10-resnet18-1000', "),
        (["fit", "tree", "--weights", "run/config.yaml"], "'run/config.yaml' must hold weights; got no such thing."),
        (["fit", "tree", *TINY, "--width", "8", "--weights", "run/encoder.safetensors"],
         "must hold the weights of a resnet18 of width 8"),
        (["fit", "tree", "--devices", "9999", "--batch-size", "19998"], "devices must be at most the "),
        (["fit", "tree", "--device", "cuda:99"], "device must be auto or a device of this machine; got 'cuda:99'."),
        (["fit", "tree", "--resume", "--out", "run"], "'run' must be an unfinished run; got a finished one."),
        (["fit", "tree", "--out", "run"], "'run' must hold no run yet; got an existing run. Go on with --resume"),
        (["embed", "run", "nowhere", "--out", "x.parquet"], "the file 'nowhere' must exist; got no such file"),
        (["embed", "run", "people.csv", "--out", "x.parquet"], "'people.csv' must be pictures; got a table."),
        (["embed", "run", "tree", "--out", "x.csv"], "--out must name a .parquet file; got 'x.csv'."),
        (["embed", "run", "tree", "--out", "tree/x.parquet"], "--out must be apart from the source; got"),
        (["embed", "run", "tree", "--out", "x.parquet", "--workers", "0"], "workers must be at least 1; got 0."),
        (["evaluate", "run", "shards"], "'shards' must be pictures that can be judged on one by one; got shards."),
        (["evaluate", "run", "tree/kind1"], "--labels must name labels that the source has; got 'folder', and it has"),
        (["evaluate", "run", "--test", "tree"], "--test must come with labelled pictures to train on; got 'tree'."),
        (["evaluate", "run", "tree", "--shares", "2"], "each of --shares must be a finite number above 0 and at most"),
        (["export", "run", "--format", "onx", "--out", "x"], "format must be one of 'onnx', 'safetensors', "),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line_and_nothing_is_lost(words, said, capsys):
    Path("empty").mkdir()
    Path("people.csv").write_text("a,b\n1,2\n3,4\n")
    before = set(Path().rglob("*"))
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("vicreg: ")
    assert said in err
    assert err.count("\n") == 1
    assert set(Path().rglob("*")) == before


def test_others_settings_beside_resume_are_named(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vicreg.workflows.collection_fitting.judge_without_labels", stopped)
        assert run("fit", "array.npz", *SHORT, "--out", "mine") == 130
    assert run("fit", "array.npz", *SHORT, "--out", "mine", "--resume", "--seed", "3") == 2
    said = (
        "with --resume, settings must be those of the run; got seed = 3 for 0. Leave the flags out, or fit a new run."
    )
    assert said in capsys.readouterr().err
    assert run("fit", "tree", "--out", "mine", "--resume") == 2
    assert "'tree' must be the source that the run was fitted on; got another content." in capsys.readouterr().err
    assert run("fit", "array.npz", "--out", "mine", "--resume") == 0
    assert "Going on from step 3 of 3." in capsys.readouterr().out


def test_training_that_diverges_says_so_and_leaves_nothing(capsys):
    words = ["--learning-rate", "1e30", "--optimizer", "adamw", "--warmup-epochs", "0", "--out", "mine"]
    assert run("fit", "array.npz", *SHORT, *words) == 2
    assert "vicreg: training must stay finite; got " in capsys.readouterr().err
    assert not Path("mine").exists()


def test_too_little_memory_is_no_traceback(monkeypatch, capsys):
    def full(*_, **__):
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nx"
        )

    monkeypatch.setattr("vicreg.workflows.fit_collection", full)
    assert run("fit", "array.npz", *SHORT) == 2
    err = capsys.readouterr().err
    assert err.startswith("vicreg: the run must fit into memory; got \"[enforce fail] DefaultCPUAllocator: can't ")
    assert err.endswith(" Lower --batch-size, or cut it by --accumulate.\n")
    assert err.count("\n") == 1


def own():
    return nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


QUIET = {"say": lambda text: None, "image_size": 8, "expander": (32,), "batch_size": 16, "steps": 3, "device": "cpu"}


def test_pretrain_is_what_fit_does(capsys):
    said = []
    embedder = vicreg.pretrain("tree", "mine", labels="folder", width=16, **QUIET | {"say": said.append})
    assert (Path("mine/encoder.safetensors")).read_bytes() == Path("run/encoder.safetensors").read_bytes()
    assert "60 pictures, 12 of them held out to judge on." in said
    assert any("20-NN accuracy" in text for text in said)
    assert capsys.readouterr().out == ""
    assert embedder.transform(["tree/kind1/001.png"]).shape == (1, 128)


def test_pretrain_takes_any_module_and_goes_on_with_it(monkeypatch):
    whole = vicreg.pretrain("array.npz", "whole", encoder=own(), **QUIET)
    images = np.repeat(digits(5)[0][..., None], 3, axis=3)
    given = own()
    before = {name: value.clone() for name, value in given.state_dict().items()}

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vicreg.workflows.collection_fitting.judge_without_labels", stopped)
        with pytest.raises(Interrupted):
            vicreg.pretrain("array.npz", "mine", encoder=given, **QUIET)
    embedder = vicreg.pretrain("array.npz", "mine", encoder=given, resume=True, **QUIET)
    assert all((before[name] == value).all() for name, value in given.state_dict().items())
    assert embedder.width == whole.width == 16
    again = vicreg.load("mine", encoder=given)
    np.testing.assert_array_equal(again.transform(images), embedder.transform(images))
    with pytest.raises(ValueError, match="the encoder must be one of vicreg's own to be made from a file alone"):
        vicreg.load("mine")


def test_pretrain_keeps_the_first_of_two_modules():
    embedder = vicreg.pretrain("array.npz", "mine", encoder=[own(), own()], shared=False, **QUIET)
    assert embedder.width == 16


def test_pretrain_refuses_what_is_no_encoder():
    with pytest.raises(TypeError, match="encoder must be a name or a module; got 5. Pass resnet18, say, or a module."):
        vicreg.pretrain("array.npz", "mine", encoder=5)
    with pytest.raises(ValueError, match="a setting must be one of 'encoder', .*; got 'epoch'."):
        vicreg.pretrain("array.npz", "mine", epoch=5)

    class Maps(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="must"):
        vicreg.pretrain("array.npz", "mine", encoder=Maps(), **QUIET)
    assert not Path("mine").exists()


def agreed(rank):
    return distributed.every_text(""), distributed.every_text("é" * rank), distributed.by_first(lambda: rank + 3)


def refused(rank):
    def refuse():
        raise ValueError("steps must be at least 1; got 0.")

    try:
        distributed.by_first(refuse)
    except ValueError as failure:
        return str(failure)
    return "nothing"


def test_processes_hear_each_other_also_of_nothing(pools):
    assert pools(2).run(agreed) == [(["", ""], ["", "é"], 3), (["", ""], ["", "é"], None)]
    assert pools(2).run(refused) == ["steps must be at least 1; got 0."] * 2


def together(*words, launcher=()):
    return subprocess.run([sys.executable, *launcher, *words], capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_two_processes_by_devices_and_by_torchrun_leave_the_same_run():
    Path("start.py").write_text("from vicreg.cli import main\nmain()\n")  # as the installed script does
    fit = ["start.py", "fit", "tree", "--labels", "folder", *SHORT, "--devices", "2"]
    by_devices = together(*fit, "--out", "one")
    assert by_devices.returncode == 0, by_devices.stderr
    for said in (
        "60 pictures, 12 of them held out to judge on.",
        "epoch 1:",
        "The run is in one; its report is one/report.html.",
    ):
        assert by_devices.stdout.count(said) == 1
    assert by_devices.stderr.count("step 3/3") == 1
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    by_torchrun = together(*fit, "--out", "two", launcher=launcher)
    assert by_torchrun.returncode == 0, by_torchrun.stderr
    for name in ("encoder.safetensors", "metrics.csv", "scores.csv"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    again = together(*fit, "--out", "one")
    assert again.returncode == 2
    said = "'one' must hold no run yet; got an existing run. Go on with --resume, or name another --out."
    assert f"vicreg: {said}\n" in again.stderr
    assert f"vicreg (process 1): {said}\n" in again.stderr
    assert "Traceback" not in again.stderr

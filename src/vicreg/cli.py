"""The command line: words in, words out. All work is done elsewhere."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import torch
import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from vicreg import workflows
from vicreg._checks import check_choice, message, require, shown
from vicreg.data import is_url, kind_of, source_name
from vicreg.distributed import own_number, process_count
from vicreg.evaluation import readings_in_words
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.progress import progress
from vicreg.training.recipes import RECIPES
from vicreg.workflows import Collapsed, Columns, Interrupted, Judged

DESCRIPTION = """Representations from data without labels.

A table is a .csv or .tsv file (also .gz), a .parquet file or folder of parts, a .feather, .npy or .npz file. Pictures
are a folder of them, a .parquet file with a column of them, an .npz array, or .tar shards. A run is the folder that
`vicreg fit` leaves.

  vicreg demo                                         a minute's tour on handwritten digits
  vicreg fit people.csv --labels income               learn from all other columns, judge on a fifth of the rows
  vicreg fit photos/ --encoder resnet50               learn from pictures; vicreg fit photos/ --help has the settings
  vicreg embed runs/people new.csv --out new.parquet  embed new rows, or pictures
  vicreg evaluate runs/people labelled.csv            judge on new labelled rows, or pictures
  vicreg diagnose embeddings.npy                      is it collapsed? readings of any embeddings
  vicreg export runs/photos --format onnx --out f.onnx  the encoder for other programs
"""

C = TypeVar("C", TableConfig, ImageConfig)
Source = Annotated[Path, Positional, arg(metavar="SOURCE")]
AnySource = Annotated[str, Positional, arg(metavar="SOURCE")]  # a path would break the slashes of a URL
RunFolder = Annotated[Path, Positional, arg(metavar="RUN")]
Names = UseAppendAction[tuple[tuple[str, ...], ...]]


def demo() -> None:
    """Learn handwritten digits (bundled with scikit-learn) without their labels, then judge on held-out rows."""
    _say("Handwritten digits: 1,797 rows of 64 pixels. The labels are there to judge by, never to learn from.")
    with progress() as callback:
        judged = workflows.demo([callback])
    _tell(judged)


def fit(
    source: Source,
    out: Path | None = None,
    labels: str | None = None,
    exclude: Names = (),
    id: Names = (),  # the flag's name
    resume: bool = False,
    stop_on_collapse: bool = False,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[TableConfig],
) -> None:
    """Learn from a table without labels, and leave a run.

    Args:
        source: The table.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: A column to judge by: kept out of the inputs, and a fifth of its rows held out.
        exclude: Columns to leave out.
        id: Columns to leave out of the inputs and to carry through to the embeddings.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        settings: Settings of the run.
    """
    folder = out or Path("runs") / source_name(source)
    columns = Columns(labels, tuple(dict.fromkeys(chain(*exclude))), tuple(dict.fromkeys(chain(*id))))
    with progress() as callback:
        begin = workflows.resume if resume else workflows.fit
        options = {"callbacks": [callback], "say": _say, "stop_on_collapse": stop_on_collapse}
        judged = begin(source, folder, columns, settings, **options)  # type: ignore[arg-type]
    _tell(judged)
    _say(f"The run is in {folder}.")


def fit_images(
    source: Annotated[str, Positional, arg(metavar="SOURCE")],
    out: Path | None = None,
    labels: str | None = None,
    resume: bool = False,
    stop_on_collapse: bool = False,
    config: Path | None = None,
    recipe: str | None = None,
    *,
    settings: OmitArgPrefixes[ImageConfig],
) -> None:
    """Learn from pictures without labels, and leave a run with an encoder.

    Args:
        source: A folder of pictures, a .parquet file with a column of them, an .npz array, or .tar shards.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: What to judge by, never to learn from: folder for the sub-folders, or the name of a column or array. A
            fifth of the labelled pictures is held out.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        recipe: Published settings by name (imagenet-resnet50, cifar10-resnet18, cifar10-resnet18-1000); flags win.
        settings: Settings of the run.
    """
    folder = out or Path("runs") / source_name(source.rstrip("/"))
    with progress() as callback:
        begin = workflows.resume_images if resume else workflows.fit_images
        options = {"callbacks": [callback], "say": _say, "stop_on_collapse": stop_on_collapse}
        judged = begin(source, folder, labels, settings, **options)  # type: ignore[arg-type]
    if own_number() == 0:
        _tell(judged)
        _say(f"The run is in {folder}.")


def embed(
    run: RunFolder,
    source: AnySource,
    *,
    out: Path,
    device: str = "auto",
    workers: int | None = None,
    max_corrupt: float = 0.05,
) -> None:
    """Embed the rows of a table, or pictures, with a run.

    Args:
        run: The folder of a finished run.
        source: The table, with the columns of the fit by name (those that the fit set aside may be there or not); or
            pictures.
        out: The .parquet file to write.
        device: For pictures: auto, cpu, cuda, cuda:N or mps.
        workers: For pictures: threads that open them.
        max_corrupt: For pictures: share of them that may be unreadable.
    """
    if workflows.kind_of_run(run) == "table":
        workflows.embed(run, Path(source), out, _say)
    else:
        options = {"device": device, "workers": workers, "max_corrupt": max_corrupt}
        workflows.embed_images(run, source, out, say=_say, **options)  # type: ignore[arg-type]


def evaluate(
    run: RunFolder,
    source: Annotated[str | None, Positional, arg(metavar="[SOURCE]")] = None,
    *,
    labels: str | None = None,
    test: str | None = None,
    augmented: bool = False,
    shares: tuple[float, ...] = (),
    device: str = "auto",
) -> None:
    """Judge a run beside raw data and PCA, on data that its fit did not see; without labels, show its readings.

    Args:
        run: The folder of a finished run.
        source: New labelled data. A table is judged by cross-validation; of pictures a fifth is held out, unless --test
            names others. Left out: what the fit held out.
        labels: The label column; that of the fit if left out. For a folder of pictures its sub-folders.
        test: For pictures: those to judge on, where SOURCE has those to train probes on.
        augmented: For pictures: train a linear probe also on pictures cropped and flipped anew at every epoch.
        shares: For pictures: fine-tune the whole encoder on these shares of the labels, such as 0.01 0.1.
        device: For pictures: auto, cpu, cuda, cuda:N or mps.
    """
    if workflows.kind_of_run(run) == "table":
        given = [name for name, value in (("--test", test), ("--augmented", augmented), ("--shares", shares)) if value]
        require(not given, " and ".join(given), "be left out for tables", "a run on a table")
        _tell(workflows.evaluate(run, None if source is None else Path(source), labels))
        return
    options = {"augmented": augmented, "shares": shares, "device": device}
    _tell(workflows.evaluate_images(run, source, labels, test, say=_say, **options))  # type: ignore[arg-type]


def diagnose(source: Source) -> None:
    """Say what state embeddings are in, whoever made them: their ranks, dead dimensions, correlation, collapse.

    Args:
        source: A .npy file, or a table with a column for each dimension.
    """
    workflows.diagnose(source, _say)


def export(run: RunFolder, *, format: str, out: Path) -> None:  # the flag's name
    """Write the encoder of a run on pictures for other programs.

    Args:
        run: The folder of a finished run.
        format: torchvision, safetensors or onnx.
        out: The file to write.
    """
    workflows.export(run, format, out, _say)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `vicreg`: exits 2 with a message on bad input, 130 or 143 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that it starts
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # it takes what it needs
            commands: dict[str, Callable[..., None]] = {
                "demo": demo,
                "fit": _fit_for(given),
                "embed": embed,
                "evaluate": evaluate,
                "diagnose": diagnose,
                "export": export,
            }
            words = _help_first(given)
            tyro.extras.subcommand_cli_from_dict(commands, prog="vicreg", description=DESCRIPTION, args=words)
    except Interrupted as stop:
        if own_number() == 0:  # all processes stop together
            print(f"vicreg: {stop}; the same command with --resume goes on.", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("vicreg: stopped.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, Collapsed) as failure:
        _end(str(failure))
    except (RuntimeError, MemoryError) as failure:
        said = _outside(failure)
        if said is None:
            raise
        _end(said)


def _end(said: str) -> NoReturn:
    which = f" (process {own_number()})" if own_number() else ""
    print(f"vicreg{which}: {said}", file=sys.stderr)
    sys.exit(2)


def _outside(failure: Exception) -> str | None:
    """What to say of a failure that is of the machine and not of the program; None for one of the program's."""
    first = str(failure).strip().partition("\n")[0] or type(failure).__name__
    if isinstance(failure, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in first:
        return message("the run", "fit into memory", shown(first), "Lower --batch-size, or cut it by --accumulate.")
    if process_count("default") > 1:
        return message("the other processes", "live", shown(first), "The same command with --resume goes on.")
    return None


def _help_first(given: list[str]) -> list[str]:
    """A plea for help alone: beside arguments, help would be without them."""
    asked = {"-h", "--help"} & set(given)
    return [*given[:1], "--help"] if asked and not given[0].startswith("-") else given


def _fit_for(given: list[str]) -> Callable[..., None]:
    """The command `fit` with the settings of its source's kind, which flags start from."""
    source = _source(given)
    if source is not None and not {"-h", "--help"} & set(given):
        workflows.check_there(source)
    if source is None or kind_of(source) == "table":
        return partial(fit, settings=_settings(given, TableConfig))
    return partial(fit_images, settings=_settings(given, ImageConfig))


def _source(given: list[str]) -> str | None:
    """The source among the words of `fit`: the first that is no flag and no flag's value."""
    if given[:1] != ["fit"]:
        return None
    switches = {"--resume", "--stop-on-collapse", "--no-resume", "--no-stop-on-collapse", "-h", "--help"}
    for kind in (TableConfig, ImageConfig):
        names = [field.name.replace("_", "-") for field in fields(kind) if field.type in ("bool", "bool | None")]
        switches |= {f"--{no}{name}" for name in names for no in ("", "no-")}
    before = ["", *given[1:]]
    free = [
        word
        for word, last in zip(given[1:], before, strict=False)
        if not word.startswith("-") and (not last.startswith("-") or last in switches or "=" in last)
    ]
    if given[1:2] == free[:1]:
        return free[0] if free else None
    likely = [word for word in free if is_url(word) or Path(word).exists()]  # flags may take several words
    return next(iter(likely or free[len(free) > 1 :]), None)


def _settings(given: list[str], kind: type[C]) -> C:
    """The settings that flags start from: those of --config or --recipe, else the defaults."""
    path, recipe = _value("--config", given), _value("--recipe", given)
    require(path is None or recipe is None, "--recipe", "be left out beside --config", recipe)
    if path is not None:
        return workflows.read_settings(Path(path), kind)
    if recipe is not None and kind is ImageConfig:
        return RECIPES[check_choice("--recipe", recipe, RECIPES)]  # type: ignore[return-value]  # one of its kind
    return kind()


def _value(flag: str, given: list[str]) -> str | None:
    for index, word in enumerate(given):
        if word == flag and index + 1 < len(given):
            return given[index + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def _tell(judged: Judged) -> None:
    if judged.comparison is not None:
        _say("\n" + judged.comparison.summary().rstrip())
    for note in judged.notes:
        _say(note)
    if judged.comparison is not None:
        _say("\n" + judged.comparison.verdict("vicreg"))
    if judged.readings is not None:
        _say("\n" + readings_in_words(judged.readings))


def _say(text: str) -> None:
    print(text, flush=True)


def _show_warning(text: Warning | str, *_: object) -> None:
    print(f"vicreg: note: {text}", file=sys.stderr)

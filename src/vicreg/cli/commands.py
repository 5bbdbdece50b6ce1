"""The commands but for `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from vicreg import workflows
from vicreg._checks import require
from vicreg.cli.given import readings_of
from vicreg.cli.speech import say, tell, tell_place
from vicreg.training.progress import progress
from vicreg.workflows import Pairing, Reading

AnySource = Annotated[str, Positional, arg(metavar="SOURCE")]  # a path would break the slashes of a URL
RunFolder = Annotated[Path, Positional, arg(metavar="RUN")]


def demo(out: Path | None = None) -> None:
    """Learn handwritten digits (bundled with scikit-learn) without their labels, then judge on held-out rows.

    Args:
        out: The run's folder; runs/digits if left out, or where that is taken runs/digits-2 and so on.
    """
    say("Handwritten digits: 1,797 rows of 64 pixels. The labels are there to judge by, never to learn from.")
    folder = out or workflows.free_folder(Path("runs/digits"))
    with progress() as callback:
        judged = workflows.demo(folder, [callback], say=say)
    tell(judged)
    tell_place(folder)


def embed(
    run: RunFolder,
    source: AnySource,
    *,
    out: Path,
    side: Literal["a", "b"] | None = None,
    rate: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    max_corrupt: float = 0.05,
) -> None:
    """Embed the rows of a table, pictures, or sounds and other signals, with a run.

    Args:
        run: The folder of a finished run.
        source: What to embed. A table has the columns of the fit by name (those that the fit set aside may be there or
            not), and so has a long table of signals.
        out: The .parquet file to write.
        side: Of a run on pairs: a if SOURCE is like the left one, b if it is like the right one.
        rate: For arrays of signals: samples a second, where the file does not say.
        device: For all but tables: auto, cpu, cuda, cuda:N or mps.
        workers: For all but tables: threads that open files.
        max_corrupt: For all but tables: share of items that may be unreadable.
    """
    kind = workflows.kind_of_run(run)
    options = {"device": device, "workers": workers, "max_corrupt": max_corrupt}
    if kind == "pair":
        (reading,) = readings_of([source], rate, None)
        workflows.embed_pair(run, source, out, side, reading, say=say, **options)  # type: ignore[arg-type]  # of several types
        return
    _check_left_out(kind, **{"--side": side}, **({"--rate": rate} if kind != "signal" else {}))
    if kind == "table":
        workflows.embed(run, Path(source), out, say)
    else:
        reading = Reading(rate=rate)
        workflows.embed_collection(run, source, out, reading, say=say, **options)  # type: ignore[arg-type]  # of several types


def evaluate(
    run: RunFolder,
    source: Annotated[str | None, Positional, arg(metavar="[SOURCE]")] = None,
    right: Annotated[str | None, Positional, arg(metavar="[RIGHT]")] = None,
    *,
    key: str | None = None,
    labels: str | None = None,
    test: str | None = None,
    rate: float | None = None,
    augmented: bool = False,
    shares: tuple[float, ...] = (),
    device: str = "auto",
) -> None:
    """Judge a run beside raw data and PCA, on data that its fit did not see; without labels, show its readings.

    Args:
        run: The folder of a finished run.
        source: New labelled data. A table is judged by cross-validation; of pictures and signals a fifth is held out,
            unless --test names others. Left out: what the fit held out.
        right: Of a run on pairs: the partners of SOURCE.
        key: Of a run on pairs: the column that tells which rows belong together; that of the fit if left out.
        labels: The label column or array; that of the fit if left out. For a folder its sub-folders.
        test: For all but tables: what to judge on, where SOURCE has those to train probes on.
        rate: For arrays of signals: samples a second, where the file does not say.
        augmented: For all but tables: train a linear probe also on crops (of pictures, flipped) drawn anew at every
            epoch.
        shares: For all but tables: fine-tune the whole encoder on these shares of the labels, such as 0.01 0.1.
        device: For all but tables: auto, cpu, cuda, cuda:N or mps.
    """
    kind = workflows.kind_of_run(run)
    given = {"--test": test, "--augmented": augmented, "--shares": shares, "--rate": rate}
    if kind == "pair":
        del given["--rate"]
        _check_left_out(kind, **given)
        sides = readings_of((source, right), rate, None) if source and right else []
        pairing = Pairing(key, labels, (), (), *sides)
        say("\n" + workflows.evaluate_pair(run, source, right, pairing, device=device).in_words())
        return
    _check_left_out(kind, **{"a second source": right, "--key": key})
    if kind == "table":
        _check_left_out(kind, **given)
        tell(workflows.evaluate(run, None if source is None else Path(source), labels))
        return
    _check_left_out(kind, **({"--rate": rate} if kind != "signal" else {}))
    options = {"augmented": augmented, "shares": shares, "device": device}
    reading = Reading(labels, rate)
    tell(workflows.evaluate_collection(run, source, reading, test, say=say, **options))  # type: ignore[arg-type]  # of several types


def diagnose(source: Annotated[Path, Positional, arg(metavar="SOURCE")]) -> None:
    """Say what state embeddings are in, whoever made them: their ranks, dead dimensions, correlation, collapse.

    Args:
        source: A .npy file, or a table with a column for each dimension.
    """
    workflows.diagnose(source, say)


def export(run: RunFolder, *, format: str, out: Path) -> None:  # the flag's name
    """Write the encoder of a run on pictures or signals for other programs.

    Args:
        run: The folder of a finished run.
        format: torchvision, safetensors or onnx; of signals safetensors.
        out: The file to write.
    """
    workflows.export(run, format, out, say)


NOUNS = {"table": "a table", "image": "pictures", "signal": "signals", "pair": "pairs"}


def _check_left_out(kind: str, **given: Any) -> None:
    """What is said must have a meaning for a run of this kind."""
    names = [name for name, value in given.items() if value]
    require(not names, " and ".join(names), f"be left out for a run on {NOUNS[kind]}", "some")

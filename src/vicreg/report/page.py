"""A page from one run's record, or from several side by side."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vicreg._checks import check_integer, message
from vicreg.report.curves import charts_of, side_by_side
from vicreg.report.figures import cross_of, influence_of, map_of, media_of, spectrum_of
from vicreg.report.library import check_available, plotly_packed, plotly_program
from vicreg.report.packing import Pack, as_json
from vicreg.report.reading import Record, read_run
from vicreg.report.rendering import rendered, script, style
from vicreg.report.scores import UNKNOWN, compared, table_of
from vicreg.report.usage import facts_of, recipes_of
from vicreg.report.words import about, missing_of, readings_of, steps_planned, tiles_of, verdict_of
from vicreg.runs import Run, write_atomically

MOST_THUMBNAILS = 2000
MOST_BYTES = 15_000_000
"""Of a page: thumbnails beyond it are left out."""
MARK = b'<meta name="generator" content="vicreg">'


def write_page(folders: Sequence[Path], out: Path | None = None, max_thumbnails: int = MOST_THUMBNAILS) -> Path:
    """Write the page of a run, or of several side by side.

    Args:
        folders: The runs.
        out: The file; of one run ``report.html`` in its folder if left out, of several in the current one.
        max_thumbnails: Thumbnails and sounds at the most.

    Returns:
        The file.

    Raises:
        ImportError: plotly or jinja2 is not installed.
        ValueError: A folder that holds nothing of a run, or a file there that is no page of vicreg's.
        OSError: The file cannot be written.
    """
    check_available()
    check_integer("--max-thumbnails", max_thumbnails, 0)
    records = [read_run(folder) for folder in folders]
    path = out or (Run(folders[0]).report if len(folders) == 1 else Path("report.html"))
    _check_free(path)
    text = page(records[0], max_thumbnails) if len(records) == 1 else comparison(records)
    write_atomically(path, text.encode("utf-8", "replace"))
    return path


def _check_free(path: Path) -> None:
    """Refuse to write over what is no page of ours."""
    if path.exists() and MARK not in (path.read_bytes()[:2000] if path.is_file() else b""):
        fix = "Name another --out."
        raise ValueError(message(repr(str(path)), "be new or a report", "another file", fix))


def page(record: Record, max_thumbnails: int = MOST_THUMBNAILS, *, live: bool = False, library: bool = True) -> str:
    """The page of one run.

    Args:
        record: The run.
        max_thumbnails: Thumbnails and sounds at the most.
        live: Whether the page is to ask its server for news.
        library: Whether Plotly's program is in it; news come without.
    """
    pack = Pack()
    data: dict[str, Any] = {
        "runs": [record.name],
        "groups": charts_of(record),
        "marks": [step for step in _list(record.facts.get("resumed_at")) if isinstance(step, int)],
        "spectrum": spectrum_of(record, pack),
        "map": map_of(record, pack),
        "influence": influence_of(record),
        "cross": cross_of(record, pack),
        "retrieval": dict(record.retrieval) or None,
        "scores": dict(record.scores),
        "live": live,
    }
    packed = pack.base64()
    spent = len(packed) + len(as_json(data)) + (len(plotly_packed()) if library else 0) + 200_000
    data["media"], media = media_of(record.media, max_thumbnails, max(0, MOST_BYTES - spent))
    data["media"]["wanted"] = max_thumbnails
    context = {
        "title": record.name,
        "record": record,
        "verdict": verdict_of(record),
        "about": about(record),
        "tiles": tiles_of(record),
        "tables": [table_of(key, record.scores[key]) for key in sorted(record.scores, key=_foremost)],
        "readings": readings_of(record),
        "findings": [_finding(one) for one in record.findings],
        "missing": missing_of(record),
        "recipes": recipes_of(record),
        "facts": facts_of(record),
        "planned": steps_planned(record),
        "sections": _sections(record, data),
    }
    return _whole("run.html", context, data, packed, media, live=live, library=library)


def waiting(name: str) -> str:
    """The page of a run that has not begun yet."""
    data: dict[str, Any] = {"runs": [name], "groups": [], "marks": [], "scores": {}, "live": True}
    context = {"title": name, "sections": []}
    return _whole("waiting.html", context, data, "", "", live=True, library=True)


def comparison(records: Sequence[Record]) -> str:
    """The page of several runs: words, scores and curves of each beside one another."""
    names = _distinct([record.name for record in records])
    data: dict[str, Any] = {
        "runs": names,
        "groups": side_by_side([charts_of(record) for record in records], names),
        "marks": [],
        "scores": {
            f"{name} {key}": rows
            for name, record in zip(names, records, strict=True)
            for key, rows in record.scores.items()
        },
        "live": False,
    }
    described = [dict(line for _, lines in facts_of(record) for line in lines) for record in records]
    every = list(dict.fromkeys(name for found in described for name in found))
    differing = [
        (name, [found.get(name, UNKNOWN) for found in described])
        for name in every
        if len({found.get(name, UNKNOWN) for found in described}) > 1
    ]
    context = {
        "title": " · ".join(names),
        "names": names,
        "columns": [
            {
                "name": name,
                "verdict": verdict_of(record),
                "about": about(record),
                "tiles": tiles_of(record),
                "findings": [_finding(one) for one in record.findings],
                "readings": readings_of(record),
                "damaged": record.damaged,
            }
            for name, record in zip(names, records, strict=True)
        ],
        "tables": compared(names, [record.scores for record in records]),
        "differing": differing,
        "sections": _compared_sections(data),
    }
    return _whole("comparison.html", context, data, "", "", live=False, library=True)


def _whole(
    template: str, context: dict[str, Any], data: dict[str, Any], packed: str, media: str, *, live: bool, library: bool
) -> str:
    policy = [
        "default-src 'none'",
        f"script-src {_hash(script())} {_hash(plotly_program())}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "media-src data: blob:",
        *(["connect-src 'self'"] if live else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return rendered(
        template,
        **context,
        policy="; ".join(policy),
        style=style(),
        script=script(),
        data=as_json(data),
        charted=data["groups"],
        packed=packed,
        media=media,
        plotly=plotly_packed() if library else "",
        live=live,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sections(record: Record, data: dict[str, Any]) -> list[tuple[str, str]]:
    """Which parts the page has, in order: identifier and title."""
    found = [("training", "Training", bool(data["groups"])), ("spectrum", "Spectrum", data["spectrum"] is not None)]
    found += [("map", "Map", data["map"] is not None), ("influence", "Columns", data["influence"] is not None)]
    found += [("pairs", "Pairs", bool(data["retrieval"]) or data["cross"] is not None)]
    found += [("scores", "Scores", bool(record.scores) or bool(record.readings)), ("use", "Use", True)]
    return [(key, title) for key, title, there in found if there]


def _compared_sections(data: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("scores", "Scores", bool(data["scores"])), ("training", "Training", bool(data["groups"]))]
    return [(key, title) for key, title, there in [*found, ("use", "Settings", True)] if there]


def _foremost(key: str) -> tuple[bool, str]:
    """Of several files of scores those on retrieval come first."""
    return key != "scores-retrieval", key


def _finding(found: Any) -> dict[str, str]:
    return {name: str(found.get(name, "")) for name in ("step", "failure", "where", "said", "remedy")}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _distinct(names: Sequence[str]) -> list[str]:
    """Names, numbered where they are the same.

    Example:
        >>> _distinct(["a", "b", "a"])
        ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found

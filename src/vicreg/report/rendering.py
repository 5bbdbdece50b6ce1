"""Templates to HTML; whatever is put into one is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STYLE = "style.css"
SCRIPTS = ("core.js", "charts.js", "figures.js", "map.js", "pairs.js", "live.js", "start.js")


def rendered(template: str, **context: Any) -> str:
    """A template with what it is to show.

    Args:
        template: Its name in ``templates``.
        context: What it shows.
    """
    return str(_environment().get_template(template).render(**context))


@cache
def style() -> str:
    """The page's style."""
    return (HERE / "static" / STYLE).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The page's program: its files one after the other, in a scope of their own."""
    parts = [(HERE / "static" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

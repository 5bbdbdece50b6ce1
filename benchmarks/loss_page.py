"""The page and the picture of the loss benchmark's results."""

import math
import textwrap
from typing import Any

Row = dict[str, Any]

COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00"]
GREY = "#666666"
LEFT, WIDTH, TOP, STEP = 110, 560, 64, 19


WHAT = """
Forward and backward of two random float32 embeddings, all forms in turn in one run; medians of the ratios round by
round, quartiles in brackets. "official x" is the time of the official form (facebookresearch/vicreg 4e12602, written
out from its formulas) over ours; mask and einsum are the other published ways to leave out the diagonal of the d x d
matrix. "products x" is our time over that of the bare matrix products of the closed form, which make no use of
symmetry, so that ours may fall below 1. Extra memory is the most that is allocated at one time above the inputs, with
the two gradients. Where the d x d forms would take more than 0.5 TFLOP a product or 4 GiB, ours ran alone.
"""
ERRORS = """
Relative errors in float32 against the definition in float64 on the same rounded embeddings, worst over the sizes whose
reference is affordable. The bound: 1e-5 of each; where d > n, for the covariance term and its gradient, 1e-6 of what
they are with the diagonal left in, and that much more for the loss. Last column: the loss in float64.
"""
REDUCED = "Products in reduced precision, against float32, white embeddings, worst over the sizes:"
TRAINING = """
By operations of products and convolutions: two views of 224 x 224, an expander of three layers, forward and backward
three times the forward pass; multiply-adds of the networks as torchvision lists them with its weights (1.81e9 and
4.09e9). By time the loss can be more: its passes over memory are not counted.
"""


def prose(*lines: str) -> str:
    return textwrap.fill(" ".join(lines).strip(), 120, break_long_words=False, break_on_hyphens=False)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def ratio(one: dict[str, float] | None) -> str:
    return "" if one is None else f"{one['median']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def asked(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def grid_table(rows: list[Row]) -> str:
    names = [name for name in max((row["speed"] for row in rows), key=len) if name != "official"]
    head = ["n x d", "ours, ms", "official x", "asked", *(f"{name} x" for name in names)]
    head += ["products x", "asked", "extra MiB", "of the official", "asked", "reached"]
    body = []
    for row in rows:
        speed = row["speed"]
        measured = "official" in speed
        cells = [f"{row['n']} x {row['d']}", f"{1e3 * row['seconds']['ours']['median']:.3g}"]
        cells += [ratio(speed.get("official")), asked(row["speed_asked"]) if measured else ""]
        cells += [f"{speed[name]['median']:.2f}" if name in speed else "" for name in names]
        cells += [ratio(row["products"]), asked(row["products_asked"]), f"{row['bytes']['ours'] / 2**20:.3g}"]
        cells += [f"{row['memory']:.3f}", f"{row['memory_asked']:.3g}"] if measured else ["", ""]
        body.append([*cells, "no: " + ", ".join(row["missed"]) if row["missed"] else "yes"])
    return table(head, body)


def accuracy_table(rows: list[Row]) -> str:
    keys = ["loss", "gradient", "covariance", "covariance_gradient", "of_bound", "float64"]
    body = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        most = [max(row[key] for row in mine) for key in keys]
        body.append(
            [kind, *(f"{m:.2f}" if key == "of_bound" else f"{m:.1e}" for key, m in zip(keys, most, strict=True))]
        )
    head = ["embeddings", "loss", "gradient", "covariance term", "its gradient", "share of the bound", "in float64"]
    return table(head, body)


def reduced_table(rows: list[Row]) -> str:
    body = []
    for precision, of in dict.fromkeys((row["precision"], row["of"]) for row in rows):
        for dense in (True, False):
            mine = [row for row in rows if (row["precision"], row["of"]) == (precision, of)]
            mine = [row for row in mine if (row["d"] <= row["n"]) == dense]
            if mine:
                most = [f"{max(row[key] for row in mine):.1e}" for key in ("value", "gradient")]
                body.append([f'"{precision}"', "d <= n" if dense else "d > n", of, *most])
    return table(["matmul_precision", "shape", "of", "value", "gradient"], body)


def step_table(rows: list[Row]) -> str:
    body = [
        [row["network"], str(row["d"]), str(row["n"]), f"{row['official']:.2f} %", f"{row['ours']:.2f} %"]
        for row in rows
    ]
    return table(["network", "expander width", "batch", "official", "ours"], body)


def page(found: dict[str, Any]) -> str:
    """The results as Markdown, beside ``loss.svg``."""
    about = found["about"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    parts = ["# The loss: time, memory, accuracy"]
    threads = f"{about['threads']} thread{'s' if about['threads'] > 1 else ''}"
    machine = f"{about['cpu']}, {threads}, on {about['device']}"
    parts += [f"    {about['command']}", prose(f"{versions}, Python {about['python']}; {machine}.")]
    parts += [prose(WHAT), "![Time of the published forms and of the bare products, ours being 1](loss.svg)"]
    parts.append(grid_table(found["grid"]))
    if "processes" in found:
        shared = found["processes"]
        took = {name: f"{one['median']:.2f} s" for name, one in shared["seconds"].items()}
        parts += [
            "## Several processes",
            prose(
                f"The exact loss of a global batch of {shared['n']} x {shared['d']} over {shared['processes']} gloo",
                "processes on one machine, one thread each, against gathering all rows everywhere and computing",
                f"everything on each: {took['shared']} against {took['gathered']}, ratio {ratio(shared['ratio'])};",
                f"asked: at most {shared['asked']:g} ({'reached' if shared['reached'] else 'not reached'}).",
            ),
        ]
    if found["accuracy"]:
        parts += ["## Accuracy", prose(ERRORS), accuracy_table(found["accuracy"])]
    if found["reduced"]:
        parts += [prose(REDUCED), reduced_table(found["reduced"])]
    parts += ["## What the loss is of a training step", prose(TRAINING), step_table(found["step"])]
    return "\n\n".join(parts) + "\n"


def picture(rows: list[Row]) -> str:
    """Time of every form relative to ours, on a logarithmic axis, as SVG."""
    names = list(max((row["speed"] for row in rows), key=len))
    colours = dict(zip(names, COLOURS, strict=False)) | {"products": GREY}
    times = [(row, relative_times(row)) for row in rows]
    values = [value for _, marks in times for value in marks.values()] + [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def across(value: float) -> float:
        return LEFT + WIDTH * (math.log10(value) - low) / (high - low or 1)

    bottom = TOP + STEP * len(rows)
    parts = [text(LEFT, 18, "Time of forward and backward, ours = 1 (logarithmic)", size=14)]
    x = LEFT
    for name, colour in colours.items():
        label = "bare products" if name == "products" else name
        parts += [dot(x + 5, 36, colour, label), text(x + 14, 40, label)]
        x += 30 + 7 * len(label)
    for power in range(low, high + 1):
        for tick in (1, 2, 5) if power < high else (1,):
            at = across(tick * 10.0**power)
            ours = tick == 1 and power == 0
            parts.append(stroke(at, TOP - 8, bottom, "#000000" if ours else "#dddddd"))
            parts.append(text(at, bottom + 14, f"{tick * 10.0**power:g}", anchor="middle"))
    for i, (row, marks) in enumerate(times):
        y = TOP + STEP * i + STEP / 2 - 4
        parts.append(text(LEFT - 10, y + 4, f"{row['n']} x {row['d']}", anchor="end"))
        parts += [dot(across(v), y, colours[name], f"{name} {v:.2f}") for name, v in marks.items()]
    size = f'width="{LEFT + WIDTH + 30}" height="{bottom + 24}"'
    box = f'viewBox="0 0 {LEFT + WIDTH + 30} {bottom + 24}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} font-family="sans-serif">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def relative_times(row: Row) -> dict[str, float]:
    return {name: r["median"] for name, r in row["speed"].items()} | {"products": 1 / row["products"]["median"]}


def text(x: float, y: float, content: str, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#222222">{content}</text>'


def dot(x: float, y: float, colour: str, title: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" fill-opacity="0.85"><title>{title}</title></circle>'
    )


def stroke(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'

"""The report's page without a browser: what it says, of whole and of broken runs, and that nothing in it is run."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import run as command
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import HOSTILE, make_run, write_map, write_scores

import vicreg
from vicreg import runs
from vicreg.report import write_page, write_report
from vicreg.report.curves import charts_of, thinned
from vicreg.report.packing import Pack, as_json
from vicreg.report.page import MARK, MOST_BYTES, page
from vicreg.report.reading import read_run
from vicreg.report.words import verdict_of


class Parsed(HTMLParser):
    """A page as a browser's parser sees it: its elements, its visible text, its scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self.stack = [], {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.stack.append((tag, dict(attributes).get("id", "")))

    def handle_endtag(self, tag):
        if self.stack and self.stack[-1][0] == tag:
            self.stack.pop()

    def handle_data(self, data):
        if self.stack:
            self.scripts[self.stack[-1]] = self.scripts.get(self.stack[-1], "") + data
        else:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def data(self):
        return json.loads(self.scripts["script", "data"])

    def unpacked(self, found):
        """A packed array or text, by another way than the page's."""
        content = zlib.decompress(base64.b64decode(self.scripts["script", "pack"]))
        part = content[found["at"] : found["at"] + found["bytes"]]
        if found["type"] == "text":
            return json.loads(part)
        return np.frombuffer(part, found["type"]).reshape(found["shape"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run of a table, and what is in it."""
    folder = tmp_path_factory.mktemp("runs") / "things"
    return folder, make_run(folder)


@pytest.fixture(scope="module")
def parsed(whole):
    return Parsed(page(read_run(whole[0])))


def test_a_whole_run_says_first_what_was_found(parsed):
    text = parsed.text.partition("Skip to the report")[2].partition("Colours: system")[2]
    at = [text.index(one) for one in ("The winner is vicreg", "Training", "Spectrum", "Which columns matter", "Scores")]
    assert at == sorted(at)
    for one in (
        "With 4 numbers per row, vicreg predicts",
        "A note.",
        "12 s",
        "400",
        "vicreg fit things.csv",
        "cpu",
    ):
        assert one in parsed.text
    assert "What is missing" not in parsed.text


def test_the_page_names_no_other_address(whole, parsed):
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    policy = next(a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "connect-src" not in policy


def test_the_map_in_the_page_is_that_of_the_folder(whole, parsed):
    folder, made = whole
    found = parsed.data["map"]
    table = pq.read_table(folder / "portrait" / "map.parquet")
    assert parsed.unpacked(found["items"]) == table.column("item").to_pylist() == made["items"]
    assert np.array_equal(parsed.unpacked(found["neighbors"]), made["neighbors"])
    panel = found["planes"][0]["panels"][0]
    steps = parsed.unpacked(panel["x"]).astype(float)
    x = panel["low"] if "low" in panel else panel["x"]["low"]
    x = x + (steps + 32767) / 65534 * (panel["x"]["high"] - panel["x"]["low"])
    assert np.abs(x - made["h"][:, 0]).max() <= np.ptp(made["h"][:, 0]) / 65534
    category, number = found["colours"][:2]
    levels = parsed.unpacked(category["levels"])
    assert [levels[code] for code in parsed.unpacked(category["values"])] == table.column("colour kind").to_pylist()
    assert number["name"] == HOSTILE
    there = table.column(f"colour {HOSTILE}").to_numpy()
    assert np.abs(parsed.unpacked(number["values"]) / there - 1).max() < 1.3e-4  # 12 bits of the fraction


@pytest.mark.parametrize("kind", ["image", "signal", "pair"])
def test_each_kind_has_its_page(tmp_path, kind):
    media = {"image": "pictures", "signal": "sounds"}.get(kind)
    make_run(tmp_path / "run", 60, kind=kind, media=media)
    found = Parsed(page(read_run(tmp_path / "run")))
    noun = {"image": "pictures", "signal": "signals", "pair": "pairs"}[kind]
    assert f"60 {noun}" in found.text
    assert found.data["media"]["count"] == (40 if media else 0)
    assert ("75% of partners are found at once" in found.text) == (kind == "pair")
    assert "Which columns matter" not in found.text


def test_a_report_is_written_into_the_run_and_over_itself(whole):
    folder, _ = whole
    path = write_report(folder)
    assert path == folder / "report.html"
    assert MARK in path.read_bytes()[:2000]
    assert write_report(folder) == path


def test_thumbnails_are_capped_by_number_and_by_size(tmp_path):
    make_run(tmp_path, 60, kind="image", media="pictures")
    record = read_run(tmp_path)
    few = Parsed(page(record, 7))
    assert few.data["media"]["count"] == 7
    assert few.data["media"]["of"] == 40
    offsets, block = few.data["media"]["offset"], base64.b64decode(few.scripts["script", "media"])
    assert [block[a:b] for a, b in pairwise(offsets)] == [one.content for one in record.media[:7]]
    huge = [type(one)(one.position, one.mime, bytes(2_000_000), "") for one in record.media]
    object.__setattr__(record, "media", huge)
    assert len(page(record)) < MOST_BYTES


def test_several_runs_stand_side_by_side(tmp_path, whole):
    make_run(tmp_path / "things", 50, seed=1, steps=40)
    path = write_page([whole[0], tmp_path / "things"], tmp_path / "both.html")
    found = Parsed(path.read_text(encoding="utf-8"))
    assert found.data["runs"] == ["things", "things (2)"]
    total = found.data["groups"][0]["charts"][0]
    assert [series["name"] for series in total["series"]] == ["things", "things (2)"]
    assert [len(series["x"]) for series in total["series"]] == [60, 40]
    assert "things (2) · VICReg" in found.text
    assert re.search(r"settings\.?steps|steps 60 40", found.text)


# Unfinished, damaged, diverged.


def test_an_unfinished_run_says_how_far_it_is(tmp_path):
    make_run(tmp_path, 50, finished=False)
    (tmp_path / "portrait" / "end.safetensors").unlink()
    found = Parsed(page(read_run(tmp_path)))
    assert "The run is unfinished 60 of 60 steps are done." in found.text
    assert "There is no map (portrait/map.parquet)" in found.text
    assert "no snapshot of the embedding at the end" in found.text
    assert "--resume" in found.text


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "config.yaml").write_text("kind: table\nsource: a.csv\nrows: 3\n")
    found = Parsed(page(read_run(tmp_path)))
    assert "It has begun; nothing is written down yet." in found.text
    assert found.data["groups"] == []


def test_a_diverged_run_says_where(tmp_path):
    make_run(tmp_path, 50, finished=False)
    rows = [[step, 1.0, 1.0 if step < 5 else float("nan")] for step in range(1, 9)]
    runs.write_csv(tmp_path / "metrics.csv", ["step", "invariance", "total"], rows)
    warning = {
        "step": 5,
        "failure": "diverging",
        "where": "loss",
        "said": "Said.",
        "remedy": "Lower the learning rate.",
    }
    runs.write_json(tmp_path / "warnings.json", {"warnings": [warning]})
    found = Parsed(page(read_run(tmp_path)))
    assert "The run diverged" in found.text
    assert "at step 5" in found.text
    assert "What helps Lower the learning rate." in found.text


FILES = ["metrics.csv", "config.yaml", "scores.csv", *(f"portrait/{name}" for name in ("map.parquet", "neighbors.npy"))]
FILES += [
    f"portrait/{name}" for name in ("facts.json", "looks.csv", "start.safetensors", "end.safetensors", "influence.csv")
]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_page_opens(tmp_path, name):
    make_run(tmp_path / "run", 40)
    path = tmp_path / "run" / name
    path.write_bytes(b"\xff\x00" + path.read_bytes()[: path.stat().st_size // 2])
    found = Parsed(page(read_run(tmp_path / "run")))
    assert f"Cannot be read: {name}" in found.text


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_leaves_a_page(tmp_path, name):
    make_run(tmp_path / "run", 40)
    (tmp_path / "run" / name).unlink()
    assert "Cannot be read" not in Parsed(page(read_run(tmp_path / "run"))).text


def test_neighbours_that_do_not_fit_the_map_are_damage(tmp_path):
    make_run(tmp_path, 40)
    runs.write_array(tmp_path / "portrait" / "neighbors.npy", np.full((2, 40, 10), 40, np.int32))
    assert "that does not fit a map of 40" in read_run(tmp_path).damaged[0]


@given(st.binary(max_size=200), st.sampled_from(FILES))
@settings(max_examples=40)
def test_any_bytes_leave_a_page(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("run")
    (folder / "portrait").mkdir()
    (folder / "config.yaml").write_text("rows: 3\n")
    (folder / name).write_bytes(content)
    assert Parsed(page(read_run(folder), library=False)).data["live"] is False


# Hostile names.

NAMES = st.text(min_size=1, max_size=30) | st.sampled_from(
    [
        HOSTILE,
        "</script><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "]]>",
        "<!--",
        "a\u2028b",
        "&lt;b&gt;",
    ]
)


@given(NAMES, NAMES, NAMES)
@settings(max_examples=30)
def test_names_are_only_ever_text(tmp_path_factory, item, colour, label):
    """Whatever things are called, the page has the same elements, and its data come back as they were."""
    item, colour, label = (one.encode("utf-8", "replace").decode() for one in (item, colour, label))
    folder = tmp_path_factory.mktemp("run")
    elements = []
    for one, two, three in (("item", "colour", "label"), (item, colour, label)):
        make = folder / f"{len(elements)}"
        (make / "portrait").mkdir(parents=True)
        config = {"kind": "table", "source": one, "labels": three, "settings": {two: three}}
        (make / "config.yaml").write_text(json.dumps(config))
        xy = np.zeros((2, 2))
        write_map(make / "portrait", [one, "b"], [False, True], {"pca": xy, "raw": xy}, {two: [three, None]})
        names = ["column", "permutation"]
        runs.write_csv(make / "portrait" / "influence.csv", names, [[two, 1.0]])
        runs.write_csv(make / "metrics.csv", ["step", "total", f"{two}_"], [[1, 2, 3]])
        write_scores(make / "scores.csv")
        facts = {"words": [f"{one}: {two}"], "notes": [three], "device": two, "command": one}
        runs.write_json(make / "portrait" / "facts.json", facts)
        warning = {"step": 1, "failure": one, "where": two, "said": three, "remedy": one}
        runs.write_json(make / "warnings.json", {"warnings": [warning]})
        found = Parsed(page(read_run(make), library=False))
        elements.append([tag for tag, _ in found.elements if tag in ("script", "style", "img", "a", "meta")])
        assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
        if found.data["map"] is not None:
            assert found.unpacked(found.data["map"]["items"])[0] == one
    assert elements[0] == elements[1]


def test_json_in_a_page_is_nothing_else():
    text = as_json({"a": "</script>&\u2028\u2029<!--", "b": [float("inf"), np.float32(0.5), np.int64(3), None, True]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": "</script>&\u2028\u2029<!--", "b": [None, 0.5, 3, None, True]}


# Parts.


def test_a_long_series_is_thinned_to_means_within_their_range():
    y = np.random.default_rng(0).normal(size=10_007)
    y[100:120] = np.nan
    found = thinned(np.arange(1.0, 10_008), y, 1000)
    each = found["each"]
    stretches = [y[at : at + each] for at in range(0, len(y), each)]
    known = [stretch[np.isfinite(stretch)] for stretch in stretches]
    assert len(found["y"]) == len(stretches) <= 1000
    for name, of in (("y", np.mean), ("low", np.min), ("high", np.max)):
        expected = [of(stretch) if len(stretch) else np.nan for stretch in known]
        assert np.allclose(found[name], expected, equal_nan=True)


def test_charts_group_the_branches_of_a_term(whole):
    groups = {group["id"]: group["charts"] for group in charts_of(read_run(whole[0]))}
    terms = {chart["title"]: [series["name"] for series in chart["series"]] for chart in groups["terms"]}
    assert terms["Variance"] == ["branch a", "branch b"]
    assert next(iter(terms)) == "Total"
    assert [chart["title"] for chart in groups["state"]][:2] == [
        "Share of the gradient",
        "Covariance and its noise floor",
    ]


@pytest.mark.parametrize("values", [[1.0, np.nan, -5.0], [1e6, 70_000.0], [0.123456, np.nan], [np.nan], []])
def test_packed_numbers_come_back(values):
    pack = Pack()
    found = pack.numbers(np.array(values))
    raw = np.frombuffer(zlib.decompress(base64.b64decode(pack.base64())), found["type"], len(values)).astype(float)
    raw = np.where(raw == found.get("gap", np.inf), np.nan, raw)
    assert np.allclose(raw, values, rtol=1.3e-4, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("words", "headline"),
    [
        (["The winner is a: it is."], "The winner is a"),
        (["One. Two."], "One."),
        ([f"{'long ' * 30}."], "What was found"),
        ([], "The run is finished"),
    ],
)
def test_the_headline_is_the_begin_of_the_verdict(tmp_path, words, headline):
    make_run(tmp_path, 40)
    runs.write_json(tmp_path / "portrait" / "facts.json", {"words": words})
    assert verdict_of(read_run(tmp_path)).headline == headline


# Simulated colour vision (Machado, Oliveira, Fernandes 2009, severity 1), on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def lab(linear):
    """CIELAB of linear RGB."""
    x = linear @ XYZ.T / [0.95047, 1, 1.08883]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


COLOURS = [("map.js", "LEVELS_LIGHT = .*", 10), ("map.js", "LEVELS_DARK = .*", 10)]
COLOURS += [("style.css", "--s0.*", 7), ("style.css", r"data-dark\](?s:.)*?(--s0.*)", 7)]


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("name", "where", "count"), COLOURS)
def test_colours_are_told_apart_whatever_colours_one_sees(name, where, count, vision):
    """Those of categories and of lines are at least 20 apart in CIELAB, where 2 is just noticeable."""
    text = (Path(vicreg.__file__).parent / "report" / "static" / name).read_text(encoding="utf-8")
    found = re.findall("#([0-9a-f]{6})", re.search(where, text)[0].rpartition("\n")[2])
    assert len(found) == count
    srgb = np.array([[int(one[at : at + 2], 16) for at in (0, 2, 4)] for one in found]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    places = lab((linear @ np.array(VISION[vision]).T).clip(0, 1))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(count, 1)]
    assert apart.min() > 20


# Errors, and the command.


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a run; got no such folder. Fit one first."):
        write_page([tmp_path / "none"])
    with pytest.raises(ValueError, match="must be the folder of a run; got a folder without any file of one."):
        write_page([tmp_path])


def test_another_file_is_not_written_over(tmp_path, whole):
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="must be new or a report; got another file. Name another --out."):
        write_page([whole[0]], tmp_path / "mine.html")
    with pytest.raises(ValueError, match="--max-thumbnails must be at least 0; got -1"):
        write_page([whole[0]], max_thumbnails=-1)


def test_without_plotly_there_is_no_report(monkeypatch, whole):
    monkeypatch.setattr("vicreg.report.library.find_spec", lambda name: None)
    assert write_report(whole[0]) is None
    with pytest.raises(ImportError, match=r"plotly and jinja2 must be installed for a report; .* 'vicreg\[report\]'"):
        write_page([whole[0]])


def test_the_command(tmp_path, whole, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("report", whole[0]) == 0
    assert capsys.readouterr().out == f"The report is {whole[0] / 'report.html'}.\n"
    assert command("report", whole[0], whole[0], "--out", "two.html", "--max-thumbnails", "3") == 0
    assert MARK in Path("two.html").read_bytes()[:2000]
    assert command("report", whole[0], whole[0]) == 0
    assert Path("report.html").exists()
    assert command("report") == 2
    assert "vicreg report must be given a run; got none" in capsys.readouterr().err
    assert command("report", "nowhere") == 2

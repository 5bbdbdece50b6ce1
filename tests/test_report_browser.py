"""The report in a real browser: Chromium without a window, through Playwright."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reports import HOSTILE, Visit, browser, make_run, text_table, write_map, write_scores

from vicreg import runs
from vicreg.report import watched, write_page

pytestmark = pytest.mark.slow
N = 400


@pytest.fixture(scope="module")
def opened():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The page of a whole run of a table, and what is in it."""
    folder = tmp_path_factory.mktemp("runs") / "things"
    made = make_run(folder, N)
    return write_page([folder]).as_uri(), made


@pytest.fixture(scope="module")
def visit(opened, table):
    """One visit that the tests of the map share."""
    found = Visit(opened, table[0])
    yield found
    found.context.close()


def near(visit, which):
    """The items of a list of neighbours."""
    buttons = visit.page.locator("ol.near").nth(which).locator("button")
    return [int(one) for one in buttons.evaluate_all("all => all.map(b => b.dataset.item)")]


def test_the_page_opens_quietly_and_draws(visit):
    assert visit.page.title() == "things · vicreg"
    assert visit.js("vicreg.map.panels.map(panel => panel.drawn)") == [N, N]
    drawn = visit.js("[...document.querySelectorAll('.plot')].filter(p => p.offsetParent).map(p => p.dataset.drawn)")
    assert set(drawn) == {"yes"}
    assert visit.page.locator(".plot .main-svg").count() > 10
    assert visit.wide() <= 0
    assert visit.quiet(), (visit.said, visit.asked)
    visit.page.evaluate("scrollTo(0, 0)")
    visit.shot("table-desktop-light", full_page=True)


def test_the_dots_are_where_the_numbers_say(visit, table):
    """The canvas has ink at the place of an item, and none in an empty corner."""
    x, y = visit.js("vicreg.map.panels[0].to(17)")
    under = "vicreg.map.panels[0].under"
    pixels = f"{under}.getContext('2d').getImageData(0, 0, {under}.width, {under}.height).data"
    width = visit.js(f"{under}.width")
    at = 4 * (round(y) * width + round(x))
    dot, corner = visit.js(
        f"(() => {{ const p = {pixels}; return [[...p.slice({at}, {at} + 3)], [...p.slice(0, 3)]]; }})()"
    )
    assert dot != corner
    a, b, c = (np.array(visit.js(f"vicreg.map.panels[0].to({k})")) for k in (1, 2, 3))
    h = table[1]["h"][:, :2] * [1, -1]  # a screen's second axis points down
    scale = np.linalg.norm(b - a) / np.linalg.norm(h[2] - h[1])
    assert np.allclose(c - a, scale * (h[3] - h[1]), atol=0.5)


def test_pointing_shows_the_row(visit):
    visit.page.mouse.move(*visit.point(17))
    pointed = visit.js("vicreg.map.hovered")
    tip = visit.page.locator(".tip")
    assert tip.is_visible()
    assert f"item {pointed}" in tip.inner_text()
    assert "kind: " in tip.inner_text()
    visit.page.mouse.move(5, 5)
    assert tip.is_hidden()


def test_a_click_lists_the_nearest_of_both_spaces(visit, table):
    visit.page.mouse.click(*visit.point(42))
    chosen = visit.js("vicreg.map.selected")
    made = table[1]
    for which, x in enumerate((made["h"], made["raw"])):
        distance = ((x - x[chosen]) ** 2).sum(1)
        distance[chosen] = np.inf
        assert near(visit, which) == np.argsort(distance, kind="stable")[:10].tolist()
    assert f"item {chosen}" in visit.page.locator("#inspector h3").first.inner_text()
    shared = set(near(visit, 0)) & set(near(visit, 1))
    assert visit.page.locator("ol.near").nth(0).locator(".both").count() == len(shared)


def test_the_share_of_equal_neighbours_is_that_of_numpy(visit, table):
    group, neighbors = table[1]["group"], table[1]["neighbors"]
    first, second = (100 * (group[neighbors[k]] == group[:, None]).mean() for k in (0, 1))
    assert visit.until("document.querySelector('#agreement').textContent !== ''", True)
    said = visit.page.locator("#agreement").inner_text()
    assert f"{first:.1f} % share an item's kind in the representation, {second:.1f} % in the raw data" in said


def test_the_colours_switch(visit):
    legend = visit.page.locator("#legend")
    titles = legend.locator("button").evaluate_all("all => all.map(button => button.title)")
    assert titles == [HOSTILE, "round", "square"]
    before = visit.js("vicreg.map.look.join()")
    visit.page.select_option("#colour", label=HOSTILE)
    assert visit.js("vicreg.map.look.join()") != before
    assert legend.locator("canvas.scale").count() == 1
    visit.page.select_option("#colour", label="kind")
    legend.locator("button").nth(1).click()
    assert visit.js("vicreg.map.panels[0].drawn") < N
    legend.locator("button").nth(1).click()
    assert visit.js("vicreg.map.panels[0].drawn") == N
    visit.page.select_option("#shown", "held")
    assert visit.js("vicreg.map.panels[0].drawn") == visit.js("vicreg.map.held.filter(Boolean).length")
    visit.page.select_option("#shown", "all")


def test_an_item_is_found_by_its_name(visit):
    visit.page.fill("#search", "ITEM 31")
    assert visit.page.locator("#found li").first.inner_text() == "item 31"
    visit.page.press("#search", "Enter")
    assert visit.js("vicreg.map.selected") == 31
    visit.page.fill("#search", "<script>")
    visit.page.press("#search", "ArrowDown")
    visit.page.press("#search", "Enter")
    assert visit.js("vicreg.map.selected") == 3
    visit.page.fill("#search", "nobody")
    assert visit.page.locator("#found").inner_text() == "Nothing by that name."
    visit.page.press("#search", "Escape")
    assert visit.page.locator("#found").is_hidden()


def test_the_keyboard_reaches_and_moves_everything(visit):
    visit.page.locator(".skip").focus()
    reached = []
    for _ in range(45):
        reached.append(
            visit.js("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
        )
        visit.page.keyboard.press("Tab")
    assert {"theme", "part", "colour", "search", "top"} <= set(reached)
    visit.page.locator("canvas.top").first.focus()
    outline = visit.js("getComputedStyle(document.activeElement).outlineStyle")
    visit.js("vicreg.map.select(42)")
    visit.page.keyboard.press("ArrowRight")
    moved = visit.js("vicreg.map.selected")
    assert moved != 42
    assert visit.js(f"vicreg.map.panels[0].x[{moved}] > vicreg.map.panels[0].x[42]")
    before = visit.js("vicreg.map.panels[0].view.scale")
    visit.page.keyboard.press("+")
    assert visit.js("vicreg.map.panels[0].view.scale") == pytest.approx(1.5 * before)
    visit.page.keyboard.press("0")
    assert visit.js("vicreg.map.panels[0].view.scale") == pytest.approx(before)
    visit.page.keyboard.press("Escape")
    assert visit.js("vicreg.map.selected") == -1
    assert outline != "none"


def test_the_axes_switch(visit):
    total = "document.querySelector('[data-chart=\"term total\"]')"
    visit.page.locator('[data-axis="y"][data-scale="log"]').click()
    assert visit.until(f"{total}._fullLayout.yaxis.type", "log")
    visit.page.locator('[data-axis="x"][data-scale="log"]').click()
    assert visit.until(f"{total}._fullLayout.xaxis.type", "log")
    assert visit.js(f"{total}._fullLayout.shapes.map(shape => shape.x0)") == [pytest.approx(30)]  # where it was resumed


@pytest.mark.parametrize(("name", "first", "lines"), [("map", "item", N), ("influence", "column", 5)])
def test_tables_are_downloaded(visit, name, first, lines):
    with visit.page.expect_download() as waiting:
        visit.page.locator(f'[data-csv="{name}"]').click()
    rows = text_table(waiting.value.path())
    assert rows[0][0] == first
    assert len(rows) == lines + 1
    if name == "map":
        assert rows[4][0] == HOSTILE
        x = visit.js("vicreg.map.panels[0].x[6]")
        assert float(rows[7][rows[0].index("pca_x")]) == pytest.approx(x)


def test_a_spreadsheet_would_run_nothing(visit):
    cells = visit.js("vicreg.cell ? ['=1', '+a', '-a', '@a', '-1.5', 'a,b', 'a\"'].map(vicreg.cell) : null")
    assert cells == ["'=1", "'+a", "'-a", "'@a", "-1.5", '"a,b"', '"a"""']


def contrast(first, second):
    """WCAG's ratio of two colours, each as red, green, blue."""

    def light(colour):
        parts = np.array(colour) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    one, other = sorted((light(first), light(second)), reverse=True)
    return (one + 0.05) / (other + 0.05)


@pytest.mark.parametrize("way", ["light", "dark"])
def test_text_is_told_from_its_ground(visit, way):
    """WCAG AA: 4.5 for text, 3 for what is drawn."""
    visit.page.emulate_media(color_scheme=way)
    names = ["paper", "card", "tint", "ink", "soft", "accent", "good", "bad", "badtint", *(f"s{k}" for k in range(7))]
    styles = "getComputedStyle(document.documentElement)"
    values = visit.js(f"{names}.map(name => {styles}.getPropertyValue('--' + name).trim())")
    colours = {
        name: [int(value.removeprefix("#")[at : at + 2], 16) for at in (0, 2, 4)]
        for name, value in zip(names, values, strict=True)
    }
    for ground in ("paper", "card", "tint"):
        for text in ("ink", "soft", "accent", "good", "bad"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["ink"], colours["badtint"]) >= 4.5
    for line in range(7):
        assert contrast(colours[f"s{line}"], colours["card"]) >= 3, line
    visit.page.emulate_media(color_scheme="light")


def test_the_switch_of_colours(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visit.js(ground)
    for _ in range(2):
        visit.page.locator("#theme").click()
    assert visit.page.locator("#theme").inner_text() == "Colours: dark"
    assert visit.js(ground) != light
    visit.page.locator("#theme").click()
    assert visit.js(ground) == light
    assert visit.quiet(), visit.said


def test_dark_and_narrow_and_printed(opened, table):
    for way, width in (("dark", 1280), ("light", 390), ("dark", 390)):
        found = Visit(opened, table[0], width=width, height=844, color_scheme=way)
        found.js("vicreg.map.select(42)")
        assert found.wide() <= 0
        assert found.quiet(), found.said
        found.shot(f"table-{'phone' if width < 400 else 'desktop'}-{way}", full_page=True)
        if width == 390 and way == "dark":
            found.page.emulate_media(media="print")
            assert found.page.locator(".bar").is_hidden()
            assert found.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        found.context.close()


@pytest.mark.parametrize("kind", ["image", "signal", "pair"])
def test_the_other_kinds(opened, tmp_path, kind):
    folder = tmp_path / kind
    make_run(folder, 120, kind=kind, media={"image": "pictures", "signal": "sounds"}.get(kind))
    found = Visit(opened, write_page([folder]).as_uri())
    x, y = found.point(5)
    found.page.mouse.move(x, y)
    found.js("vicreg.map.hover(5)")
    if kind == "image":
        assert found.page.locator(".tip img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    found.js("vicreg.map.select(5)")
    if kind == "signal":
        assert found.page.locator("#inspector button.play").count() == 1
        found.page.locator("#inspector button.play").click()
        assert found.js("vicreg.map.voice.src").startswith("blob:")
    if kind == "pair":
        found.page.locator('#direction [data-side="b"]').click()
        assert found.page.locator(".example").count() == 8
        assert found.page.locator(".example li.partner").count() == 4
    found.page.wait_for_timeout(200)
    found.shot(f"{kind}-desktop-light", full_page=True)
    assert found.wide() <= 0
    assert found.quiet(), found.said
    found.context.close()


def test_hostile_names_run_nothing(opened, tmp_path):
    bad = [
        HOSTILE,
        '"><img src=x onerror=alert(1)>',
        "</script><script>alert(2)</script>",
        "<a href='javascript:alert(3)'>b</a>",
    ]
    make_run(tmp_path / "run", 40)
    portrait = tmp_path / "run" / "portrait"
    xy = np.random.default_rng(0).normal(size=(4, 2))
    write_map(portrait, bad, [True] * 4, {"pca": xy, "raw": xy}, dict.fromkeys(bad, bad))
    runs.write_csv(
        portrait / "influence.csv", ["column", "permutation", *bad], [[name, 0.25, 1, 1, 1, 1] for name in bad]
    )
    runs.write_csv(tmp_path / "run" / "metrics.csv", ["step", *bad], [[1, 1, 2, 3, 4], [2, 1, 2, 3, 4]])
    runs.write_json(portrait / "facts.json", {"words": bad, "notes": bad, "command": bad[1], "device": bad[2]})
    runs.write_array(portrait / "neighbors.npy", np.full((2, 4, 10), -1, np.int32))
    write_scores(tmp_path / "run" / "scores-b.csv")
    found = Visit(opened, write_page([tmp_path / "run"]).as_uri())
    for item in range(4):
        found.js(f"vicreg.map.hover({item})")
        found.js(f"vicreg.map.select({item})")
    found.page.mouse.move(*found.point(1))
    box = found.page.locator('[data-figure="influence"]').bounding_box()
    found.page.mouse.move(box["x"] + 200, box["y"] + 30)
    found.page.wait_for_timeout(300)
    assert found.js("[...document.querySelectorAll('img[src=x], main a[href]')].length") == 0
    assert found.quiet(), (found.said, found.dialogs)
    found.context.close()


def test_runs_side_by_side(opened, tmp_path):
    for seed, name in enumerate(("first", "second")):
        make_run(tmp_path / name, 50, seed=seed)
    page = write_page([tmp_path / "first", tmp_path / "second"], tmp_path / "both.html")
    found = Visit(opened, page.as_uri())
    assert found.page.locator(".column h2").all_inner_texts() == ["first", "second"]
    assert found.wide() <= 0
    assert found.quiet(), found.said
    found.shot("comparison-desktop-light", full_page=True)
    found.context.close()


def test_a_served_page_follows_its_run_without_reloading(opened, tmp_path):
    folder = tmp_path / "run"
    with watched(folder) as address:
        found = Visit(opened, address, drawn=False)
        found.js("window.before = 1")
        make_run(folder, 60, finished=False, steps=20)
        found.page.wait_for_selector("text=20 of 20 steps are done", timeout=60_000)
        chart = '[data-chart="term total"][data-drawn]'
        found.page.wait_for_selector(chart, state="attached", timeout=60_000)
        found.page.locator('[data-axis="y"][data-scale="log"]').click()
        make_run(tmp_path / "whole", 60, steps=60)
        for path in sorted((tmp_path / "whole").rglob("*.*")):
            path.replace(folder / path.relative_to(tmp_path / "whole"))
        (folder / "checkpoint" / "last.safetensors").unlink()
        found.page.wait_for_selector("text=The winner is vicreg", timeout=60_000)
        found.page.wait_for_selector("#map .stage", timeout=60_000)
        total = "document.querySelector('[data-chart=\"term total\"]')"
        assert found.until(f"{total}.data.at(-1).x.length", 60)
        assert found.js(f"{total}._fullLayout.yaxis.type") == "log"  # what was chosen stays
        assert found.until("vicreg.map.panels.map(panel => panel.drawn)", [60, 60])
        assert found.js("window.before") == 1
        assert {url.split("/")[2] for url in found.asked if url.startswith("http")} == {address.split("/")[2]}
        assert found.said == []
    found.context.close()


def test_the_picture_of_the_readme_can_be_made_again(opened, tmp_path):
    """Of any run: the verdict above two maps, in many colours, as wide as that in the README."""
    make_run(tmp_path / "things", N)
    script, kept = Path(__file__).parents[1] / "docs" / "report.py", Path(__file__).parents[1] / "docs" / "report.png"
    made = tmp_path / "report.png"
    subprocess.run([sys.executable, str(script), str(tmp_path / "things"), str(made)], check=True)
    with Image.open(made) as picture, Image.open(kept) as shown:
        assert picture.width == shown.width
        assert picture.height > 0.8 * picture.width
        assert len(picture.convert("RGB").getcolors(10**6)) > 50

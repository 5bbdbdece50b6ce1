"""Makes docs/report.png: the verdict and the map of a run's report, as Chromium shows them.

Run it by ``python docs/report.py RUN``; that in the README is of the digits that scikit-learn brings along, by
``vicreg fit digits.csv --labels digit --n-components 8``. Chromium is found as such, or named by VICREG_CHROMIUM.
"""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from vicreg.report import write_page

WINDOW, WIDTH, EDGE, COLOURS = {"width": 1180, "height": 1000}, 1000, 28, 256
NAMES = ("chromium", "chromium-browser", "google-chrome")


def main(run: Path, out: Path) -> None:
    """Write the picture."""
    path = os.environ.get("VICREG_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=path, args=flags).new_page(viewport=WINDOW)
        page.goto(write_page([run], Path(folder) / "report.html").as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
        page.evaluate("document.querySelector('.bar').style.display = 'none'")
        page.evaluate("document.querySelector('#agreement').nextElementSibling.remove()")  # the list of a chosen item
        shots = [
            Image.open(io.BytesIO(page.locator(part).screenshot())).convert("RGB") for part in ("#verdict", "#map")
        ]
        page.context.browser.close()
    ground = shots[0].getpixel((0, 0))
    size = (shots[0].width + 2 * EDGE, sum(shot.height for shot in shots))
    whole = Image.new("RGB", size, ground)
    top = 0
    for shot in shots:
        whole.paste(shot, (EDGE, top))
        top += shot.height
    small = whole.resize((WIDTH, round(size[1] * WIDTH / size[0])), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).with_name("report.png")))

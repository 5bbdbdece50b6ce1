"""What a report of 50,000 points weighs, and how soon it can be used: ``python benchmarks/report.py``.

Needs Chromium and Playwright. Of the 20 columns 19 are noise, and so are the neighbours: hardly anything can be
compressed. The page can be used once its words are there and its map is drawn and answers; the charts follow. Wall
times are of a machine as busy as it is; the main thread's processor time has some of the charts in it.
"""

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from reports import browser, make_run

from vicreg.report import write_page

POINTS, COLUMNS, THUMBNAILS, TRIES = 50_000, 20, 2000, 5


def thumbnails(path: Path) -> None:
    """Pictures of noise, which compress worst."""
    draw = np.random.default_rng(0)
    contents = []
    for _ in range(THUMBNAILS):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 255, (48, 64, 3), np.uint8)).save(file, "JPEG", quality=60)
        contents.append(file.getvalue())
    columns = {
        "position": pa.array(range(THUMBNAILS), pa.int32()),
        "mime": pa.array(["image/jpeg"] * THUMBNAILS),
        "content": pa.array(contents, pa.binary()),
    }
    pq.write_table(pa.table(columns), path)


def main() -> None:
    """Make the page, and open it several times."""
    with tempfile.TemporaryDirectory() as folder, browser() as opened:
        run = Path(folder) / "run"
        make_run(run, POINTS, columns=COLUMNS)
        thumbnails(run / "portrait" / "media.parquet")
        wall, own = time.perf_counter(), time.process_time()
        path = write_page([run])
        print(f"written in {time.perf_counter() - wall:.1f} s ({time.process_time() - own:.1f} s of processor time)")
        print(f"{path.stat().st_size / 1e6:.2f} MB")
        ready, busy = [], []
        for _ in range(TRIES):
            page = opened.new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
            ready.append(page.evaluate("vicreg.ready") / 1000)
            found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            busy.append(found["TaskDuration"])
            page.close()
        print(f"usable after {statistics.median(ready):.1f} s ({min(ready):.1f} to {max(ready):.1f})")
        print(
            f"main thread's processor time until asked: {statistics.median(busy):.1f} s ({min(busy):.1f} at the least)"
        )


if __name__ == "__main__":
    main()

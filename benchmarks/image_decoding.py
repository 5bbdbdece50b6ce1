"""From JPEG files to two crops each, against the bare decoding of the same files.

    python benchmarks/image_decoding.py [--side 224] [--seconds 20] [--json FILE]

64 photographs of 500 x 375 are cut out of the two that scikit-learn bundles and written as JPEG at several qualities;
the larger files are about as large as ImageNet's. One thread; the works take turns in one process, a few pictures at a
time, and a figure is the median over the turns with its quartiles. A rate of 1 is that of simplejpeg's full decode: of
bytes that are in memory already, and, in the second column, of files that are read as well.
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from measure import in_turn, ratios
from sklearn.datasets import load_sample_images

from vicreg.data.corrupt import Corrupt
from vicreg.data.image_folder import ImageFolder
from vicreg.data.image_source import Crop, decoded
from vicreg.views.crop import NUMBERS, rectangle, resized_one

PHOTOS = 64
AT_ONCE = 8
HEIGHT, WIDTH = 375, 500
QUALITIES = (85, 90, 95, 98)
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
CPU = torch.device("cpu")
BARE, READ = "bare decode", "read and bare decode"


def write_photos(folder: Path, quality: int, rng: np.random.Generator) -> None:
    pictures = load_sample_images().images
    for number in range(PHOTOS):
        picture = pictures[number % len(pictures)]
        top, left = (int(rng.integers(0, room + 1)) for room in (picture.shape[0] - HEIGHT, picture.shape[1] - WIDTH))
        part = picture[top : top + HEIGHT, left : left + WIDTH][:, :: 1 if rng.random() < 0.5 else -1]
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(part), quality=quality, colorsubsampling="420")
        (folder / f"{number:03}.jpg").write_bytes(data)


def crop(numbers: np.ndarray, side: int) -> Crop:
    u = numbers.tolist()
    return lambda height, width: (rectangle(u, height, width, SCALE, RATIO), u[-1] < 0.5), side


def measured(quality: int, side: int, budget: float) -> dict[str, object]:
    rng = np.random.default_rng(0)
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), quality, rng)
        source, ledger = ImageFolder(folder), Corrupt(of=PHOTOS)
        paths = [Path(folder, name) for name in source.names]
        data = [path.read_bytes() for path in paths]
        crops = [[crop(numbers, side) for numbers in rng.random((2, NUMBERS))] for _ in source.names]
        resizers = {"two crops": resized_one, "two crops, bilinear": partial(resized_one, interpolation="bilinear")}
        for begin in range(0, PHOTOS, AT_ONCE):
            some = range(begin, begin + AT_ONCE)
            works = {
                BARE: lambda some=some: [simplejpeg.decode_jpeg(data[i]) for i in some],
                READ: lambda some=some: [simplejpeg.decode_jpeg(paths[i].read_bytes()) for i in some],
            }
            for name, resize in resizers.items():
                works[name] = lambda some=some, resize=resize: [
                    decoded(source, i, crops[i], resize, ledger) for i in some
                ]
            for name, one in in_turn(works, budget * AT_ONCE / PHOTOS, least=5, device=CPU)[0].items():
                took.setdefault(name, []).extend(one)
    return {
        "quality": quality,
        "kilobytes": statistics.mean(map(len, data)) / 1000,
        "pictures_per_second": {name: AT_ONCE / statistics.median(one) for name, one in took.items()},
        "rate": {name: ratios(took[BARE], one) for name, one in took.items()},
        "rate_with_reading": {name: ratios(took[READ], one) for name, one in took.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=224, help="of the crops, in pixels")
    parser.add_argument("--seconds", type=float, default=20, help="for each quality")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measured(quality, options.side, options.seconds) for quality in QUALITIES]
    for result in results:
        print(f"quality {result['quality']}, {result['kilobytes']:.0f} kB a picture")
        for name, rate in result["rate"].items():
            read = result["rate_with_reading"][name]
            columns = "   ".join(f"{one['median']:.2f} [{one['low']:.2f} {one['high']:.2f}]" for one in (rate, read))
            print(f"  {name:22} {columns} {result['pictures_per_second'][name]:7.0f} a second")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

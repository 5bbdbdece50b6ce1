"""Pictures for the tests of the command line, and the commands as people type them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TINY = ["--width", "16", "--expander", "32", "--image-size", "8", "--batch-size", "16", "--device", "cpu"]


def digits(count):
    """Handwritten digits, (count, 8, 8) uint8, and what they show."""
    found = load_digits()
    return (found.images[:count] * 15.9).astype(np.uint8), found.target[:count]


def encoded(picture, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def array(path, count=60):
    """Pictures of one size, which are kept in memory."""
    images, labels = digits(count)
    np.savez(path, images=images, labels=labels % 3)


def tree(path, count=60):
    """Pictures of different sizes, which are opened one by one, in three folders; one of them is damaged."""
    for index, (picture, label) in enumerate(zip(*digits(count), strict=True)):
        file = Path(path, f"kind{label % 3}", f"{index:03}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(np.pad(picture, ((0, index % 3), (0, 1)))))
    Path(path, "kind0", "000.png").write_bytes(b"no picture")


def shards(path, each=20):
    """Three tars."""
    Path(path).mkdir()
    images, _ = digits(3 * each)
    for shard in range(3):
        with tarfile.open(Path(path, f"{shard}.tar"), "w") as tar:
            for index in range(shard * each, (shard + 1) * each):
                data = encoded(np.pad(images[index], ((0, index % 2), (0, 0))))
                info = tarfile.TarInfo(f"{index}.png")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

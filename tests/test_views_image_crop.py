"""Crops: the law of the rectangles, and the pixels, against a slow loop, Pillow and PyTorch's own resampling."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import kstest
from torch.nn import functional as F  # noqa: N812

from vicreg.views import crop
from vicreg.views.crop import central, draw, rectangle, rectangles, resized, resized_one

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def smooth(count, height, width, seed=0):
    """Pictures with some detail but no noise, (count, 3, height, width) uint8."""
    coarse = torch.rand(
        count, 3, max(2, height // 3), max(2, width // 3), generator=torch.Generator().manual_seed(seed)
    )
    pictures = F.interpolate(coarse * 255, size=(height, width), mode="bilinear", align_corners=False)
    return pictures.round().to(torch.uint8)


def slow_rectangle(u, height, width, scale, ratio):
    """torchvision's loop, with its random numbers handed in."""
    tries = iter(u[:20])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * next(tries))
        aspect = (ratio[0]) ** (1 - (share := next(tries))) * ratio[1] ** share
        w, h = int(np.round(np.sqrt(area * aspect))), int(np.round(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            return math.floor(u[20] * (height - h + 1)), math.floor(u[21] * (width - w + 1)), h, w
    if width / height < min(ratio):
        w, h = width, max(1, round(width / min(ratio)))
    elif width / height > max(ratio):
        w, h = max(1, round(height * max(ratio))), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    scale=st.sampled_from([SCALE, (0.05, 0.14), (1.0, 1.0)]),
    ratio=st.sampled_from([RATIO, (1.0, 1.0), (3.0, 4.0)]),
    seed=st.integers(0, 2**30),
)
def test_rectangles_are_those_of_the_slow_loop(height, width, scale, ratio, seed):
    u = draw(30, torch.Generator().manual_seed(seed))
    slow = [slow_rectangle(row, height, width, scale, ratio) for row in u.tolist()]
    assert rectangles(u, height, width, scale, ratio).tolist() == [list(one) for one in slow]
    assert [rectangle(row, height, width, scale, ratio) for row in u.tolist()] == slow
    sizes = torch.full((30,), height), torch.full((30,), width)
    assert rectangles(u, *sizes, scale, ratio).tolist() == [list(one) for one in slow]


def test_pictures_of_several_sizes_get_what_each_gets_alone():
    u = draw(50, torch.Generator().manual_seed(0))
    heights, widths = torch.arange(1, 51), torch.arange(100, 0, -2)
    together = rectangles(u, heights, widths, SCALE, RATIO)
    alone = [rectangles(u[i : i + 1], int(heights[i]), int(widths[i]), SCALE, RATIO)[0] for i in range(50)]
    assert torch.equal(together, torch.stack(alone))
    assert (together[:, :2] >= 0).all()
    assert (together[:, 2:] > 0).all()
    assert (together[:, 0] + together[:, 2] <= heights).all()
    assert (together[:, 1] + together[:, 3] <= widths).all()


def test_shares_ratios_and_places_are_uniform():
    u = draw(4000, torch.Generator().manual_seed(0))
    top, left, h, w = rectangles(u, 4000, 4000, (0.1, 0.4), RATIO).double().unbind(1)
    assert kstest(h * w / 4000**2, "uniform", (0.1, 0.3)).pvalue > 0.001
    assert kstest((w / h).log(), "uniform", (math.log(3 / 4), 2 * math.log(4 / 3))).pvalue > 0.001
    assert kstest(top / (4000 - h), "uniform").pvalue > 0.001
    assert kstest(left / (4000 - w), "uniform").pvalue > 0.001


def test_numbers_come_from_the_generator_alone():
    before = torch.get_rng_state()
    one, two = (draw(5, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.dtype == torch.float64
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (28, 40, 32), (20, 17, 48), (120, 90, 64)])
def test_pixels_are_pillows(height, width, size, interpolation):
    """Pillow crops, then resizes; it rounds to bytes between its two passes, hence a level or two."""
    images = smooth(20, height, width)
    u = draw(20, torch.Generator().manual_seed(1))
    chosen, flips = rectangles(u, height, width, SCALE, RATIO), u[:, -1] < 0.5
    crops = resized(images, chosen, flips, size, interpolation)
    assert crops.dtype == torch.uint8
    for image, (top, left, h, w), flip, ours in zip(images, chosen.tolist(), flips, crops, strict=True):
        part = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + w, top + h))
        pillow = np.array(part.resize((size, size), PILLOW[interpolation])).transpose(2, 0, 1).astype(int)
        pillow = pillow[..., ::-1] if flip else pillow
        difference = np.abs(pillow - ours.numpy().astype(int))
        assert difference.max() <= 2
        assert difference.mean() < 0.3


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_products_are_interpolate_on_the_cropped_floats(interpolation):
    """Without rounding in between: only the last one is left."""
    images = smooth(30, 40, 33)
    chosen = rectangles(draw(30, torch.Generator().manual_seed(2)), 40, 33, SCALE, RATIO)
    ours = resized(images, chosen, torch.zeros(30, dtype=torch.bool), 24, interpolation)
    for image, (top, left, h, w), crop_ in zip(images.double(), chosen.tolist(), ours, strict=True):
        part = image[None, :, top : top + h, left : left + w]
        exact = F.interpolate(part, size=(24, 24), mode=interpolation, antialias=True)[0].clamp(0, 255)
        assert (exact - crop_).abs().max() <= 0.501


def test_both_ways_to_crop_agree_in_any_memory_format_and_block(monkeypatch):
    images = smooth(40, 40, 30)
    u = draw(40, torch.Generator().manual_seed(3))
    chosen, flips = rectangles(u, 40, 30, SCALE, RATIO), u[:, -1] < 0.5
    products = resized(images, chosen, flips, 32)
    assert torch.equal(products, resized(images.contiguous(memory_format=torch.channels_last), chosen, flips, 32))
    monkeypatch.setattr(crop, "BLOCK", 3 * 40 * 32 * 7)
    assert torch.equal(products, resized(images, chosen, flips, 32))
    monkeypatch.setattr(crop, "SMALL", 0)
    one_by_one = resized(images, chosen, flips, 32)
    assert (products.int() - one_by_one.int()).abs().max() <= 2
    assert torch.equal(one_by_one, resized(images.contiguous(memory_format=torch.channels_last), chosen, flips, 32))


@pytest.mark.parametrize("side", [16, 64])
def test_the_whole_picture_at_its_own_size_is_itself_and_its_flip(side):
    images = torch.randint(256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    crops = resized(images, torch.tensor([[0, 0, side, side]] * 2), torch.tensor([False, True]), side)
    assert torch.equal(crops[0], images[0])
    assert torch.equal(crops[1], images[1].flip(-1))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 60), (60, 1), (2, 3), (70, 20)])
@pytest.mark.parametrize("size", [1, 5, 50])
def test_any_size(height, width, size):
    images = torch.full((3, 3, height, width), 200, dtype=torch.uint8)
    u = draw(3, torch.Generator().manual_seed(0))
    crops = resized(images, rectangles(u, height, width, SCALE, RATIO), u[:, -1] < 0.5, size)
    assert crops.shape == (3, 3, size, size)
    assert (crops == 200).all()


def test_no_pictures_give_no_crops():
    none = torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    for side in (8, 80):
        assert resized(torch.zeros(0, 3, side, side, dtype=torch.uint8), *none, 4).shape == (0, 3, 4, 4)


def test_one_picture_for_workers_is_the_same_crop():
    images = smooth(6, 80, 100)
    u = draw(6, torch.Generator().manual_seed(5))
    chosen, flips = rectangles(u, 80, 100, SCALE, RATIO), u[:, -1] < 0.5
    together = resized(images, chosen, flips, 64)
    for image, row, crop_ in zip(images, u.tolist(), together, strict=True):
        picture = image.permute(1, 2, 0).contiguous()
        array = picture.numpy().copy()
        array.flags.writeable = False
        for given_ in (picture, array):
            one = resized_one(given_, rectangle(row, 80, 100, SCALE, RATIO), row[-1] < 0.5, 64)
            assert torch.equal(one, crop_)


def test_central_squares():
    assert central(10, 20, 1.0) == (0, 5, 10, 10)
    assert central(256, 300, 224 / 256) == (16, 38, 224, 224)
    assert central(1, 1, 0.1) == (0, 0, 1, 1)


def test_other_inputs_are_refused():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    where = torch.tensor([[0, 0, 4, 4]] * 2), torch.zeros(2, dtype=torch.bool)
    with pytest.raises(TypeError, match=r"images must be uint8; got torch.float32"):
        resized(images.float(), *where, 4)
    with pytest.raises(ValueError, match=r"images must have shape \(b, 3, h, w\); got \(2, 8, 8, 3\)"):
        resized(images.permute(0, 2, 3, 1), *where, 4)
    with pytest.raises(ValueError, match=r"size must be at least 1; got 0"):
        resized(images, *where, 0)
    with pytest.raises(ValueError, match=r"interpolation must be one of 'bicubic', 'bilinear'; got 'nearest'"):
        resized(images, *where, 4, "nearest")
    with pytest.raises(ValueError, match=r"rectangles and flips must be of shapes \(2, 4\) and \(2,\); got"):
        resized(images, where[0][:1], where[1], 4)

"""Views of images: each operation against kornia, Pillow, SciPy or NumPy, and the recipes against the official code."""

import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter
from test_views_image_crop import smooth

from vicreg.views import blur
from vicreg.views.blur import blur_
from vicreg.views.colour import channel_means, greyed, hue_rotation, jitter, recoloured
from vicreg.views.image import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RECIPES,
    ImageView,
    evaluation_view,
    image_views,
    solarize_,
)

# NTSC's (red, green, blue) to YIQ, as printed in the standard's common form.
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
STILL = ImageView(8, flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def levels(x):
    """From a view's output to levels of 0 to 255."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x * std + mean) * 255


def uniform(count, low, high, seed=0):
    return low + (high - low) * torch.rand(count, generator=seeded(seed))


# Colour


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.1, 0.5])
def test_hue_is_a_rotation_in_yiq(turns):
    """By a negative angle, since hues run clockwise in the plane of I and Q."""
    angle = -2 * math.pi * turns
    rotation = np.eye(3)
    rotation[1:, 1:] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    expected = np.linalg.inv(YIQ) @ rotation @ YIQ
    ours = hue_rotation(torch.tensor([turns], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(ours, expected, atol=5e-4)  # the printed digits of the table


def test_hue_departs_from_hsv_as_documented():
    """The same way round and as far as kornia's HSV shift on average, a cosine of about .7 with it."""
    enhance = pytest.importorskip("kornia.enhance")
    x = 0.5 + 0.3 * (torch.rand(2000, 3, generator=seeded()) - 0.5)
    for turns in (-0.1, 0.1):
        ours = x @ hue_rotation(torch.tensor([turns]))[0].T - x
        theirs = enhance.adjust_hue(x.T.reshape(1, 3, -1, 1), 2 * math.pi * turns)[0, ..., 0].T - x
        assert 0.65 < torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) < 0.8
        assert 0.8 < ours.norm() / theirs.norm() < 1.2
    red, green = (YIQ[1:] @ np.eye(3)[channel] for channel in (0, 1))
    apart = np.degrees(np.arctan2(red[1], red[0]) - np.arctan2(green[1], green[0]))
    assert round(apart) == 137


def numpy_chain(x, order, brightness, contrast, saturation, hue):
    """The four steps one after another on (pixels, 3), without clamps."""
    for step in order:
        grey = (x @ YIQ[0])[:, None]
        if step == 0:
            x = x * brightness
        elif step == 1:
            x = contrast * x + (1 - contrast) * grey.mean()
        elif step == 2:
            x = saturation * x + (1 - saturation) * grey
        else:
            y, i, q = (x @ YIQ.T).T
            turned = (i + 1j * q) * np.exp(-2j * np.pi * hue)
            x = np.stack([y, turned.real, turned.imag], axis=1) @ np.linalg.inv(YIQ).T
    return x


def test_one_matrix_is_the_chain_of_four_in_every_order():
    x = np.random.default_rng(0).random((50, 3))
    factors = {"brightness": 1.3, "contrast": 0.7, "saturation": 1.2, "hue": 0.07}
    matrix, offset = jitter(torch.tensor(x.mean(0))[None].float(), *(torch.tensor([f]) for f in factors.values()))
    ours = x @ matrix[0].double().numpy().T + offset[0].double().numpy()
    for order in itertools.permutations(range(4)):
        np.testing.assert_allclose(ours, numpy_chain(x, order, **factors), atol=1e-3)  # YIQ's printed digits
        without_hue = numpy_chain(x, order, **factors | {"hue": 0.0})
        matrix_, offset_ = jitter(
            torch.tensor(x.mean(0))[None].float(), *(torch.tensor([f]) for f in (1.3, 0.7, 1.2, 0.0))
        )
        np.testing.assert_allclose(
            x @ matrix_[0].double().numpy().T + offset_[0].double().numpy(), without_hue, atol=1e-6
        )


def test_brightness_contrast_saturation_and_grey_are_kornias():
    """In every order, on pictures of middling levels, where kornia's clamps change nothing."""
    enhance, color = pytest.importorskip("kornia.enhance"), pytest.importorskip("kornia.color")
    crops = (smooth(6, 20, 20).float() * 0.25 + 90).to(torch.uint8)
    x = crops / 255
    factors = uniform(6, 0.6, 1.4, 1), uniform(6, 0.6, 1.4, 2), uniform(6, 0.8, 1.2, 3)
    steps = (
        enhance.adjust_brightness_accumulative,
        enhance.adjust_contrast_with_mean_subtraction,
        enhance.adjust_saturation_with_gray_subtraction,
    )
    matrix, offset = jitter(channel_means(crops), *factors, torch.zeros(6))
    ours = recoloured(crops, matrix, offset, (0.0,) * 3, (1.0,) * 3)
    for order in itertools.permutations(range(3)):
        theirs = x
        for step in order:
            theirs = steps[step](theirs, factors[step])
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    chosen = torch.arange(6) % 2 == 0
    grey = recoloured(crops, *greyed(matrix, offset, chosen), (0.0,) * 3, (1.0,) * 3)
    torch.testing.assert_close(
        grey[chosen], color.rgb_to_grayscale(theirs[chosen]).expand(-1, 3, -1, -1), atol=2e-6, rtol=0
    )
    torch.testing.assert_close(grey[~chosen], ours[~chosen])


def test_with_clamps_kornia_differs_by_little_on_average():
    """On full-range pictures and without hue, over random orders: what clamping once instead of thrice costs."""
    augmentation = pytest.importorskip("kornia.augmentation")
    crops = smooth(64, 16, 16)
    theirs = augmentation.ColorJitter(0.4, 0.4, 0.2, 0.0, p=1.0)
    torch.manual_seed(0)
    expected = theirs(crops / 255)
    factors = [theirs._params[f"{name}_factor"].float() for name in ("brightness", "contrast", "saturation")]
    ours = recoloured(crops, *jitter(channel_means(crops), *factors, torch.zeros(64)), (0.0,) * 3, (1.0,) * 3)
    assert (ours - expected).abs().mean() < 0.01
    assert (ours - expected).abs().max() < 0.4


def test_normalisation_is_kornias():
    enhance = pytest.importorskip("kornia.enhance")
    crops = smooth(5, 12, 12)
    ours = STILL.finish(crops)
    theirs = enhance.normalize(crops / 255, torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()


# Solarisation


def test_solarisation_is_pillows_and_kornias():
    enhance = pytest.importorskip("kornia.enhance")
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    view = replace(STILL, solarize=1.0)
    ours = levels(view.finish(ramp, seeded()))
    expected = torch.from_numpy(np.array(ImageOps.solarize(pillow(ramp[0])))).permute(2, 0, 1)
    torch.testing.assert_close(ours[0], expected.float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(ours, 255 * enhance.solarize(ramp / 255, 0.5), atol=1e-3, rtol=0)
    x = view.finish(ramp, seeded())
    assert torch.equal(solarize_(x.clone(), torch.tensor([False, False]), view.mean, view.std), x)


# Blur


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (40, 33), (70, 90)])
def test_blur_is_scipys_whichever_way(height, width, monkeypatch):
    x = torch.rand(8, 3, height, width, generator=seeded())
    sigma = torch.linspace(0.1, 2.0, 8)
    chosen = torch.arange(8) != 3
    for small in (0, 1000):
        monkeypatch.setattr(blur, "SMALL", small)
        ours = blur_(x.clone(), sigma, chosen, most=2.0)
        assert torch.equal(ours[3], x[3])
        for i in set(range(8)) - {3}:
            exact = gaussian_filter(x[i].double().numpy(), (0, *[float(sigma[i])] * 2), mode="nearest", truncate=3.0)
            np.testing.assert_allclose(ours[i].numpy(), exact, atol=2e-6)


def test_blur_is_kornias_but_for_the_tails():
    filters = pytest.importorskip("kornia.filters")
    x = torch.rand(6, 3, 32, 32, generator=seeded())
    sigma = torch.linspace(0.4, 2.0, 6)
    ours = blur_(x.clone(), sigma, torch.ones(6, dtype=torch.bool), most=2.0)
    theirs = filters.gaussian_blur2d(x, (13, 13), torch.stack([sigma, sigma], dim=1), "replicate")
    assert (ours - theirs).abs().max() < 0.01


def test_blur_and_solarisation_follow_pillow_through_a_whole_view():
    """The official code's own calls; Pillow's Gaussian is three boxes, hence some levels."""
    crops = smooth(6, 64, 64)
    view = replace(STILL, blur=1.0, sigma=(1.5, 1.5), solarize=1.0)
    ours = levels(view.finish(crops, seeded()))
    for crop, one in zip(crops, ours, strict=True):
        expected = np.array(ImageOps.solarize(pillow(crop).filter(ImageFilter.GaussianBlur(1.5))), dtype=float)
        difference = np.abs(one.permute(1, 2, 0).numpy() - expected)
        assert difference.mean() < 1.0
        assert difference.max() < 8.0


# The view as a whole


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (90, 60, 40), (1, 1, 8), (1, 70, 3)])
def test_contract(recipe, height, width, size):
    """Right shape and type, finite, within black and white, the same from the same generator, inputs untouched."""
    images = torch.randint(256, (20, 3, height, width), generator=seeded(), dtype=torch.uint8)
    before, state = images.clone(), torch.get_rng_state()
    for view in pickle.loads(pickle.dumps(image_views(recipe, size))):
        one, two = (view(images, seeded(3)) for _ in range(2))
        assert one.shape == (20, 3, size, size)
        assert one.dtype == torch.float32
        assert torch.equal(one, two)
        assert (levels(one) > -1e-3).all()
        assert (levels(one) < 255 + 1e-3).all()
        if recipe == "paper" and size > 8:
            assert not torch.equal(one, view(images, seeded(4)))
        split = view.finish(view.crop(images, view.draw(20, generator := seeded(3))), generator)
        assert torch.equal(one, split)
        assert view(images[:0], seeded()).shape == (0, 3, size, size)
    assert torch.equal(images, before)
    assert torch.equal(state, torch.get_rng_state())


def test_each_operation_happens_as_often_as_asked():
    count = 3000
    x = torch.tensor([[[10, 60], [30, 250]], [[90, 20], [200, 40]], [[5, 120], [60, 130]]], dtype=torch.uint8)
    images = x.expand(count, 3, 2, 2)
    plain = STILL.finish(images)
    spread = 4 * 0.5 / math.sqrt(count)
    for name in ("jitter", "grayscale", "blur", "solarize"):
        view = replace(STILL, **{name: 0.3})
        changed = (view.finish(images, seeded()) - plain).abs().flatten(1).max(dim=1).values > 1e-4
        share = 0.3 * (1 - 0.067 / 1.9) if name == "blur" else 0.3  # below 1/6 pixels a blur reads no neighbour
        assert abs(changed.double().mean() - share) < spread, name
    view = replace(STILL, size=2, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.3)
    flipped = (view.crop(images, view.draw(count, seeded())) != images).flatten(1).any(dim=1)
    assert abs(flipped.double().mean() - 0.3) < spread


def test_strengths_span_their_ranges():
    """Grey pictures show brightness; the factor is uniform in 1 +- .4."""
    images = torch.full((2000, 3, 1, 1), 100, dtype=torch.uint8)
    view = replace(STILL, jitter=1.0, contrast=0.4)
    factors = levels(view.finish(images, seeded()))[:, 0, 0, 0] / 100
    assert abs(factors.mean() - 1) < 0.02
    assert abs(factors.std() - 0.8 / math.sqrt(12)) < 0.01
    assert factors.min() > 0.6 - 1e-4
    assert factors.max() < 1.4 + 1e-4


def test_one_picture_in_a_worker_gets_the_crop_of_the_batch():
    images = smooth(5, 70, 90)
    for view in (ImageView(64), evaluation_view(64), evaluation_view(80)):
        u = view.draw(5, seeded())
        together = view.crop(images, u)
        for image, row, crop in zip(images, u.tolist(), together, strict=True):
            assert torch.equal(view.crop_one(image.permute(1, 2, 0).numpy(), row), crop)


@pytest.mark.parametrize(("side", "size", "resize"), [(128, 56, 64), (160, 112, 128)])
def test_evaluation_is_resize_and_central_crop(side, size, resize):
    """As torchvision's Resize(256) and CenterCrop(224) would: the same but for the outermost pixels."""
    image = smooth(1, side, side)
    view = evaluation_view(size, share=224 / 256)
    ours = levels(view.finish(view.crop(image)))[0].permute(1, 2, 0).numpy()
    edge = (resize - size) // 2
    whole = pillow(image[0]).resize((resize, resize), Image.Resampling.BICUBIC)
    expected = np.array(whole.crop((edge, edge, edge + size, edge + size)), dtype=float)
    assert np.abs(ours - expected)[2:-2, 2:-2].max() <= 2.01
    assert np.abs(ours - expected).mean() < 1.0
    assert evaluation_view(32).centre == 1.0
    assert evaluation_view(224).centre == 224 / 256


def test_identity_is_the_picture():
    images = torch.randint(256, (3, 3, 16, 16), generator=seeded(), dtype=torch.uint8)
    for view in image_views("identity", 16):
        torch.testing.assert_close(levels(view(images, seeded())), images.float(), atol=1e-3, rtol=0)


def test_recipes_are_the_published_ones():
    """The official code's numbers (facebookresearch/vicreg, augmentations.py), and the paper's symmetric ones."""
    for name, blurs, solarizes in (("official", [1.0, 0.1], [0.0, 0.2]), ("paper", [0.5, 0.5], [0.1, 0.1])):
        views = image_views(name, 224)
        assert [view.blur for view in views] == blurs
        assert [view.solarize for view in views] == solarizes
        for view in views:
            assert (view.scale, view.ratio, view.interpolation, view.flip) == (
                (0.08, 1),
                (3 / 4, 4 / 3),
                "bicubic",
                0.5,
            )
            strengths = (view.jitter, view.brightness, view.contrast, view.saturation, view.hue, view.grayscale)
            assert strengths == (0.8, 0.4, 0.4, 0.2, 0.1, 0.2)
            assert view.sigma == (0.1, 2.0)


def test_multi_crop():
    views = image_views("official", 224, n_small=3)
    assert [view.size for view in views] == [224, 224, 96, 96, 96]
    assert [view.scale for view in views] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 3
    assert [view.blur for view in views] == [1.0, 0.1, 1.0, 0.1, 1.0]
    assert image_views("crop", 32, 1, small_size=20)[2].size == 20


def test_nothing_is_asked_of_a_device():
    """On other devices no step waits for a value: the meta device, which has none, gets through all of it."""
    crops = torch.empty(4, 3, 80, 80, dtype=torch.uint8, device="meta")
    x = torch.empty(4, 3, 80, 80, device="meta")
    chosen = torch.empty(4, dtype=torch.bool, device="meta")
    assert blur_(x, torch.empty(4, device="meta"), chosen, most=2.0).shape == x.shape
    assert solarize_(x, chosen, IMAGENET_MEAN, IMAGENET_STD).shape == x.shape
    assert STILL.finish(crops).device.type == "meta"
    view = ImageView(60)
    assert view.crop(crops, torch.empty(4, 23, dtype=torch.float64, device="meta")).shape == (4, 3, 60, 60)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_view():
    images = smooth(16, 120, 90)
    view = ImageView(64)
    u = view.draw(16, seeded())
    crops = view.crop(images, u)
    there = view.crop(images.cuda(), u.cuda())
    assert (there.cpu().int() - crops.int()).abs().max() <= 2
    always = replace(STILL, grayscale=1.0, blur=1.0, sigma=(1.3, 1.3), solarize=1.0)
    theirs = always.finish(crops.cuda(), torch.Generator("cuda").manual_seed(0)).cpu()
    torch.testing.assert_close(theirs, always.finish(crops, seeded()), atol=1e-4, rtol=0)
    resident = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        one, two = (view(resident, torch.Generator("cuda").manual_seed(1)) for _ in range(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 0}, "size must be at least 1; got 0"),
        ({"scale": (0.5, 0.1)}, r"scale must rise from least to greatest; got \(0.5, 0.1\)"),
        ({"scale": (0.5, 1.1)}, "scale must be a finite number above 0 and at most 1; got 1.1"),
        ({"ratio": (1.0,)}, r"ratio must be two numbers, least and greatest; got \(1.0,\)"),
        ({"sigma": (0.0, 1.0)}, "sigma must be a finite number above 0; got 0.0"),
        ({"interpolation": "area"}, "interpolation must be one of 'bicubic', 'bilinear'; got 'area'"),
        ({"centre": 0.0}, "centre must be a finite number above 0 and at most 1; got 0.0"),
        ({"flip": 1.5}, "flip must be a finite number of at least 0 and at most 1; got 1.5"),
        ({"hue": 0.6}, "hue must be a finite number of at least 0 and at most 0.5; got 0.6"),
        ({"mean": (0.5,)}, r"mean must be three numbers, of red, green and blue; got \(0.5,\)"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be a finite number above 0; got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(STILL, **change)


def test_bad_calls_are_refused():
    images = torch.zeros(2, 3, 9, 9, dtype=torch.uint8)
    view = ImageView(4)
    with pytest.raises(ValueError, match=r"u must be 23 numbers for each picture; got 0. Pass the view's draw"):
        view.crop(images)
    with pytest.raises(ValueError, match=r"u must be 23 numbers for each picture; got 0. Pass the view's draw"):
        view.crop_one(images[0].permute(1, 2, 0))
    with pytest.raises(ValueError, match=r"u must have shape \(2, 23\); got \(1, 23\). Pass the view's draw"):
        view.crop(images, view.draw(1, seeded()))
    with pytest.raises(ValueError, match="generator must be given to a view that draws; got None"):
        view.finish(images)
    with pytest.raises(TypeError, match=r"crops must be uint8; got torch.float32. Levels are 0 to 255."):
        view.finish(images.float(), seeded())
    with pytest.raises(
        ValueError, match="views must be one of 'cifar', 'crop', 'identity', 'official', 'paper'; got 'simclr'"
    ):
        image_views("simclr", 32)
    with pytest.raises(ValueError, match="n_small must be 0 for views 'identity'; got 2. Choose views that crop."):
        image_views("identity", 32, n_small=2)
    with pytest.raises(ValueError, match="small_size must be at least 1; got 0"):
        image_views("paper", 32, n_small=2, small_size=0)

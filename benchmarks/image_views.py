"""Views per second of the recipes for images beside kornia's, one thread, in one process, runs interleaved.

    python benchmarks/image_views.py [--seconds 60] [--recipe paper|official]

Smooth random pictures in memory: 256 of 32 x 32 to crops of 32, 32 of 375 x 500 to crops of 224, and 32 of 224 x 224
to crops of 224; each becomes both views of the recipe. kornia gets what it is fastest with: floats in [0, 1], the
faster of its two ways to crop, and a blur of 13 taps (ours reads at most as many). Its crops are not antialiased, its
colours are clamped after each step and its hue is HSV's; ours reads bytes. Ratios are taken round by round; CPU over
wall time says how much of a core the process had.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import kornia.augmentation as augmentation
import numpy as np
import torch
from measure import in_turn, ratios, summary
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name PyTorch users know

from vicreg.views.crop import SMALL
from vicreg.views.image import ImageView, image_views

CASES = {
    "32 from 32 x 32": (256, 32, 32, 32),
    "224 from 375 x 500": (32, 375, 500, 224),
    "224 from 224 x 224": (32, 224, 224, 224),
}
CPU = torch.device("cpu")


def kornia(view: ImageView, cropping: str) -> nn.Module:
    """The same recipe in kornia; the probability of each step is drawn for each picture."""
    side = (view.size, view.size)
    return nn.Sequential(
        augmentation.RandomResizedCrop(
            side, view.scale, view.ratio, resample="BICUBIC", align_corners=False, cropping_mode=cropping
        ),
        augmentation.RandomHorizontalFlip(view.flip),
        augmentation.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue, p=view.jitter),
        augmentation.RandomGrayscale(p=view.grayscale),
        augmentation.RandomGaussianBlur((13, 13), view.sigma, border_type="replicate", p=view.blur),
        augmentation.RandomSolarize(thresholds=0.0, additions=0.0, p=view.solarize),
        augmentation.Normalize(view.mean, view.std),
    )


def smooth_pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Random pictures without much detail, (count, 3, height, width) uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, max(2, height // 8), max(2, width // 8), generator=generator) * 255
    pictures = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).clamp_(0, 255)
    return pictures.to(torch.uint8)


def both(views: Sequence[Callable[[torch.Tensor], torch.Tensor]], pictures: torch.Tensor) -> list[torch.Tensor]:
    return [view(pictures) for view in views]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each case")
    parser.add_argument("--recipe", default="paper", choices=["paper", "official"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # kornia's
    print(f"recipe {args.recipe}, torch {torch.__version__}, one thread; median [quartiles]")
    for name, (count, height, width, size) in CASES.items():
        views = image_views(args.recipe, size)
        bytes_ = smooth_pictures(count, height, width)
        floats = bytes_.float() / 255
        if height > SMALL:  # as sets of large pictures are kept, and as decoders give them
            bytes_ = bytes_.contiguous(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(0)
        works = {"ours": partial(both, [partial(view, generator=generator) for view in views], bytes_)}
        for cropping in ("slice", "resample"):
            works[f"kornia, {cropping}"] = partial(both, [kornia(view, cropping) for view in views], floats)
        wall, cpu = time.perf_counter(), time.process_time()
        took, _ = in_turn(works, args.seconds, 5, CPU)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall)
        print(f"{name}, batch {count} ({len(took['ours'])} rounds, CPU/wall {share:.2f})")
        for who, seconds in took.items():
            rate = summary([2 * count / s for s in seconds])
            print(f"  {who:17s} {rate['median']:8.0f} views/s [{rate['low']:.0f}, {rate['high']:.0f}]")
        fastest = min(("kornia, slice", "kornia, resample"), key=lambda who: float(np.median(took[who])))
        gain = ratios(took[fastest], took["ours"])
        print(f"  ours over {fastest}: {gain['median']:.1f} [{gain['low']:.1f}, {gain['high']:.1f}]")


if __name__ == "__main__":
    main()

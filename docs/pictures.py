"""Makes docs/pictures.png: two photographs that scikit-learn brings along, and pairs of views of each (recipe "paper").

Run it by ``python docs/pictures.py``.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from vicreg.views import ImageView, evaluation_view, image_views

SIDE, GAP, PAIRS = 96, 6, 3


def shown(view: ImageView, picture: torch.Tensor, generator: torch.Generator) -> np.ndarray:
    """What an encoder gets to see, as (side, side, 3) uint8."""
    seen = view(picture, generator)[0]
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (view.mean, view.std))
    return ((seen * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def main() -> None:
    """Write the picture."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for photograph in load_sample_images().images:
        picture = torch.tensor(photograph).permute(2, 0, 1)[None]
        whole = evaluation_view(SIDE, share=1.0)
        tiles = [shown(whole, picture, generator)]
        for _ in range(PAIRS):
            tiles += [shown(view, picture, generator) for view in image_views("paper", SIDE)]
        gaps = [4 * GAP if index % 2 == 0 else GAP for index in range(len(tiles) - 1)]
        parts = [tiles[0]]
        for gap, tile in zip(gaps, tiles[1:], strict=True):
            parts += [np.full((SIDE, gap, 3), 255, np.uint8), tile]
        rows.append(np.concatenate(parts, axis=1))
    page = np.concatenate([rows[0], np.full((GAP, rows[0].shape[1], 3), 255, np.uint8), rows[1]])
    Image.fromarray(page).quantize(256).save(Path(__file__).with_name("pictures.png"), optimize=True)


if __name__ == "__main__":
    main()

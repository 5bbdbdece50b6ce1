"""What the loss is of a whole training step, by operations of matrix products and convolutions.

Multiply-adds of a forward pass on one 224 x 224 image are those that torchvision lists with its weights (there called
GFLOPS). Forward and backward pass are three times the forward pass.
"""

NETWORKS = {"ResNet-18": (1.81e9, 512), "ResNet-50": (4.09e9, 2048)}
WIDTHS = [2048, 8192]
BATCHES = [256, 2048]


def shares() -> list[dict[str, object]]:
    """Operations of the step without the loss, and the loss as per cent of the whole, official and ours.

    The expander has three layers of one width. For each view the official form takes three n x d x d products, one
    forward and two backward; the closed form two n x d x min(n, d) ones, or less where the first is symmetric.
    """
    found = []
    for name, (backbone, features) in NETWORKS.items():
        for d in WIDTHS:
            for n in BATCHES:
                expander = features * d + 2 * d * d
                step = 2 * n * 3 * 2 * (backbone + expander)
                official, ours = 2 * 3 * 2 * n * d * d, 2 * 2 * 2 * n * d * min(n, d)
                percent = [100 * loss / (step + loss) for loss in (official, ours)]
                found.append(
                    {"network": name, "d": d, "n": n, "step": step, "official": percent[0], "ours": percent[1]}
                )
    return found

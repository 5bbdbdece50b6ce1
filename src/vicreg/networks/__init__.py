"""Networks: encoders by kind of data, expanders, branches and their joint embedding."""

from vicreg.networks.foreign import TimmEncoder, output_width
from vicreg.networks.image import IMAGE_ENCODERS, image_encoder
from vicreg.networks.initial import drawn, initialise
from vicreg.networks.joint import Branch, Joint, JointEmbedding
from vicreg.networks.kinds import ENCODERS
from vicreg.networks.mlp import TableDecoder, TableEncoder, default_expander, expander, perceptron
from vicreg.networks.projected import Projected, projected
from vicreg.networks.resnet import RESNETS, ResNet
from vicreg.networks.signal import SIGNAL_ENCODERS, signal_encoder
from vicreg.networks.vit import ViT
from vicreg.networks.weights import load_weights

__all__ = [
    "ENCODERS",
    "IMAGE_ENCODERS",
    "RESNETS",
    "SIGNAL_ENCODERS",
    "Branch",
    "Joint",
    "JointEmbedding",
    "Projected",
    "ResNet",
    "TableDecoder",
    "TableEncoder",
    "TimmEncoder",
    "ViT",
    "default_expander",
    "drawn",
    "expander",
    "image_encoder",
    "initialise",
    "load_weights",
    "output_width",
    "perceptron",
    "projected",
    "signal_encoder",
]

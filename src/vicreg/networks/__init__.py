"""Networks: encoders by kind of data, expanders, branches and their joint embedding."""

from vicreg.networks.initial import drawn, initialise
from vicreg.networks.joint import Branch, Joint, JointEmbedding
from vicreg.networks.mlp import ENCODERS, TableDecoder, TableEncoder, expander, perceptron

__all__ = [
    "ENCODERS",
    "Branch",
    "Joint",
    "JointEmbedding",
    "TableDecoder",
    "TableEncoder",
    "drawn",
    "expander",
    "initialise",
    "perceptron",
]

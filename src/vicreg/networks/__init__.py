"""Networks: encoders by kind of data, expanders, branches and their joint embedding."""

from vicreg.networks.initial import drawn, initialise
from vicreg.networks.joint import Branch, Joint, JointEmbedding
from vicreg.networks.mlp import ENCODERS, TableEncoder, expander, perceptron

__all__ = [
    "ENCODERS",
    "Branch",
    "Joint",
    "JointEmbedding",
    "TableEncoder",
    "drawn",
    "expander",
    "initialise",
    "perceptron",
]

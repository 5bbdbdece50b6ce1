"""Which class an encoder of a saved run is of."""

from __future__ import annotations

from vicreg.networks.mlp import TableEncoder
from vicreg.networks.projected import BODIES, Body, Projected

ENCODERS: dict[str, type[TableEncoder | Projected | Body]] = {
    "mlp": TableEncoder,
    **BODIES,
    "projected": Projected,
}
"""By the name in the file; each is made again by its ``settings``."""

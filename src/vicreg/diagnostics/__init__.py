"""What goes wrong in a run, named while it happens, with what helps."""

from vicreg.diagnostics.failures import MOST_DEAD, fewest_directions
from vicreg.diagnostics.look import DEAD, Look, Spread, gradient_shares
from vicreg.diagnostics.monitor import CollapseMonitor, CollapseWarning, Finding

__all__ = [
    "DEAD",
    "MOST_DEAD",
    "CollapseMonitor",
    "CollapseWarning",
    "Finding",
    "Look",
    "Spread",
    "fewest_directions",
    "gradient_shares",
]

"""The kinds of collections, by name."""

from __future__ import annotations

from vicreg.workflows.medium import Medium, Settings
from vicreg.workflows.pictures import PICTURES
from vicreg.workflows.signals import SIGNALS

MEDIA: dict[str, Medium] = {medium.kind: medium for medium in (PICTURES, SIGNALS)}
"""From the kind of a run to what is particular to it."""


def medium_of(config: Settings) -> Medium:
    """The medium whose settings these are."""
    return next(medium for medium in MEDIA.values() if type(config) is medium.config)

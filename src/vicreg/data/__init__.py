"""Sources of data: tables in memory and in files, and how their columns become features."""

from vicreg.data.files import SUFFIXES, read_table, source_name
from vicreg.data.frame import Frame, as_frame
from vicreg.data.hashes import fingerprint, row_hashes
from vicreg.data.spec import TableSpec, fit_spec

__all__ = [
    "SUFFIXES",
    "Frame",
    "TableSpec",
    "as_frame",
    "fingerprint",
    "fit_spec",
    "read_table",
    "row_hashes",
    "source_name",
]

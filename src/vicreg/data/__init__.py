"""Sources of data, in memory and in files: tables and how their columns become features, and pictures."""

from vicreg.data.corrupt import Corrupt, CorruptImage
from vicreg.data.decode import open_picture
from vicreg.data.files import SUFFIXES, read_table, source_name
from vicreg.data.frame import Frame, as_frame
from vicreg.data.hashes import fingerprint, row_hashes
from vicreg.data.image import FOLDER, fingerprint_images, read_images
from vicreg.data.image_array import ImageArray
from vicreg.data.image_given import GivenImages
from vicreg.data.image_source import ImageSource, crops_of, decoded, readable
from vicreg.data.image_subset import Subset, common_size, in_memory
from vicreg.data.kinds import Kind, kind_of
from vicreg.data.shards import Shards, fingerprint_shards, shard_urls
from vicreg.data.spec import TableSpec, fit_spec
from vicreg.data.tars import Sample, every_sample, is_url

__all__ = [
    "FOLDER",
    "SUFFIXES",
    "Corrupt",
    "CorruptImage",
    "Frame",
    "GivenImages",
    "ImageArray",
    "ImageSource",
    "Kind",
    "Sample",
    "Shards",
    "Subset",
    "TableSpec",
    "as_frame",
    "common_size",
    "crops_of",
    "decoded",
    "every_sample",
    "fingerprint",
    "fingerprint_images",
    "fingerprint_shards",
    "fit_spec",
    "in_memory",
    "is_url",
    "kind_of",
    "open_picture",
    "read_images",
    "read_table",
    "readable",
    "row_hashes",
    "shard_urls",
    "source_name",
]

"""Sources of data, in memory and in files: tables and how their columns become features, pictures, and signals."""

from vicreg.data.corrupt import Corrupt, CorruptImage, readable
from vicreg.data.decode import open_picture
from vicreg.data.files import SUFFIXES, read_table, source_name
from vicreg.data.frame import Frame, as_frame
from vicreg.data.hashes import fingerprint, row_hashes
from vicreg.data.image import FOLDER, fingerprint_images, read_images
from vicreg.data.image_array import ImageArray
from vicreg.data.image_given import GivenImages
from vicreg.data.image_source import ImageSource, crops_of, decoded
from vicreg.data.image_subset import Subset, common_size, in_memory
from vicreg.data.kinds import Kind, kind_of
from vicreg.data.pair import as_keys, by_key, in_order, most_alike, name_forms, same_keys
from vicreg.data.shards import Shards, fingerprint_shards, shard_urls
from vicreg.data.signal import are_recordings, fingerprint_signals, is_signals, read_signals
from vicreg.data.signal_array import rate_in
from vicreg.data.signal_folder import SoundFiles
from vicreg.data.signal_given import GivenSignals
from vicreg.data.signal_source import CorruptSignal, OpenedSignal, SignalSource
from vicreg.data.signal_spec import SignalSpec, fit_signal_spec
from vicreg.data.signal_subset import SignalSubset, gathered, length_at, some_signals
from vicreg.data.spec import TableSpec, fit_spec
from vicreg.data.tars import Sample, every_sample, is_url

__all__ = [
    "FOLDER",
    "SUFFIXES",
    "Corrupt",
    "CorruptImage",
    "CorruptSignal",
    "Frame",
    "GivenImages",
    "GivenSignals",
    "ImageArray",
    "ImageSource",
    "Kind",
    "OpenedSignal",
    "Sample",
    "Shards",
    "SignalSource",
    "SignalSpec",
    "SignalSubset",
    "SoundFiles",
    "Subset",
    "TableSpec",
    "are_recordings",
    "as_frame",
    "as_keys",
    "by_key",
    "common_size",
    "crops_of",
    "decoded",
    "every_sample",
    "fingerprint",
    "fingerprint_images",
    "fingerprint_shards",
    "fingerprint_signals",
    "fit_signal_spec",
    "fit_spec",
    "gathered",
    "in_memory",
    "in_order",
    "is_signals",
    "is_url",
    "kind_of",
    "length_at",
    "most_alike",
    "name_forms",
    "open_picture",
    "rate_in",
    "read_images",
    "read_signals",
    "read_table",
    "readable",
    "row_hashes",
    "same_keys",
    "shard_urls",
    "some_signals",
    "source_name",
]

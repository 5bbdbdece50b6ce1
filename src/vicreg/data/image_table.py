"""Pictures as a column of a Parquet file, or of a folder of Parquet parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import Opened, format_of, open_picture
from vicreg.data.image_source import ImageSource
from vicreg.data.parts import EncodedColumn, encoded_columns, first_cells, labels_of, only, parts_of, schema_of

NAMES = ("image", "img", "jpeg", "jpg", "png", "picture", "photo", "bytes")
"""Which column is meant where several hold pictures: the first of these names."""


class ImageTable(ImageSource):
    """The pictures of a column: encoded, as bytes or as a structure with a field ``bytes`` (as Hugging Face has them).

    Where the bytes are kept, see :class:`vicreg.data.parts.EncodedColumn`.

    Args:
        path: The file; or a folder of parts, taken in the order of their names.
        labels: The column with their classes (numbers, truth values or text); None for no labels.
        column: The column with the pictures; None for the only one that holds any, or the first of ``NAMES``.

    Raises:
        ValueError: There is no such column, a file is damaged, or there are no rows.
        TypeError: The column of labels holds lists, bytes or the like.

    Example:
        >>> import tempfile
        >>> from io import BytesIO
        >>> import pyarrow as pa
        >>> from PIL import Image
        >>> from pyarrow import parquet
        >>> file = BytesIO()
        >>> Image.new("RGB", (6, 4)).save(file, "PNG")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "pets.parquet")
        ...     parquet.write_table(pa.table({"image": [file.getvalue()], "pet": ["cat"]}), path)
        ...     source = ImageTable(path, labels="pet")
        >>> source.names, source.labels.tolist(), source.picture(0).shape
        (['0'], ['cat'], (4, 6, 3))
    """

    def __init__(self, path: str | Path, labels: str | None = None, column: str | None = None) -> None:
        path = Path(path)
        usual = "bytes, or a structure with a field 'bytes'"
        wanted = column or only(path, picture_columns(parts_of(path)[0]), NAMES, self.what, usual)
        self._column = EncodedColumn(path, wanted, self.what)
        self.labels = None if labels is None else labels_of(path, labels)
        self.names = [str(row) for row in range(len(self._column))]

    def opened(self, index: int) -> Opened:
        """One picture, its header read."""
        encoded = self._column.encoded(index)
        if encoded is None:
            raise CorruptImage(self.names[index], "no bytes in its row")
        return open_picture(encoded, self.names[index])

    def evidence(self) -> Iterator[bytes]:
        """The number of rows, and the bytes of some."""
        return self._column.evidence()


def picture_columns(part: Path) -> list[str]:
    """Columns whose first few cells are indeed pictures.

    Raises:
        ValueError: The file is damaged.
    """
    known = encoded_columns(schema_of(part))
    return [name for name, inner in known.items() if any(map(_is_picture, first_cells(part, name, inner)))]


def _is_picture(cell: bytes | None) -> bool:
    return cell is not None and format_of(cell) is not None

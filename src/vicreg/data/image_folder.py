"""Pictures as files in a folder, whose sub-folders are their labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import PICTURES, Opened, open_picture
from vicreg.data.image_source import ImageSource
from vicreg.data.tree import Tree


class ImageFolder(ImageSource):
    """The pictures in a folder and all folders below it, ordered by path.

    Files count whose names end as pictures' do (``decode.PICTURES``, in any case of letters). Hidden files and folders
    (``.DS_Store``, ``._cat.jpg``) do not. Links are followed, each folder being entered once.

    The label of a picture is the first folder on its path, however deep it lies; those that lie beside such folders
    have none. Its group is the folder it lies in.

    Args:
        folder: The folder; or one picture, which is then the only one.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no pictures, or a folder in it cannot be listed.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        ...         path = Path(folder, name)
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (6, 4)).save(path)
        ...     source = ImageFolder(folder)
        ...     source.names, source.labels.tolist(), source.groups.tolist(), source.picture(0).shape
        (['cats/1.png', 'cats/2.png', 'dogs/1.png'], ['cats', 'cats', 'dogs'], [0, 0, 1], (4, 6, 3))
    """

    def __init__(self, folder: str | Path) -> None:
        self._tree = Tree(folder, is_picture, self.what, PICTURES)
        self.names = self._tree.names
        self.labels = self._tree.labels
        self.groups = self._tree.groups

    def opened(self, index: int) -> Opened:
        """One picture, its header read."""
        name = self.names[index]
        try:
            with open(self._tree.path(index), "rb", buffering=0) as file:  # noqa: PTH123  # a Path costs as much as the reading
                data = file.read()
        except OSError as error:
            raise CorruptImage(name, error.strerror or type(error).__name__) from error
        return open_picture(data, name)

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of some files."""
        return self._tree.evidence()


def is_picture(name: str) -> bool:
    """Whether a file of this name counts as a picture.

    Example:
        >>> is_picture("Cat.JPG"), is_picture("._cat.jpg"), is_picture("cats.txt")
        (True, False, False)
    """
    return name.lower().endswith(PICTURES) and not name.startswith(".")

"""Pictures given as files, Pillow images and arrays; parts of a source; sources that fit into memory."""

import numpy as np
import pytest
from PIL import Image

from vicreg.data import Corrupt, CorruptImage, GivenImages, Subset, common_size, fingerprint_images, in_memory
from vicreg.data.decode import open_image, open_picture
from vicreg.data.image_subset import spread


def photo(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    """Ten pictures of one size and a path for an eleventh."""
    paths = [tmp_path / f"{k}.png" for k in range(11)]
    for k, path in enumerate(paths[:10]):
        Image.fromarray(photo(seed=k)).save(path)
    return paths


def test_paths_images_and_arrays_show_the_same_picture(files):
    wanted = photo(seed=3)
    with Image.open(files[3]) as image:
        source = GivenImages([files[3], str(files[3]), image, wanted])
        for index in range(4):
            np.testing.assert_array_equal(source.picture(index), wanted)
            assert source.size(index) == (12, 16)
    assert source.names == [str(files[3]), str(files[3]), "2", "3"]
    assert source.array is None


def test_one_alone_a_generator_and_a_series(files):
    for one in (files[0], str(files[0]), Image.fromarray(photo())):
        assert len(GivenImages(one)) == 1
        np.testing.assert_array_equal(GivenImages(one).picture(0), photo())
    assert len(GivenImages(path for path in files[:10])) == 10
    assert GivenImages(dict.fromkeys(files[:3])).picture(2).shape == (12, 16, 3)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr"])
def test_a_pillow_image_is_what_its_file_would_be(tmp_path, mode):
    rgba = np.dstack([photo(), np.random.default_rng(1).integers(256, size=(12, 16), dtype=np.uint8)])
    if mode == "I;16":
        image = Image.fromarray(np.random.default_rng(2).integers(2**16, size=(12, 16), dtype=np.uint16))
    else:
        image = (
            Image.fromarray(rgba).convert("L" if mode == "LA" else "RGBA" if mode == "RGBA" else "RGB").convert(mode)
        )
    path = tmp_path / "picture.tiff"
    image.save(path)
    np.testing.assert_array_equal(GivenImages([image]).picture(0), open_picture(path.read_bytes(), "file").pixels())


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_pillow_image_comes_upright(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / "turned.png"
    Image.fromarray(photo()).save(path, exif=exif)
    with Image.open(path) as image:
        np.testing.assert_array_equal(GivenImages(image).picture(0), GivenImages(path).picture(0))


def test_damaged_images_are_corrupt(tmp_path, files):
    data = files[0].read_bytes()
    files[10].write_bytes(data[: len(data) // 2])
    with Image.open(files[10]) as image, pytest.raises(CorruptImage, match="the picture 'it' must be readable; got"):
        open_image(image, "it")
    with pytest.raises(CorruptImage, match=r"must have 8 or 16 bits a channel; got 32 \(mode F\)"):
        open_image(Image.new("F", (4, 4)), "it")
    with pytest.raises(CorruptImage, match=r"10.png' must be readable; got"):
        GivenImages(files).picture(10)
    with pytest.raises(CorruptImage, match="must be readable; got No such file or directory"):
        GivenImages([tmp_path / "nowhere.png"]).picture(0)


def test_arrays_are_seen_as_rgb():
    grey = photo()[..., 0]
    several = np.stack([grey, grey[::-1], 255 - grey])
    for array in (several, several[..., None], np.repeat(several[..., None], 3, axis=3)):
        source = GivenImages(array)
        assert source.array.shape == (3, 12, 16, 3)
        for index in range(3):
            np.testing.assert_array_equal(source.picture(index), np.dstack([several[index]] * 3))
            np.testing.assert_array_equal(source.array[index], source.picture(index))
    np.testing.assert_array_equal(GivenImages([grey]).picture(0), GivenImages([grey[..., None]]).picture(0))


@pytest.mark.parametrize(
    ("pictures", "error", "said"),
    [
        ([], ValueError, "the pictures must be at least one; got none"),
        (np.zeros((0, 4, 4), np.uint8), ValueError, "the pictures must be at least one; got none"),
        (np.zeros((4, 4), np.uint8), ValueError, r"must have shape \(n, h, w, 3\) or \(n, h, w\); got \(4, 4\)"),
        (photo(), ValueError, r"got \(12, 16, 3\). One picture goes into a list"),
        (np.zeros((2, 4, 4, 5), np.uint8), ValueError, r"an array of pictures must have shape .*; got \(2, 4, 4, 5\)"),
        (np.zeros((2, 4, 4, 3)), TypeError, "an array of pixels must be uint8; got float64. Levels are 0 to 255."),
        ([np.zeros((2, 4, 4, 3), np.uint8)], ValueError, r"must have shape \(h, w, 3\), .*; got \(2, 4, 4, 3\)"),
        ([np.zeros((0, 4, 3), np.uint8)], ValueError, r"must have shape \(h, w, 3\), .*; got \(0, 4, 3\)"),
        ([photo().astype(float)], TypeError, "an array of pixels must be uint8; got float64"),
        (["a.png", 3], TypeError, "a picture must be a path, a Pillow image or a uint8 array; got 3"),
        (7, TypeError, "a picture must be a path, a Pillow image or a uint8 array; got 7"),
    ],
)
def test_what_is_no_picture_is_refused(pictures, error, said):
    with pytest.raises(error, match=said):
        GivenImages(pictures)


def test_labels_must_be_as_many():
    assert GivenImages([photo()] * 2, np.array([1, 0])).labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="labels must be 2, one for each picture; got 3"):
        GivenImages([photo()] * 2, np.arange(3))


def test_the_fingerprint_knows_pixels_and_names(files):
    one, same = GivenImages([photo()] * 3), GivenImages(np.stack([photo()] * 3))
    assert fingerprint_images(one) == fingerprint_images(same)
    assert fingerprint_images(one) != fingerprint_images(GivenImages([photo(), photo(), photo(seed=1)]))
    assert fingerprint_images(GivenImages(files)) != fingerprint_images(GivenImages(files[::-1]))


def test_a_subset_is_the_rows_it_names(files):
    source = GivenImages(files[:10], np.arange(10) * 10)
    source.groups = np.arange(10) // 2
    part = Subset(source, np.array([7, 2, 2]))
    assert len(part) == 3
    assert part.names == [str(files[7]), str(files[2]), str(files[2])]
    assert part.labels.tolist() == [70, 20, 20]
    assert part.groups.tolist() == [3, 1, 1]
    assert part.array is None
    np.testing.assert_array_equal(part.picture(1), photo(seed=2))
    assert fingerprint_images(part) == fingerprint_images(source)
    stacked = Subset(GivenImages(np.stack([photo(seed=k) for k in range(4)])), np.array([3, 1]))
    np.testing.assert_array_equal(stacked.array, [photo(seed=3), photo(seed=1)])
    assert (stacked.labels, stacked.groups) == (None, None)


def test_the_common_size_is_the_median_of_what_can_be_read(files):
    sizes = [(4, 9), (5, 6), (5, 6), (300, 2), (4, 6)]
    source = GivenImages([photo(*size) for size in sizes])
    assert common_size(source) == (np.median([h for h, _ in sizes]), np.median([w for _, w in sizes]))
    assert common_size(GivenImages(files)) == (12, 16)  # the last one does not exist
    assert common_size(GivenImages(np.zeros((3, 7, 9), np.uint8))) == (7, 9)
    with pytest.raises(CorruptImage, match="No such file"):
        common_size(GivenImages(files[10:]))


@pytest.mark.parametrize("count", [1, 2, 64, 65, 1000])
def test_the_looked_at_are_spread_from_first_to_last(count):
    rows = spread(count)
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1], len(rows)) == (0, count - 1, min(count, 64))
    assert max(np.diff(rows), default=0) <= count / 63 + 1


def test_pictures_of_one_size_are_taken_into_memory(files):
    ledger = Corrupt(0.2, of=11)
    array, rows = in_memory(GivenImages(files), 2**20, ledger, workers=3)
    np.testing.assert_array_equal(array, [photo(seed=k) for k in range(10)])
    assert rows.tolist() == list(range(10))
    assert ledger.names == [str(files[10])]


def test_pictures_that_do_not_fit_or_differ_are_not(files):
    given = GivenImages(files[:10])
    exactly = 10 * 12 * 16 * 3
    assert in_memory(given, exactly, Corrupt(), 1) is not None
    assert in_memory(given, exactly - 1, Corrupt(), 1) is None
    array = GivenImages(np.stack([photo()] * 2))
    assert in_memory(array, array.array.size, Corrupt(), 1)[0] is array.array
    assert in_memory(array, array.array.size - 1, Corrupt(), 1) is None
    assert in_memory(GivenImages([photo(12, 16), photo(16, 12)]), 2**20, Corrupt(), 1) is None
    odd = [photo()] * 70
    odd[spread(70)[-2] + 1] = photo(16, 12)  # not among those looked at first
    assert in_memory(GivenImages(odd), 2**20, Corrupt(), 2) is None


def test_too_many_corrupt_pictures_end_the_reading(files):
    missing = [path.with_suffix(".gone") for path in files]
    with pytest.raises(ValueError, match=r"must be at most 0.05 of all \(--max-corrupt\); got 1 of 11"):
        in_memory(GivenImages(files), 2**20, Corrupt(of=11), workers=2)
    assert (
        in_memory(GivenImages(missing), 2**20, Corrupt(of=11), 2) is None
    )  # no size is known; who opens them says why

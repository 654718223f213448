"""Statistics of images: formats, modes, bits, and files that are broken."""

from __future__ import annotations

import errno
import os
import tracemalloc
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="needs the extra [datasets]")

from PIL import Image

from batchnorm import _core, datasets
from batchnorm.datasets import _images, _items, _parts
from data_sets import assert_of
from images import write_png16, write_tiff

statistics = partial(datasets.statistics, extremes=True)

SIDES = 20, 30
CHANNELS = {"grey": 1, "RGB": 3, "RGBA": 4}


def pixels(mode: str, n: int = 1, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (n, *SIDES, CHANNELS[mode])).astype(dtype)


def save(path: Path, image: np.ndarray[Any, Any]) -> None:
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)


def folder_of(path: Path, images: np.ndarray[Any, Any], suffix: str = ".png") -> Path:
    for i, image in enumerate(images):
        save(path / f"{i:03}{suffix}", image)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("mode", CHANNELS)
def test_formats_and_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    x = pixels(mode, 3)
    folder_of(tmp_path, x, suffix)
    assert_of(statistics(tmp_path), x, -1, items=3)
    assert_of(statistics(tmp_path, axis=None), x, None, items=3)


def test_jpeg(tmp_path: Path) -> None:
    """JPEG loses: the pixels are those that Pillow decodes, of sizes that differ."""
    decoded = []
    for i in range(3):
        image = Image.fromarray(pixels("RGB")[0][: 8 + i])
        image.save(tmp_path / f"{i}.jpg")
        with Image.open(tmp_path / f"{i}.jpg") as again:
            decoded.append(np.asarray(again).reshape(-1, 3))
    assert_of(statistics(tmp_path), np.concatenate(decoded), -1, items=3)


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    x = pixels("RGB", 4)
    for i, name in enumerate(["a/x/0.png", "a/y.png", "b/1.PNG", "c.png"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, x[i])
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._hidden.png").write_text("no image")
    (tmp_path / "a" / ".trash").mkdir()
    (tmp_path / "a" / ".trash" / "0.png").write_text("no image")
    assert_of(statistics(tmp_path), x, -1, items=4)
    assert_of(statistics(str(tmp_path / "**" / "*.[pP]*")), x, -1, items=4)
    assert_of(statistics([tmp_path / "c.png", tmp_path / "a"]), x[[3, 0, 1]], -1, items=3)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    x = pixels("RGB", 2)
    for name, image in zip(("photos", "elsewhere"), x, strict=True):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "x.png", image)
    for link, to in (("link", "elsewhere"), ("other", "elsewhere"), ("loop", "photos"), ("up", "")):
        (tmp_path / "photos" / link).symlink_to(tmp_path / to, target_is_directory=True)
    assert_of(statistics(tmp_path / "photos"), x, -1, items=2)


def test_a_subfolder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = pixels("RGB", 3)
    for name, image in zip("abc", x, strict=True):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "x.png", image)
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if path == str(tmp_path / "b"):  # whatever permissions mean to who runs the test
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match=r"[/\\]b'"):
        statistics(tmp_path)
    result = statistics(tmp_path, on_error="skip")
    assert result.items == 2 and result.skipped == (
        (str(tmp_path / "b"), f"[Errno 13] Permission denied: '{tmp_path / 'b'}'"),
    )
    assert_of(statistics(tmp_path / "a"), x[:1], -1)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"source: expected images \(\.jpg .*\) in .*, got none"):
        statistics(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits(tmp_path: Path, suffix: str) -> None:
    x = pixels("grey", 2, np.uint16)
    folder_of(tmp_path, x, suffix)
    assert_of(statistics(tmp_path), x, -1, items=2)
    assert_of(statistics(tmp_path, mode="RGB"), np.repeat(x, 3, axis=-1), -1, items=2)
    opaque = np.concatenate([np.repeat(x, 3, axis=-1), np.full_like(x, 65535)], axis=-1)
    assert_of(statistics(tmp_path, mode="RGBA"), opaque, -1, items=2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colors_of_16_bits(tmp_path: Path, mode: str) -> None:
    """Pillow gives 8 of them."""
    x = pixels(mode, 4, np.uint16)
    write_png16(tmp_path / "0.png", x[0])
    write_tiff(tmp_path / "1.tif", x[1])
    write_tiff(tmp_path / "2.tif", x[2], ">")
    write_tiff(tmp_path / "3.tif", x[3], deflated=True)
    with Image.open(tmp_path / "0.png") as image:
        assert np.asarray(image).dtype == np.uint8
    assert_of(statistics(tmp_path), x, -1, items=4)
    assert_of(statistics(tmp_path, mode="RGB"), x[..., :3], -1, items=4)
    alpha = x[..., 3:] if mode == "RGBA" else np.full((4, *SIDES, 1), 65535, np.uint16)
    assert_of(statistics(tmp_path, mode="RGBA"), np.concatenate([x[..., :3], alpha], axis=-1), -1, items=4)
    with pytest.raises(ValueError, match=rf"0\.png: expected grey values for mode='grey', got {mode} of 16 bits"):
        statistics(tmp_path, mode="grey")


@pytest.mark.parametrize("deflated", [False, True])
def test_planes_of_16_bits(tmp_path: Path, deflated: bool) -> None:
    """Pillow says nothing of 16 bits, and reads them as so many of 8."""
    write_tiff(tmp_path / "x.tif", pixels("RGB", 1, np.uint16)[0], planar=True, deflated=deflated)
    for mode in (None, "RGB", "grey"):
        with pytest.raises(ValueError, match=r"x\.tif: expected colors of 16 bits interleaved, got them in planes"):
            statistics(tmp_path, mode=mode)  # type: ignore[arg-type]


def test_planes_of_8_bits(tmp_path: Path) -> None:
    x = pixels("RGB", 1)
    write_tiff(tmp_path / "x.tif", x[0], planar=True)
    assert_of(statistics(tmp_path), x, -1)


def test_white_is_0(tmp_path: Path) -> None:
    """Pillow turns such values of 8 bits, so that more is brighter, and not those of 16."""
    x = pixels("grey")[0]
    write_tiff(tmp_path / "x.tif", x, white_is_0=True)
    assert_of(statistics(tmp_path / "x.tif"), 255 - x, -1)
    write_tiff(tmp_path / "y.tif", x.astype(np.uint16), white_is_0=True)
    with pytest.raises(ValueError, match=r"y\.tif: expected 0 for black in grey values of 16 bits, got 0 for white"):
        statistics(tmp_path / "y.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_signed_values(tmp_path: Path, dtype: Any, order: str) -> None:
    """Pillow makes others of them."""
    write_tiff(tmp_path / "x.tif", np.array([[[-5], [10]]], dtype), order)
    for mode in (None, "grey"):
        with pytest.raises(ValueError, match=r"x\.tif: expected unsigned values, got SampleFormat \(2,\)"):
            statistics(tmp_path, mode=mode)  # type: ignore[arg-type]


def test_grey_and_alpha_of_16_bits(tmp_path: Path) -> None:
    write_png16(tmp_path / "x.png", pixels("RGBA", 1, np.uint16)[0, :, :, :2])
    with pytest.raises(ValueError, match=r"x\.png: expected RGB or RGBA of 16 bits, interleaved, got LA;16B"):
        statistics(tmp_path)
    with pytest.raises(ValueError, match=r"x\.png: expected grey values for mode='grey', got RGBA of 16 bits"):
        statistics(tmp_path, mode="grey")


@pytest.mark.parametrize(("first", "second"), [("RGB", "grey"), ("grey", "RGBA"), ("RGBA", "RGB")])
def test_modes_that_differ(tmp_path: Path, first: str, second: str) -> None:
    save(tmp_path / "a.png", pixels(first)[0])
    save(tmp_path / "b.png", pixels(second)[0])
    message = f"b.png: expected an image of mode {first} and 8 bits, as the first, got mode {second} and 8 bits"
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        statistics(tmp_path)
    assert message in str(raised.value)
    result = statistics(tmp_path, on_error="skip")
    assert result.items == 1 and len(result.count) == CHANNELS[first]
    assert [name for name, _ in result.skipped] == [str(tmp_path / "b.png")]


def test_bits_that_differ(tmp_path: Path) -> None:
    save(tmp_path / "a.png", pixels("grey")[0])
    save(tmp_path / "b.png", pixels("grey", 1, np.uint16)[0])
    for mode in (None, "grey"):
        with pytest.raises(ValueError, match=r"b\.png: expected .* and 8 bits, as the first, .* grey and 16 bits"):
            statistics(tmp_path, mode=mode)  # type: ignore[arg-type]


def test_images_that_differ_with_another_file_between(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros((4, 1)))
    save(tmp_path / "a.png", pixels("grey")[0])
    save(tmp_path / "c.png", pixels("grey", 1, np.uint16)[0])
    save(tmp_path / "d.png", pixels("RGB")[0])
    for last, got in (("c.png", "grey and 16 bits"), ("d.png", "RGB and 8 bits")):
        with pytest.raises(ValueError, match=rf"{last}: expected .* grey and 8 bits, as the first, got mode {got}"):
            statistics([tmp_path / name for name in ("a.png", "b.npy", last)])


@pytest.mark.parametrize("to", CHANNELS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_modes_that_are_asked_for(tmp_path: Path, mode: str, to: str) -> None:
    suffix = ".tif" if mode == "CMYK" else ".png"
    image = Image.fromarray(pixels("RGB")[0]).convert(mode)
    image.save(tmp_path / f"x{suffix}")
    want = np.asarray(image.convert("L" if to == "grey" else to)).reshape(*SIDES, CHANNELS[to])
    assert_of(statistics(tmp_path, mode=to), want, -1)  # type: ignore[arg-type]
    if mode in ("1", "LA", "P", "CMYK"):
        with pytest.raises(ValueError, match=rf"expected an image of mode L, I;16, RGB or RGBA, got {mode} \(mode="):
            statistics(tmp_path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_images_of_32_bits(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "x.tif")
    for asked in (None, "grey"):
        with pytest.raises(ValueError, match=rf"x\.tif: expected an image of 8 or 16 bits, got mode {mode}, of 32"):
            statistics(tmp_path, mode=asked)  # type: ignore[arg-type]


def test_all_pages_of_a_tiff(tmp_path: Path) -> None:
    x = pixels("RGB", 3)
    pages = [Image.fromarray(page) for page in x]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    assert_of(statistics(tmp_path), x, -1)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "RGB"), (np.uint16, "RGB"), (np.uint16, "grey")])
def test_large_images_are_taken_in_strips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, mode: str
) -> None:
    x = pixels(mode, 1, dtype)
    write = write_png16 if dtype is np.uint16 and mode == "RGB" else save
    write(tmp_path / "x.png", x[0])
    monkeypatch.setattr(_images, "WINDOW", 4 * SIDES[1] * 3)
    assert_of(statistics(tmp_path), x, -1)


@pytest.mark.parametrize(
    ("mode", "dtype"), [("grey", np.uint8), ("RGB", np.uint8), ("RGBA", np.uint8), ("grey", np.uint16)]
)
def test_images_in_memory(tmp_path: Path, mode: str, dtype: Any) -> None:
    x = pixels(mode, 3, dtype)
    folder_of(tmp_path, x)
    paths = sorted(tmp_path.iterdir())
    assert_of(statistics([Image.open(path) for path in paths]), x, -1, items=3)
    assert_of(statistics(Image.open(path) for path in paths), x, -1, items=3)
    assert_of(statistics([Image.open(path) for path in paths], axis=None), x, None, items=3)
    assert_of(statistics([Image.open(path) for path in paths], axis=1), x, 2, items=3)
    assert_of(statistics(Image.open(paths[0])), x[0], -1)
    assert_of(statistics(Image.fromarray(np.squeeze(x[0]))), x[0], -1)
    first = statistics([Image.open(path) for path in paths[:2]], checkpoint=tmp_path / "run")
    assert first.stats == statistics([Image.open(path) for path in paths[:2]], checkpoint=tmp_path / "run").stats


def test_images_in_memory_that_must_be_converted(tmp_path: Path) -> None:
    image = Image.fromarray(pixels("RGB")[0])
    with pytest.raises(ValueError, match=r"source\[1\]: expected .*, got P \(image\.convert converts\)"):
        statistics([image, image.convert("P")])
    write_png16(tmp_path / "x.png", pixels("RGB", 1, np.uint16)[0])
    with (
        Image.open(tmp_path / "x.png") as image,
        pytest.raises(ValueError, match=r"source\[0\]: expected RGB of 8 bits, got 16, .* \(give the path\)"),
    ):
        statistics([image])


def test_an_image_in_memory_that_is_broken(tmp_path: Path) -> None:
    image = Image.fromarray(pixels("RGB")[0])
    image.save(tmp_path / "y.png")
    (tmp_path / "y.png").write_bytes((tmp_path / "y.png").read_bytes()[:-500])
    with Image.open(tmp_path / "y.png") as broken, pytest.raises(OSError, match=r"source\[0\]: .*truncated"):
        statistics([broken])


def broken_folder(tmp_path: Path) -> np.ndarray[Any, Any]:
    """Images 3 and 5 of 8 are broken, in different ways."""
    x = pixels("RGB", 8)
    folder_of(tmp_path, x)
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:-500])
    (tmp_path / "005.png").write_text("text")
    return x[[0, 1, 2, 4, 6, 7]]


def test_broken_images(tmp_path: Path) -> None:
    good = broken_folder(tmp_path)
    with pytest.raises(OSError, match=r"003\.png: "):
        statistics(tmp_path)
    result = statistics(tmp_path, on_error="skip", workers=3)
    assert result.items == 6
    assert [Path(name).name for name, _ in result.skipped] == ["003.png", "005.png"]
    assert all(message and "\n" not in message for _, message in result.skipped)
    np.testing.assert_allclose(result.mean, good.mean((0, 1, 2)), rtol=1e-13)


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    result = statistics([tmp_path / "x.png", tmp_path / "missing.png"], on_error="skip")
    assert (result.items, result.count.tolist(), len(result.skipped)) == (0, [], 2)


@pytest.mark.threaded
def test_the_same_bits_for_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_images, "_MOST_FILES", 3)
    folder_of(tmp_path, pixels("RGB", 20))
    first = statistics(tmp_path, workers=1)
    for workers in (2, 3, 8):
        assert statistics(tmp_path, workers=workers).stats == first.stats


def test_items_depend_on_the_files_alone() -> None:
    assert _images._starts([]) == [0, 0]
    assert _images._starts([1] * 150) == [0, 64, 128, 150]
    mb = 2**20
    assert _images._starts([mb, 2 * mb, mb // 2, mb // 2, 1]) == [0, 1, 2, 4, 5]


def test_a_small_file_that_grows_before_its_turn(tmp_path: Path) -> None:
    """Only the image in it is read."""
    x = pixels("RGB")
    save(tmp_path / "x.png", x[0])
    (piece,) = _images.Images([str(tmp_path / "x.png")], -1, None).pieces(0)
    with (tmp_path / "x.png").open("ab") as file:
        file.truncate(2**28)
    tracemalloc.start()
    (block,) = piece.blocks(_parts.Worker())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**24
    got = np.asarray(block.array).reshape(*SIDES, -1)[..., :3]
    np.testing.assert_array_equal(got, x[0])


WAYS = sorted({False, _images._lends(Image)})  # whether Pillow lends its pixels


@pytest.mark.parametrize("lends", WAYS)
def test_small_images_are_taken_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lends: bool) -> None:
    """In several calls, where they are more than a window."""
    x = pixels("RGB", 20)
    each = (4 if lends else 3) * SIDES[0] * SIDES[1]
    monkeypatch.setattr(_images, "_lends", lambda image: lends)
    monkeypatch.setattr(_items, "WINDOW", 3 * each - 1)
    calls: list[int] = []
    channel_stats = _items.channel_stats

    def counting(values: Any, **options: Any) -> Any:
        calls.append(values.size)
        return channel_stats(values, **options)

    monkeypatch.setattr(_items, "channel_stats", counting)
    assert_of(statistics(folder_of(tmp_path, x), workers=1), x, -1, items=20)
    assert calls == [3 * each] * 6 + [2 * each]


@pytest.mark.parametrize("lends", WAYS)
@pytest.mark.parametrize("asked", [None, *CHANNELS])
@pytest.mark.parametrize("mode", CHANNELS)
def test_pixels_that_pillow_lends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, asked: Any, lends: bool
) -> None:
    monkeypatch.setattr(_images, "_lends", lambda image: lends)
    folder = folder_of(tmp_path, pixels(mode, 5))
    as_pillow = {"grey": "L"}.get(asked or mode, asked or mode)
    images = [np.asarray(Image.open(path).convert(as_pillow)) for path in sorted(folder.iterdir())]
    want = np.stack(images).reshape(5, *SIDES, CHANNELS[asked or mode])
    assert_of(statistics(folder, mode=asked), want, -1, items=5)


def test_images_that_pillow_lends_among_others(tmp_path: Path) -> None:
    """A TIFF is copied, without the spare byte."""
    x = pixels("RGB", 6)
    for i, image in enumerate(x):
        save(tmp_path / f"{i}{'.tif' if i % 2 else '.png'}", image)
    assert_of(statistics(tmp_path), x, -1, items=6)


@pytest.mark.skipif(not WAYS[-1], reason="needs Pillow 11.2 or newer, without PILLOW_ALIGNMENT")
def test_lent_bytes() -> None:
    x = pixels("RGBA")[0]
    lent = _core.lent_bytes(*Image.fromarray(x).__arrow_c_array__())  # the image is gone
    assert not lent.flags.writeable
    np.testing.assert_array_equal(lent.reshape(x.shape), x)
    schema, array = Image.new("F", (2, 2)).__arrow_c_array__()
    with pytest.raises(TypeError, match=r"^arrow_schema: expected uint8 or lists of 4 uint8, got f$"):
        _core.lent_bytes(schema, array)
    with pytest.raises(ValueError, match="PyCapsule"):
        _core.lent_bytes(array, schema)


def test_a_small_image_is_freed_before_the_next_one_is_decoded() -> None:
    """Then both lie in the same memory, which is warm."""
    heap = _items._Heap(_parts.Worker())
    x = pixels("RGB", 1)[0].copy()
    freed, want = weakref.ref(x), x.reshape(-1, 3).copy()
    heap.add(_parts.Block(x, -1, small=True))
    del x
    assert freed() is None
    (block,) = heap.take()
    assert block.axis == 1
    np.testing.assert_array_equal(block.array, want)

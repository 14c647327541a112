"""Laws of `stylex.imaging`: closed forms on flat pictures, and Pillow as the other library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stylex.errors import InputError
from stylex.imaging import (
    check_channels,
    check_resolution,
    enlarge,
    from_uint8,
    grid,
    read_image,
    resize,
    to_uint8,
    write_png,
)

RED_BLUE = [255, 0, 0, 0, 0, 255]


def paletted(index: int) -> Image.Image:
    picture = Image.new("P", (40, 40), index)
    picture.putpalette(RED_BLUE)
    return picture


def sixteen_bit(value: int) -> Image.Image:
    return Image.fromarray(np.full((40, 40), value, np.uint16))


def test_every_pixel_value_survives_the_way_to_images_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    images = from_uint8(pixels)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal(to_uint8(images), pixels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pixels_are_rounded_and_clamped(dtype: torch.dtype) -> None:
    images = torch.tensor([-2, -1, -0.99, 0.0, 0.5, 1, 7], dtype=dtype).reshape(1, 1, 1, 7)
    assert to_uint8(images).flatten().tolist() == [0, 0, 1, 128, 191, 255, 255]


FLAT_PICTURES: dict[str, tuple[Callable[[], Image.Image], dict[str, Any], tuple[int, int, int]]] = {
    "grey": (lambda: Image.new("L", (40, 40), 100), {}, (100, 100, 100)),
    "1-bit": (lambda: Image.new("1", (40, 40), 1), {}, (255, 255, 255)),
    "RGB": (lambda: Image.new("RGB", (40, 40), (9, 80, 200)), {}, (9, 80, 200)),
    "RGBA": (lambda: Image.new("RGBA", (40, 40), (200, 0, 0, 51)), {}, (244, 204, 204)),
    "LA": (lambda: Image.new("LA", (40, 40), (100, 51)), {}, (224, 224, 224)),
    "palette": (lambda: paletted(1), {}, (0, 0, 255)),
    "palette, opaque": (lambda: paletted(1), {"transparency": 0}, (0, 0, 255)),
    "palette, transparent": (lambda: paletted(0), {"transparency": 0}, (255, 255, 255)),
    "palette, alpha": (lambda: paletted(0), {"transparency": b"\x33\xff"}, (255, 204, 204)),
    "grey key": (lambda: Image.new("L", (40, 40), 7), {"transparency": 7}, (255, 255, 255)),
    "16-bit": (lambda: sixteen_bit(40_000), {}, (156, 156, 156)),
    "16-bit key": (lambda: sixteen_bit(5), {"transparency": 5}, (255, 255, 255)),
}


@pytest.mark.parametrize("name", FLAT_PICTURES)
def test_every_png_mode_is_read_as_its_colour_over_white(name: str, tmp_path: Path) -> None:
    make, options, colour = FLAT_PICTURES[name]
    path = tmp_path / "flat.png"
    make().save(path, **options)
    expected = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 32, 32)
    assert torch.equal(read_image(path, 32, 3), expected)


def test_16_bit_files_that_older_pillows_open_as_32_bit_are_scaled_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.fromarray(np.full((40, 40), 40_000, np.int32))
    assert picture.mode == "I"
    monkeypatch.setattr(Image, "open", lambda *_, **__: picture)
    assert (read_image(tmp_path / "any.png", 32, 1) == 156).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "PNG"])
def test_all_kinds_of_files_give_the_same_picture(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"flat.{suffix}"
    Image.new("RGB", (50, 50), (30, 120, 220)).save(path, quality=95)
    pixels = read_image(path, 32, 3).float()
    expected = torch.tensor([30.0, 120.0, 220.0])[:, None, None]
    assert (pixels - expected).abs().max() <= 3


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_jpegs_of_other_colour_spaces_become_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "flat.jpg"
    Image.new("RGB", (40, 40), (100, 100, 100)).convert(mode).save(path, quality=95)
    assert (read_image(path, 32, 3).float() - 100).abs().max() <= 3


def test_a_tiff_of_16_bits_is_scaled_to_8(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(path, compression="tiff_lzw")
    assert (read_image(path, 32, 1) == 156).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((40, 40), 0.5, np.float32), "its pixels are floating-point numbers"),
        (np.full((40, 40), 70_000, np.int32), "its pixels have more than 16 bits"),
        (np.full((40, 40), -1, np.int32), "its pixels have more than 16 bits"),
    ],
)
def test_depths_that_would_need_a_guess_are_refused(
    values: np.ndarray, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match=rf"got .*deep\.tif \({reason}, save it with 8 or 16"):
        read_image(path, 32, 1)


def test_of_several_pages_it_is_the_first(tmp_path: Path) -> None:
    first, second = Image.new("L", (40, 40), 10), Image.new("L", (40, 40), 200)
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    assert (read_image(tmp_path / "pages.tif", 32, 1) == 10).all()


def test_one_channel_is_the_luma_of_the_colours(tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    Image.new("RGB", (40, 40), (10, 200, 90)).save(path)
    pixels = read_image(path, 32, 1)
    assert pixels.shape == (1, 32, 32)
    luma = 0.299 * 10 + 0.587 * 200 + 0.114 * 90
    assert (pixels.float() - luma).abs().max() <= 0.5


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("jpg", 3), ("webp", 3), ("tif", 1)])
def test_exif_orientation_is_honoured(suffix: str, channels: int, tmp_path: Path) -> None:
    stored = np.zeros((64, 64), np.uint8)
    stored[:32] = 255  # orientation 6: the stored top is the right side of what is shown
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(stored).save(path, exif=exif)
    pixels = read_image(path, 64, channels).float()
    assert pixels[:, :, :28].max() < 20
    assert pixels[:, :, 36:].min() > 235


@pytest.mark.parametrize("axis", [0, 1])
def test_the_centred_square_is_cut_out_without_bleeding(axis: int, tmp_path: Path) -> None:
    blocks = [np.full((32, 32), level, np.uint8) for level in (255, 77, 0)]
    path = tmp_path / "long.png"
    Image.fromarray(np.concatenate(blocks, axis)).save(path)
    for resolution in (32, 64):
        assert (read_image(path, resolution, 1) == 77).all()


def test_shrinking_a_file_does_not_alias(tmp_path: Path) -> None:
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "board.png"
    Image.fromarray(board).save(path)
    inside = read_image(path, 32, 1)[:, 2:-2, 2:-2].float()
    assert (inside - 127.5).abs().max() <= 2


BROKEN_FILES: dict[str, bytes] = {
    "empty": b"",
    "text": b"no picture",
    "png head": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_is_no_picture_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(BROKEN_FILES[name])
    with pytest.raises(InputError, match=r"broken\.png \(its content cannot be decoded\): replace"):
        read_image(path, 32, 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_a_file_cut_short_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match=rf"images must be readable .* got .*cut\.{suffix}"):
        read_image(path, 32, 3)


def test_a_missing_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png \(No such file or directory\): replace or"):
        read_image(tmp_path / "gone.png", 32, 3)


def test_other_formats_are_refused_whatever_their_suffix(tmp_path: Path) -> None:
    path = tmp_path / "animation.png"
    Image.new("P", (40, 40)).save(path, format="GIF")
    with pytest.raises(InputError, match=r"readable .* TIFF or BMP files, got .*animation\.png"):
        read_image(path, 32, 3)


def test_resizing_to_the_same_resolution_returns_the_same_tensor() -> None:
    images = torch.rand(2, 1, 32, 32)
    assert resize(images, 32) is images


@pytest.mark.parametrize("resolution", [16, 20, 64])
def test_resizing_agrees_with_pillows_bilinear_filter(resolution: int) -> None:
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    size = (resolution, resolution)
    expected = [
        np.array(Image.fromarray(image[0].numpy()).resize(size, Image.Resampling.BILINEAR))
        for image in images
    ]
    ours = resize(images, resolution)[:, 0]
    torch.testing.assert_close(ours, torch.tensor(np.stack(expected)), atol=1e-5, rtol=0)


def test_resizing_refuses_images_that_are_not_square() -> None:
    with pytest.raises(ValueError, match="images must be square, got 32x16"):
        resize(torch.zeros(1, 1, 32, 16), 8)


@pytest.mark.parametrize(("num_images", "columns"), [(1, 1), (5, 2), (4, 4), (2, 3)])
def test_grid_puts_images_row_by_row_and_leaves_the_rest_white(
    num_images: int, columns: int
) -> None:
    images = torch.rand(num_images, 3, 6, 4) * 2 - 1
    rows = -(-num_images // columns)
    expected = torch.full((3, rows * 8 - 2, columns * 6 - 2), 255, dtype=torch.uint8)
    for i, pixels in enumerate(to_uint8(images)):
        y, x = i // columns * 8, i % columns * 6
        expected[:, y : y + 6, x : x + 4] = pixels
    assert torch.equal(grid(images, columns), expected)


def test_grid_refuses_no_images() -> None:
    with pytest.raises(ValueError, match="a grid needs at least one image, got none"):
        grid(torch.zeros(0, 1, 4, 4), 2)


def test_grid_refuses_no_columns() -> None:
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        grid(torch.zeros(1, 1, 4, 4), 0)


def test_enlarging_repeats_every_pixel() -> None:
    pixels = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    large = enlarge(pixels, 3)
    assert large.shape == (3, 12, 15)
    for dy in range(3):
        for dx in range(3):
            assert torch.equal(large[:, dy::3, dx::3], pixels)
    assert torch.equal(enlarge(pixels, 1), pixels)


def test_enlarging_refuses_factors_below_one() -> None:
    with pytest.raises(ValueError, match="factor must be at least 1, got 0"):
        enlarge(torch.zeros(1, 4, 4, dtype=torch.uint8), 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_png_is_read_back_unchanged(channels: int, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (channels, 32, 32), dtype=torch.uint8)
    path = tmp_path / "picture.png"
    write_png(path, pixels)
    assert torch.equal(read_image(path, 32, channels), pixels)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def fail(self: Image.Image, file: Path, **_: object) -> None:
        file.write_bytes(b"half of a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_png(path, torch.zeros(1, 4, 4, dtype=torch.uint8))
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_images_have_one_or_three_channels(channels: int, tmp_path: Path) -> None:
    law = rf"channels must be 1 \(grey\) or 3 \(colour\), got {channels}"
    with pytest.raises(InputError, match=law):
        check_channels(channels)
    with pytest.raises(InputError, match=law):
        read_image(tmp_path / "any.png", 32, channels)
    with pytest.raises(InputError, match=law):
        write_png(tmp_path / "any.png", torch.zeros(channels, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_powers_of_two_are_resolutions(resolution: int) -> None:
    check_resolution(resolution)


@pytest.mark.parametrize("resolution", [-32, 0, 1, 16, 48, 2048])
def test_other_numbers_are_no_resolutions(resolution: int) -> None:
    law = f"resolution must be a power of two from 32 to 1024, got {resolution}"
    with pytest.raises(InputError, match=law):
        check_resolution(resolution)


def test_the_smallest_resolution_can_be_lowered() -> None:
    check_resolution(16, minimum=16)
    with pytest.raises(InputError, match="power of two from 16 to 1024, got 8"):
        check_resolution(8, minimum=16)

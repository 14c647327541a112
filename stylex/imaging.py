"""Reads, writes, resizes and lays out images; the only place that knows 8-bit pixels.

Everywhere else an image is float32 in [-1, 1]: -1 is pixel value 0, 1 is 255.
"""

import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from stylex.errors import InputError, shown
from stylex.types import Images, Pixels

Picture = UInt8[Tensor, "c h w"]
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # as Pillow calls them
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
KINDS = "PNG, JPEG, WebP, TIFF or BMP"  # in a sentence
MOST_PIXELS = 89_000_000  # of a file, before it is decoded: 267 MB in RGB, below Pillow's own limit


class BrokenImage(InputError):
    """An image file that cannot be read or decoded."""

    reason = ""  # in a few words


class _Depth(Exception):
    """Pixels that cannot be brought to 8 bits without a guess."""


def check_resolution(resolution: int, minimum: int = 32) -> None:
    """Checks that networks can be built for a resolution.

    Args:
        resolution: Height and width of the images, in pixels.
        minimum: Smallest resolution allowed, in pixels.

    Raises:
        InputError: If `resolution` is no power of two from `minimum` to 1024.
    """
    is_power = resolution > 0 and resolution & (resolution - 1) == 0
    if not is_power or not minimum <= resolution <= 1024:
        raise InputError(
            f"resolution must be a power of two from {minimum} to 1024, got {resolution}"
        )


def check_channels(channels: int) -> None:
    """Checks that images can have this many channels.

    Args:
        channels: 1 for grey, 3 for RGB.

    Raises:
        InputError: If `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (colour), got {channels}")


def to_uint8(images: Images) -> Pixels:
    """Rounds images to 8-bit pixels; what lies outside [-1, 1] is clamped.

    Args:
        images: Images in [-1, 1].

    Returns:
        Pixels in [0, 255], on the device of the images.
    """
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Pixels) -> Images:
    """Turns 8-bit pixels into images.

    Args:
        pixels: Pixels in [0, 255].

    Returns:
        Images in [-1, 1]; `to_uint8` gives the same pixels back.
    """
    return pixels.to(torch.get_default_dtype()) / 127.5 - 1


def resize(images: Images, resolution: int) -> Float[Tensor, "b c {resolution} {resolution}"]:
    """Resizes square images: bilinear, with an antialiasing filter when they shrink.

    Args:
        images: Square images.
        resolution: New height and width, in pixels.

    Returns:
        The resized images; the same tensor if they have that resolution already.

    Raises:
        ValueError: If the images are not square.
    """
    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"images must be square, got {height}x{width}")
    if height == resolution:
        return images
    size = (resolution, resolution)
    return F.interpolate(images, size, mode="bilinear", antialias=resolution < height)


def read_image(path: Path, resolution: int, channels: int) -> Picture:
    """Reads a PNG, JPEG, WebP, TIFF or BMP file as a square picture.

    The EXIF orientation is honoured, transparency is laid over white, 16-bit grey is scaled to
    8 bits, the largest centred square is cut out and resized with Pillow's Lanczos filter, which
    is antialiased. Of several pages or frames it is the first.

    Args:
        path: The file.
        resolution: Height and width of the picture, in pixels.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.

    Returns:
        Pixels in [0, 255].

    Raises:
        InputError: If the file cannot be read or decoded, has more than `MOST_PIXELS`, or
            `channels` is neither 1 nor 3.
    """
    return _square(_opened(path, str(path), channels), resolution)


def decode_image(content: bytes, name: str, resolution: int, channels: int) -> Picture:
    """Decodes what `read_image` reads from a file.

    Args:
        content: Of a file of one of these kinds.
        name: What the error calls it.
        resolution: Height and width of the picture, in pixels.
        channels: 1 for grey, 3 for RGB.

    Raises:
        BrokenImage: If it cannot be decoded or has more than `MOST_PIXELS`.
    """
    return _square(_opened(io.BytesIO(content), name, channels), resolution)


def decode_whole(content: bytes, name: str) -> Picture:
    """Decodes all of a file, in RGB and at its own size; otherwise as `decode_image` does."""
    return _tensor(_opened(io.BytesIO(content), name, 3))


def _square(picture: Image.Image, resolution: int) -> Picture:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    # Cropped first: with `box`, the filter would see the pixels beyond the square.
    picture = picture.crop((left, top, left + side, top + side))
    return _sampled(picture, resolution, resolution)


def read_whole(path: Path, longer_px: int, channels: int) -> Picture:
    """Reads a file as `read_image` does, but keeps all of it and its proportions.

    Args:
        path: The file.
        longer_px: The longer of the picture's height and width, in pixels.
        channels: 1 for grey (ITU-R 601 luma), 3 for RGB.

    Returns:
        Pixels in [0, 255].

    Raises:
        InputError: If the file cannot be read or decoded, or a number is out of its range.
    """
    if longer_px < 1:
        raise InputError(f"the longer side must be at least 1 pixel, got {longer_px}")
    picture = _opened(path, str(path), channels)
    share = longer_px / max(picture.size)
    width, height = (max(1, round(side * share)) for side in picture.size)
    return _sampled(picture, height, width)


def _opened(file: Path | io.BytesIO, name: str, channels: int) -> Image.Image:
    """An 8-bit opaque picture, grey or RGB."""
    check_channels(channels)
    try:
        with (
            warnings.catch_warnings()
        ):  # Pillow's remarks on odd files that it decodes all the same
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as found:
                if found.width * found.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                picture = _flatten(ImageOps.exif_transpose(found))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        reason = f"it has more than {MOST_PIXELS // 10**6} million pixels"
        raise _broken(name, reason) from error
    except _Depth as error:
        raise _broken(name, str(error)) from error
    except Exception as error:  # decoders raise whatever they like on a broken file
        reason = getattr(error, "strerror", None) or "its content cannot be decoded"
        raise _broken(name, reason) from error
    return picture.convert("L" if channels == 1 else "RGB")


def _broken(name: str, reason: str) -> BrokenImage:
    error = BrokenImage(
        f"images must be readable {KINDS} files, got {shown(name)} ({reason}): replace or remove it"
    )
    error.reason = reason
    return error


def _sampled(picture: Image.Image, height: int, width: int) -> Picture:
    return _tensor(picture.resize((width, height), Image.Resampling.LANCZOS))


def _tensor(picture: Image.Image) -> Picture:
    pixels = np.array(picture).reshape(picture.height, picture.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _flatten(picture: Image.Image) -> Image.Image:
    """Makes a picture 8-bit and opaque, over white; its colour mode is left to the caller.

    Raises:
        _Depth: If nobody knows which of its values are black and white.
    """
    if picture.mode == "F":
        raise _Depth("its pixels are floating-point numbers, save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise _Depth("its pixels have more than 16 bits, save it with 8 or 16")
        levels = np.rint(values * (255 / 65535)).astype(np.uint8)
        levels[values == picture.info.get("transparency", -1)] = 255
        return Image.fromarray(levels)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture


def grid(images: Images, columns: int) -> UInt8[Tensor, "c y x"]:
    """Lays images out row by row, with two white pixels between neighbours.

    Args:
        images: At least one image in [-1, 1].
        columns: Number of images in a row; the unused places of the last row are white.

    Returns:
        Pixels of the whole picture.

    Raises:
        ValueError: If there are no images or `columns` is below 1.
    """
    num_images, channels, height, width = images.shape
    if num_images == 0:
        raise ValueError("a grid needs at least one image, got none")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    gap_px = 2
    pixels = to_uint8(images)
    cells = pixels.new_full((math.ceil(num_images / columns) * columns, *pixels.shape[1:]), 255)
    cells[:num_images] = pixels
    cells = F.pad(cells, (0, gap_px, 0, gap_px), value=255)
    cells = cells.unflatten(0, (-1, columns))  # [rows columns c h w]
    picture = cells.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)  # [c rows*h columns*w]
    return picture[:, :-gap_px, :-gap_px].contiguous()


def enlarge(pixels: Picture, factor: int) -> UInt8[Tensor, "c {factor}*h {factor}*w"]:
    """Repeats every pixel, so that small pictures can be looked at without smoothing.

    Args:
        pixels: The picture.
        factor: How many times each pixel is repeated in both directions; 1 changes nothing.

    Returns:
        The enlarged picture.

    Raises:
        ValueError: If `factor` is below 1.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    return pixels.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def write_png(path: Path, pixels: Picture) -> None:
    """Writes a PNG file; whoever reads the path sees the old file or the whole new one.

    Args:
        path: The file; its folder is made if it is missing.
        pixels: The picture, grey or RGB.

    Raises:
        InputError: If the picture has neither 1 nor 3 channels.
    """
    check_channels(pixels.shape[0])
    array = pixels.permute(1, 2, 0).cpu().contiguous().numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        picture.save(temporary, format="PNG")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

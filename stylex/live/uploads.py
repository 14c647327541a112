"""Images that strangers send: looked at from outside before they are decoded."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stylex.errors import InputError
from stylex.imaging import from_uint8, read_image
from stylex.types import Images

MEGABYTE = 2**20  # as browsers and gradio count
FORMATS = ("PNG", "JPEG", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Limits:
    """What an upload may be.

    Attributes:
        megabytes: Largest file, in 2^20 bytes.
        pixels: Largest image, width times height.
    """

    megabytes: float
    pixels: int

    def __post_init__(self) -> None:
        """Refuses limits that let nothing in."""
        for name, value in (("max_upload_mb", self.megabytes), ("max_pixels", self.pixels)):
            if value <= 0:
                raise InputError(f"{name} must be above 0, got {value}")

    @property
    def num_bytes(self) -> int:
        """Largest file."""
        return int(self.megabytes * MEGABYTE)


def read_upload(path: Path, limits: Limits, resolution: int, channels: int) -> Images:
    """Reads an image as the model takes it; its size is known before a pixel is decoded.

    Args:
        path: The file, of which a message tells the name alone.
        limits: What it may be.
        resolution: Height and width that it is scaled to, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        One image in [-1, 1].

    Raises:
        InputError: If it is too large, or no PNG, JPEG or WebP file that can be decoded.
    """
    if path.stat().st_size > limits.num_bytes:
        raise InputError(
            f"an image's file must have at most {limits.megabytes:g} MB, got "
            f"{path.stat().st_size / MEGABYTE:.1f} MB; give a smaller one"
        )
    unreadable = InputError(
        f"an image must be a readable PNG, JPEG or WebP file, got '{path.name}'; give another one"
    )
    try:
        with Image.open(path, formats=FORMATS) as file:
            width, height = file.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many(limits, "far more") from error
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise unreadable from error
    if width * height > limits.pixels:
        raise _too_many(limits, f"{width:,} x {height:,}")
    try:
        return from_uint8(read_image(path, resolution, channels)[None])
    except InputError as error:
        raise unreadable from error


def _too_many(limits: Limits, got: str) -> InputError:
    return InputError(
        f"an image must have at most {limits.pixels:,} pixels, got {got}; give a smaller one"
    )

"""Any number of images in bounded memory, and libraries' randomness that leaves no trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from stylex.attribution.exhibits import Maps
from stylex.errors import InputError
from stylex.types import Images, Labels


def check_chunk_size(chunk_size: int) -> None:
    """Checks the number of images that run together.

    Raises:
        InputError: If it is below 1.
    """
    if chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}; give 1 or more")


def maps_in_chunks(
    images: Images, targets: Labels, chunk_size: int, draw: Callable[[Images, Labels], Maps]
) -> Maps:
    """Maps of all images, a few at a time.

    Args:
        images: In [-1, 1]; neither they nor their gradients are touched.
        targets: A class for each.
        chunk_size: How many run together.
        draw: Gives the maps of copies of some images, which record gradients.

    Returns:
        On the images' device, without gradients.

    Raises:
        InputError: If `chunk_size` is below 1.
    """
    check_chunk_size(chunk_size)
    if not len(images):
        return images.new_zeros(0, *images.shape[2:])
    pairs = zip(images.split(chunk_size), targets.split(chunk_size), strict=True)
    return torch.cat(
        [draw(part.detach().clone().requires_grad_(True), to).detach() for part, to in pairs]
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws from torch's global state are those of the seed; the state is as before afterwards.

    For libraries that take no generator.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield

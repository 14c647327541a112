"""DeepDream: what layers see in a photograph, made stronger, from coarse to fine.

Source: Mordvintsev, Olah & Tyka 2015, "Inceptionism: Going Deeper into Neural Networks".
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.attribution.chunks import check_chunk_size
from stylex.attribution.exhibits import Pictures
from stylex.attribution.layers import check_at_least, chosen_layers
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import layer_outputs
from stylex.errors import InputError
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

SMALLEST_PX = 32  # of an octave; smaller ones show the layers nothing


def dream(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    layers: Sequence[str | float],
    enlargement: float,
    octaves: int,
    octave_scale: float,
    steps: int,
    step_size: float,
    jitter_px: int,
    seed: int,
    chunk_size: int,
    columns: int,
    progress: Progress = quiet,
) -> Pictures:
    """Lets layers dream on photographs of any size, read at that size.

    Each octave begins with the photograph at its own size, so that no detail is lost, plus what
    was dreamt at the smaller sizes.

    Args:
        classifier: Its network is read up to the last of the layers.
        images: Photographs, square or not.
        targets: Unused: a dream has no class.
        layers: Names, or shares of the depth; their outputs' mean square, averaged over the layers,
            is made larger.
        enlargement: Height and width of the dream in units of the image's.
        octaves: Number of sizes; 1 dreams at the full size only, and sizes below 32 px are left
            out.
        octave_scale: How many times larger each size is than the one before.
        steps: Steps at each size.
        step_size: Mean change of a value in one step; images have values in [-1, 1].
        jitter_px: Largest shift of the picture round its borders before a step.
        seed: Of the shifts.
        chunk_size: Images that dream together.
        columns: Pictures side by side.
        progress: Shows the steps.

    Returns:
        The dreams, each with the objective of the photograph and of the dream.

    Raises:
        InputError: If a layer does not exist or a setting is out of its range.
    """
    del targets
    check_chunk_size(chunk_size)
    check_at_least("jitter_px", jitter_px, 0)
    names = chosen_layers(classifier, images, layers, "layers")
    sizes = octave_sizes(images.shape[2:], enlargement, octaves, octave_scale, len(names))
    sized = f"{len(sizes)} octave{'s' if len(sizes) > 1 else ''}"
    parts, captions = [], []
    for photographs in images.split(chunk_size):
        photographs = resized(photographs, sizes[-1])
        dreamt = torch.zeros_like(resized(photographs, sizes[0]))
        random = torch.Generator().manual_seed(seed)
        for size in sizes:
            base = resized(photographs, size)
            picture = (base + resized(dreamt, size)).clamp(-1, 1)
            for _ in progress(range(steps), "dream"):
                shift = torch.randint(-jitter_px, jitter_px + 1, (2,), generator=random).tolist()
                picture = _stronger(classifier, picture, names, step_size, shift)
            dreamt = picture - base
        parts.append(picture)
        before = excitement(classifier, photographs, names).tolist()
        after = excitement(classifier, picture, names).tolist()
        for first, last in zip(before, after, strict=True):
            captions.append(f"{', '.join(names)}, {sized}: {first:.3g} → {last:.3g}")
    return Pictures(torch.cat(parts), tuple(captions), columns)


def octave_sizes(
    size: Sequence[int], enlargement: float, octaves: int, octave_scale: float, num_layers: int
) -> list[tuple[int, int]]:
    """Heights and widths of all octaves, the smallest first; those below 32 px are left out.

    The last is the full size, whatever it is.

    Raises:
        InputError: If a setting is out of its range.
    """
    rules = (
        (num_layers >= 1, "layers must name at least one layer, got none"),
        (octaves >= 1, f"octaves must be at least 1, got {octaves}"),
        (octave_scale > 1, f"octave_scale must be above 1, got {octave_scale}"),
        (enlargement > 0, f"enlargement must be above 0, got {enlargement}"),
    )
    for holds, sentence in rules:
        if not holds:
            raise InputError(sentence)
    shares = [enlargement / octave_scale**octave for octave in reversed(range(octaves))]
    sizes = [(round(size[0] * share), round(size[1] * share)) for share in shares]
    return [each for each in sizes[:-1] if min(each) >= SMALLEST_PX] + sizes[-1:]


def excitement(
    classifier: FrozenClassifier, images: Images, layers: Sequence[str]
) -> Float[Tensor, " b"]:
    """Mean square of the layers' outputs at the images' own size, averaged over the layers."""
    inputs = classifier.adapter.normalise(images)
    outputs = layer_outputs(classifier.network, inputs, layers)
    squares = [outputs[layer].flatten(1).square().mean(dim=1) for layer in layers]
    return torch.stack(squares).mean(dim=0)


def resized(images: Images, size: Sequence[int]) -> Float[Tensor, "b c h2 w2"]:
    """Images of any size at another one, antialiased where they shrink."""
    if images.shape[2:] == torch.Size(size):
        return images
    antialias = size[0] < images.shape[2]
    return F.interpolate(images, tuple(size), mode="bicubic", antialias=antialias)


def _stronger(
    classifier: FrozenClassifier,
    images: Images,
    layers: Sequence[str],
    step_size: float,
    shift: list[int],
) -> Images:
    """One step, of the same mean size for every image."""
    with torch.enable_grad():
        moved = images.roll(shift, dims=(2, 3)).requires_grad_()
        (gradient,) = torch.autograd.grad(excitement(classifier, moved, layers).sum(), moved)
    gradient = gradient.roll([-shift[0], -shift[1]], dims=(2, 3))
    size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
    # A gradient of nothing but zeros moves nothing.
    return (images + step_size * gradient / size.clamp(min=1e-12)).clamp(-1, 1)

"""Some of a set's classes: to train on, or to hold out."""

from collections.abc import Sequence

import torch

from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.types import Images, Labels


class ClassSubset(ImageSet):
    """The images of some classes of another set, in its order; labels count these classes alone.

    Args:
        images: The other set, which stays as it is.
        class_names: Of the classes to keep, each one of the set's; their order gives the labels.
    """

    def __init__(self, images: ImageSet, class_names: Sequence[str]) -> None:
        old = torch.tensor([images.class_names.index(name) for name in class_names])
        new = torch.full((len(images.class_names),), -1)
        new[old] = torch.arange(len(old))
        labels = new[images.labels]
        self._whole, self._kept = images, (labels >= 0).nonzero()[:, 0]
        super().__init__(
            class_names=tuple(class_names),
            labels=labels[self._kept],
            split=images.split,
            resolution=images.resolution,
            channels=images.channels,
        )

    def _images(self, positions: Labels) -> Images:
        return self._whole.batch(self._kept[positions].tolist())[0]

    def _content(self) -> bytes:
        return f"{self._whole.fingerprint} classes {list(self.class_names)}".encode()


def split_classes(
    class_names: Sequence[str], named: Sequence[str] | None, share: float, seed: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes to train on and classes to hold out, both in the order of the data.

    Args:
        class_names: All classes.
        named: Those to hold out; none draws a share of them.
        share: Of the classes to hold out if none are named, in (0, 1), rounded.
        seed: Of the draw.

    Raises:
        InputError: If a name is no class, the share is out of range, or fewer than two classes are
            on either side: one class alone has nothing to be told apart from.
    """
    count = len(class_names)
    if named is None:
        if not 0 < share < 1:
            raise InputError(f"held_out.share must be above 0 and below 1, got {share}")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
        held = {class_names[i] for i in order[: round(share * count)]}
    else:
        held = set(named)
        for name in named:
            if name not in class_names:
                raise InputError(
                    f"held_out.classes must be classes of the data ({', '.join(class_names)}), "
                    f"got '{name}'"
                )
    kept = tuple(name for name in class_names if name not in held)
    if len(held) < 2 or len(kept) < 2:
        raise InputError(
            "an embedding needs at least two classes to train on and two held out, got "
            f"{len(kept)} and {len(held)} of {count}; change held_out or give data with more "
            "classes"
        )
    return kept, tuple(name for name in class_names if name in held)

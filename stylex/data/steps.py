"""Which images each training step sees, as a pure function of seed and step.

A run resumed at a step therefore sees exactly the batches that an unbroken run would have seen.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from stylex.errors import InputError


class StepBatches(Sampler[list[int]]):
    """Index batches of the training steps from `start_step` up to, not including, `stop_step`.

    An epoch is a permutation of all images, cut into whole batches; the rest of it is dropped.

    Args:
        num_images: Size of the image set.
        batch_size: Number of images in a batch.
        seed: Another seed gives other permutations.
        start_step: First step, counted from the start of the whole training.
        stop_step: Step after the last one.

    Raises:
        InputError: If `num_images` is below `batch_size`, or `batch_size` below 1.
        ValueError: If the steps do not run forward from 0 or later.
    """

    def __init__(
        self, *, num_images: int, batch_size: int, seed: int, start_step: int, stop_step: int
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if num_images < batch_size:
            raise InputError(
                f"batch_size must not exceed the number of training images ({num_images}), "
                f"got {batch_size}: lower it or add images"
            )
        if not 0 <= start_step <= stop_step:
            raise ValueError(
                "start_step must be from 0 to stop_step, "
                f"got start_step {start_step} and stop_step {stop_step}"
            )
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.stop_step = stop_step

    def __len__(self) -> int:
        """Returns the number of steps."""
        return self.stop_step - self.start_step

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the batch of every step; a second pass yields the same batches."""
        steps_per_epoch = self.num_images // self.batch_size
        drawn_epoch = -1
        order: list[int] = []
        for step in range(self.start_step, self.stop_step):
            epoch, position = divmod(step, steps_per_epoch)
            if epoch != drawn_epoch:
                drawn_epoch, order = epoch, self._order(epoch)
            yield order[position * self.batch_size : (position + 1) * self.batch_size]

    def _order(self, epoch: int) -> list[int]:
        # A hash, because seed + epoch would give epoch 1 of seed 0 to epoch 0 of seed 1.
        digest = hashlib.sha256(f"{self.seed} {epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.randperm(self.num_images, generator=generator).tolist()

"""Where synthesis stands before each layer, kept for images whose edits start there."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from stylex.gan.generator import SynthesisState

Block = tuple[int, ...]  # rows of a study


class StateStore:
    """States of blocks of images: those last used, as far as they fit."""

    def __init__(self, capacity_bytes: float) -> None:
        self.capacity_bytes, self.used_bytes = capacity_bytes, 0
        self._kept: OrderedDict[Block, tuple[list[SynthesisState], int]] = OrderedDict()

    def get(
        self, block: Block, compute: Callable[[Block], list[SynthesisState]]
    ) -> list[SynthesisState]:
        """The states of a block, computed if they are not kept."""
        if block in self._kept:
            self._kept.move_to_end(block)
            return self._kept[block][0]
        states = compute(block)
        tensors = [x for state in states for x in (state.features, state.image) if x is not None]
        self._kept[block] = states, sum(x.nbytes for x in tensors)
        self.used_bytes += self._kept[block][1]
        while self.used_bytes > self.capacity_bytes:
            self.used_bytes -= self._kept.popitem(last=False)[1][1]
        return states

    def clear(self) -> None:
        """Keeps none."""
        self._kept.clear()
        self.used_bytes = 0


def rows_of(state: SynthesisState, rows: Int64[Tensor, " b"]) -> SynthesisState:
    """States in rising order of rows; a single image's are not copied."""
    if len(rows) == 0 or rows[0] != rows[-1]:
        return state.select(rows.to(state.features.device))
    one = slice(int(rows[0]), int(rows[0]) + 1)
    features, image = (
        None if x is None else x[one].expand(len(rows), -1, -1, -1)
        for x in (state.features, state.image)
    )
    assert features is not None
    return SynthesisState(state.layer, features, image)


def joined(parts: list[SynthesisState]) -> SynthesisState:
    """States of several blocks, one after the other."""
    if len(parts) == 1:
        return parts[0]
    features = torch.cat([part.features for part in parts])
    images = [part.image for part in parts if part.image is not None]
    return SynthesisState(parts[0].layer, features, torch.cat(images) if images else None)

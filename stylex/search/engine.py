"""Measures any list of edits of single style coordinates, as fast as the generator allows.

An edit leaves all layers before its own as they were, so its image is synthesised from that layer
on. Batches span images, directions and coordinates alike. What a batch holds depends on the list of
edits and on the batch size alone, so that a list measured in several processes, or after other
lists, gives the same bits; only after memory ran out may the last digits differ.
"""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.gan.generator import SynthesisState
from stylex.model import StylEx
from stylex.search.edits import Edits
from stylex.search.states import Block, StateStore, joined, rows_of
from stylex.types import Logits, Styles

log = logging.getLogger("stylex.search")

RESUMED_LEAST = 3  # edits past the first layer that pay for the pass that makes an image's states
STATE_BLOCK = 16  # images whose states are computed together
CPU_BATCH = 32  # the fastest at 32 px on one core: 64 is 5 to 25 % slower
CUDA_BATCH = 512  # at most
PROBE = 8  # images that tell how much memory one takes
SPARE = 0.7  # share of what is free that an automatic batch may take, beside the states
GRAPHS = 64  # most that torch.compile makes of one function; PyTorch stops at 8
NO_MEMORY = ("not enough memory", "can't allocate memory")  # PyTorch's words on a CPU

Score = Callable[[Logits], Float[Tensor, " b"]]
Part = tuple[slice, Tensor]


@runtime_checkable
class Evaluator(Protocol):
    """Measures edits of a study's images: an engine, or what stands before one."""

    @property
    def passes(self) -> int:
        """Generator passes so far."""

    @property
    def batch_size(self) -> int:
        """Edited images per forward pass."""

    def measure(self, edits: Edits) -> Float[Tensor, "m k"]:
        """Change of every logit by every edit, on the CPU."""

    def logits(self, styles: Styles) -> Logits:
        """Logits of whole style vectors, on the CPU."""


class Engine:
    """Evaluates edits of a study's images.

    Attributes:
        passes: Synthesis and classification of one image count as one pass, an image's states as
            one, a backward pass as two; failed attempts and an automatic batch's probe do not
            count.
        batch_size: Edited images per forward pass.
    """

    def __init__(
        self,
        model: StylEx,
        styles: Styles,
        base_logits: Logits,
        extremes: Float[Tensor, "2 s"],
        *,
        batch_size: int | None,
        memory_share: float = 0.25,
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        compile: str | None = None,
    ) -> None:
        """Takes the images of a study.

        Args:
            model: The model under explanation, on the device that computes.
            styles: Of all images of the study.
            base_logits: Of their unedited reconstructions; changes are measured from these. Take
                them from an engine's `logits` if it computes in a lower type.
            extremes: Smallest and largest value of every coordinate.
            batch_size: Edited images per forward pass; none takes 32 on a CPU, and on CUDA the
                largest power of two that fits, at most 512. Processes that share a list of edits
                need the same.
            memory_share: Share of the memory free now that may keep states of images; it changes
                no result.
            autocast: Lower type of both networks; none computes as the model is set.
            channels_last: Whether the classifier gets its images with the channels innermost.
            compile: Mode of `torch.compile`, one graph per starting layer; none does not compile.

        Raises:
            InputError: If the batch size is below 1, the share of memory not in [0, 1], or there is
                no such mode.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= memory_share <= 1:
            raise InputError(f"memory_share must be in [0, 1], got {memory_share}")
        if compile is not None and compile not in torch._inductor.list_mode_options():
            known = ", ".join(torch._inductor.list_mode_options())
            raise InputError(f"compile must be null or one of {known}, got '{compile}'")
        self.model, self.device = model, model.generator.const.device
        self.styles = styles.to(self.device)
        self.base_logits = base_logits.to(self.styles)
        self.extremes = extremes.to(self.styles)
        self.starts = _starting_layers(model)
        self.autocast, self.channels_last, self.compile = autocast, channels_last, compile
        self.passes = 0
        self._compiled: dict[int, Callable[..., Tensor]] = {}
        free = _free_bytes(self.device)
        self._states = StateStore(memory_share * free)
        self._most = self.batch_size = batch_size or PROBE  # _most: less after memory ran out
        if batch_size is None:
            self._most = self.batch_size = self._automatic(SPARE * (1 - memory_share) * free)

    def batches(self, edits: Edits) -> list[Int64[Tensor, " _"]]:
        """Positions of the edits of every batch, in an order that depends on the edits alone.

        All edits of a batch start at one layer: that of the coordinate, or the first for an image
        with fewer than three edits past it, whose states would cost more than they save.

        Raises:
            InputError: If an edit has no such image, coordinate or direction, or no finite
                strength.
        """
        self._check(edits)
        starts = self._starts_of(edits)
        order = (starts * len(self.styles) + edits.images).argsort(stable=True)
        sizes = starts[order].unique_consecutive(return_counts=True)[1].tolist()
        cut = [batch for part in order.split(sizes) for batch in part.split(self.batch_size)]
        # Batches of the same images follow each other, while their states are kept.
        return sorted(cut, key=lambda batch: int(edits.images[batch[0]]))

    @torch.no_grad()
    def measure(
        self, edits: Edits, batches: Sequence[Int64[Tensor, " _"]] | None = None
    ) -> Float[Tensor, "m k"]:
        """Change of every class's logit by every edit.

        Args:
            edits: Any edits, in any order.
            batches: Some of `self.batches(edits)`, such as every second one; none takes all.

        Returns:
            Changes on the CPU, in the order of the edits; 0 for those of no batch.

        Raises:
            InputError: See `batches`; also if a batch is another one, or if memory does not suffice
                for one image.
        """
        batches = self.batches(edits) if batches is None else batches
        self._check(edits)
        starts = self._starts_of(edits)
        resumed = edits.images[starts > 0].unique()
        order = torch.cat([edits.images[:0], *batches])
        ordered, moved = edits.images[order], self._moved(edits.select(order))
        found = self.base_logits.new_empty(len(order), self.base_logits.shape[1])
        first = 0
        for batch in batches:
            start, rows = int(starts[batch[0]]), slice(first, first + len(batch))
            if (starts[batch] != start).any() or (edits.images[batch].diff() < 0).any():
                raise InputError("batches must be those of these edits, got another; ask for them")
            states = functools.partial(self._resume, start, ordered, resumed)
            for part, logits in self._parts(rows, functools.partial(self._edited, *moved, states)):
                found[part] = logits - self.base_logits[moved[0][part]]
            first = rows.stop
        changes = torch.zeros(len(edits), found.shape[1], dtype=found.dtype)
        changes[order] = found.cpu()
        return changes

    @torch.no_grad()
    def logits(self, styles: Styles) -> Logits:
        """Logits of whole style vectors, in which many coordinates may have moved; on the CPU.

        Raises:
            InputError: If memory does not suffice for one image.
        """

        def judged(part: slice) -> Logits:
            return self._judged(styles[part].to(self.styles), None)

        found = [logits for _, logits in self._parts(slice(len(styles)), judged)]
        return torch.cat([self.base_logits[:0], *found]).cpu()

    def slopes(
        self, images: Int64[Tensor, " b"], scores: Sequence[Score]
    ) -> Float[Tensor, "b s j"]:
        """Gradients of scores with respect to all styles, at the unedited styles.

        Args:
            images: Rows of the study.
            scores: Functions of the logits, row by row; each sees some of the images at a time.

        Raises:
            InputError: If there is no such image, or if memory does not suffice for one.
        """
        _require("images", images, len(self.styles))

        def gradients(part: slice) -> Float[Tensor, "p s j"]:
            return self._gradients(images[part], scores)

        found = [slopes for _, slopes in self._parts(slice(len(images)), gradients)]
        empty = self.styles.new_zeros(0, self.styles.shape[1], len(scores))
        return torch.cat([empty, *found]).cpu()

    def forget(self) -> None:
        """Drops the stored states, which changes no result."""
        self._states.clear()

    def _check(self, edits: Edits) -> None:
        _require("images of edits", edits.images, len(self.styles))
        _require("coordinates of edits", edits.coordinates, len(self.starts))
        _require("directions of edits", edits.directions, 2)
        if not edits.strengths.isfinite().all():
            raise InputError("strengths of edits must be finite numbers, got another")

    def _starts_of(self, edits: Edits) -> Int64[Tensor, " m"]:
        starts = self.starts[edits.coordinates]
        past = edits.images[starts > 0].bincount(minlength=len(self.styles))
        return starts * (past[edits.images] >= RESUMED_LEAST)

    def _moved(self, edits: Edits) -> tuple[Tensor, Tensor, Tensor]:
        """Image, coordinate and the value it is set to, of every edit, on the device."""
        image, coordinate, direction = (
            x.to(self.device) for x in (edits.images, edits.coordinates, edits.directions)
        )
        value = self.styles[image, coordinate]
        step = self.extremes[direction, coordinate] - value
        return image, coordinate, value + edits.strengths.to(value) * step

    def _edited(
        self,
        image: Int64[Tensor, " m"],
        coordinate: Int64[Tensor, " m"],
        value: Float[Tensor, " m"],
        states: Callable[[slice], SynthesisState | None],
        part: slice,
    ) -> Logits:
        styles = self.styles[image[part]]
        styles.scatter_(1, coordinate[part, None], value[part, None])
        return self._judged(styles, states(part))

    def _resume(
        self, layer: int, images: Int64[Tensor, " m"], resumed: Int64[Tensor, " r"], part: slice
    ) -> SynthesisState | None:
        """States of a part's images, computed in blocks of all images that the list resumes."""
        if layer == 0:
            return None
        size = min(STATE_BLOCK, self._most)
        rank = torch.searchsorted(resumed, images[part])
        parts = []
        for block in (rank // size).unique_consecutive().tolist():
            key = tuple(resumed[block * size : (block + 1) * size].tolist())
            states = self._states.get(key, self._computed)
            parts.append(rows_of(states[layer], rank[rank // size == block] - block * size))
        return joined(parts)

    def _computed(self, images: Block) -> list[SynthesisState]:
        with torch.autocast(self.device.type, self.autocast, self.autocast is not None):
            states = self.model.generator.states(self.styles[list(images)])
        self.passes += len(images)
        return states

    def _judged(self, styles: Styles, state: SynthesisState | None) -> Logits:
        """Logits of styles, from a state on; one pass per row."""
        start = (0, None, None) if state is None else (state.layer, state.features, state.image)
        if self.compile is None:
            logits = self._judge(styles, *start)
        else:
            logits = self._judge_compiled(styles, *start)[: len(styles)]
        self.passes += len(styles)
        return logits

    def _judge(
        self, styles: Tensor, layer: int, features: Tensor | None, image: Tensor | None
    ) -> Tensor:
        start = None if features is None else SynthesisState(layer, features, image)
        with torch.autocast(self.device.type, self.autocast, self.autocast is not None):
            images = self.model.render(styles, start)
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            return self.model.classifier(images).to(styles.dtype)

    def _judge_compiled(self, styles: Tensor, layer: int, *state: Tensor | None) -> Tensor:
        if layer not in self._compiled:
            judge = functools.partial(self._judge, layer=layer)
            self._compiled[layer] = torch.compile(judge, mode=self.compile, dynamic=False)
        torch.compiler.cudagraph_mark_step_begin()
        with torch._dynamo.config.patch(recompile_limit=GRAPHS):
            features, image = (None if x is None else _padded(x, self._most) for x in state)
            whole = _padded(styles, self._most)
            return self._compiled[layer](whole, features=features, image=image)

    def _gradients(self, images: Int64[Tensor, " b"], scores: Sequence[Score]) -> Tensor:
        styles = self.styles[images.to(self.device)].requires_grad_()
        with torch.enable_grad():
            logits = self._judge(styles, 0, None, None)
            totals = [score(logits).sum() for score in scores]
        found = [torch.autograd.grad(total, styles, retain_graph=True)[0] for total in totals]
        self.passes += len(images) * (1 + 2 * len(scores))
        return torch.stack(found, dim=2)

    def _parts(self, rows: slice, compute: Callable[[slice], Tensor]) -> Iterator[Part]:
        """Parts of some rows, as large as memory allows, with what was computed of them."""
        done = rows.start or 0
        while done < rows.stop:
            part = slice(done, min(rows.stop, done + self._most))
            try:
                found = compute(part)
            except RuntimeError as error:
                if not _memory_ran_out(error):
                    raise
            else:
                yield part, found
                done = part.stop
                continue
            self._halve(part.stop - done)  # outside the except, which holds on to the tensors

    def _halve(self, size: int) -> None:
        if size == 1:
            raise InputError(
                "memory must suffice for one edited image at a time, got less; free memory or take "
                "a device with more"
            )
        if self._most == self.batch_size:
            log.warning("search: memory ran out at %d images per pass, which are halved", size)
        self._most = size // 2
        self.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _automatic(self, free: float) -> int:
        if self.device.type != "cuda":
            return CPU_BATCH
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        styles = self.styles[:1].expand(PROBE, -1)
        with torch.no_grad():
            for _ in self._parts(slice(PROBE), lambda p: self._judge(styles[p], 0, None, None)):
                pass
        one = max(1, torch.cuda.max_memory_allocated(self.device) - before) / PROBE
        return 2 ** int(math.log2(min(CUDA_BATCH, max(1, free / one))))


def _require(what: str, values: Int64[Tensor, " m"], limit: int) -> None:
    wrong = values[(values < 0) | (values >= limit)]
    if len(wrong):
        raise InputError(f"{what} must be 0 to {limit - 1}, got {int(wrong[0])}")


def _starting_layers(model: StylEx) -> Int64[Tensor, " s"]:
    """The convolution from which each coordinate's edit is synthesised."""
    convolutions, torgbs = len(model.generator.convolutions), len(model.generator.torgbs)
    # The ToRGB of block b follows convolution 2b.
    layers = torch.tensor([*range(convolutions), *range(0, 2 * torgbs, 2)])
    return layers.repeat_interleave(torch.tensor(model.generator.layout.sizes))


def _padded(x: Tensor, count: int) -> Tensor:
    """The last row repeated up to `count` rows, laid out alike whatever came in."""
    return torch.cat((x, x[-1:].expand(count - len(x), *x.shape[1:])))


def _memory_ran_out(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in NO_MEMORY)


def _free_bytes(device: torch.device) -> int:
    """Memory that can be had now; where the system does not say, all that there is."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

"""Processes that were started together: which one this is, and its share of a training batch.

Those that train together all take the same step. It draws its random numbers for the whole batch on
every process, which keeps the rows of its own images; what looks at a batch as a whole (a mean over
it, another image of it) is gathered; and gradients are averaged before an optimiser's step. So as
many processes as one likes end with the weights of a single one that takes the whole batch, but for
the order of sums. A process holds whole groups of the minibatch deviation.
The gradients are averaged here rather than by a wrapper of the module, since the phases of a step
train different networks and the penalties differentiate twice.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from stylex.errors import InputError

Item = TypeVar("Item")
BROKEN = ("onnection closed by peer", "onnection reset by peer", "onnection refused")  # gloo, nccl
STARTERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID"),
)


@dataclass(frozen=True)
class Place:
    """A process among those that were started together.

    Attributes:
        rank: From 0.
        size: Number of processes.
        local_rank: From 0 on each computer; says which GPU is this process's.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def place(environment: Mapping[str, str]) -> Place:
    """Where torchrun, Slurm's srun or submitit put this process; alone if none started it.

    Raises:
        InputError: If a variable is no number.
    """
    for names in STARTERS:
        if names[0] in environment and names[1] in environment:
            values = [environment.get(name, "0") for name in names]
            if not all(value.isdigit() for value in values):
                raise InputError(
                    f"{', '.join(names)} must be numbers, got {values}; start with torchrun or srun"
                )
            return Place(*map(int, values))
    return Place()


@dataclass(frozen=True)
class Share:
    """Which images of a part of the batch are this process's.

    Image i of all is in the group i modulo the number of groups; each process has `columns` groups.

    Attributes:
        rank: Of the process, from 0.
        size: Number of processes.
        columns: Groups of the minibatch deviation in a process's part of the batch.
        parts: Parts that a step's batch is divided into, one after another.
    """

    rank: int = 0
    size: int = 1
    columns: int = 1
    parts: int = 1

    def rows(self, count: int) -> Tensor:
        """Positions of a process's `count` images among those of all, in its own order."""
        columns = math.gcd(self.columns, count)
        places = torch.arange(count * self.size).view(-1, self.size, columns)
        return places[:, self.rank].reshape(-1)

    def of_batch(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of a step's batch, part by part."""
        if self.size == 1:
            return list(items)
        length = len(items) // self.parts
        rows = self.rows(length // self.size).tolist()
        return [items[part * length + i] for part in range(self.parts) for i in rows]

    def drawn(self, draw: Callable[[int], Tensor], count: int) -> Tensor:
        """What a draw for the images of all processes, the first axis, gives for `count` own ones.

        Args:
            draw: Draws for as many images as it is told, from a generator that stands alike on all.
            count: Own images.
        """
        whole = draw(count * self.size)
        return whole if self.size == 1 else whole[self.rows(count).to(whole.device)]

    def gather(self, values: Float[Tensor, "b ..."]) -> Float[Tensor, "b2 ..."]:
        """The values of all processes' images, in the order of the whole; differentiable.

        If every process computes the same loss from it, its gradients average to those of one
        process that holds all images.
        """
        if self.size == 1:
            return values
        every = _Gathered.apply(values)  # [processes b ...]
        places = torch.cat(
            [Share(r, self.size, self.columns).rows(len(values)) for r in range(self.size)]
        )
        return every.flatten(0, 1)[places.argsort().to(values.device)]

    def own(self, values: Float[Tensor, "b2 ..."]) -> Float[Tensor, "b ..."]:
        """This process's rows of what `gather` gave."""
        if self.size == 1:
            return values
        return values[self.rows(len(values) // self.size).to(values.device)]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, without a gradient."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Replaces gradients by their means over the processes, in place."""
        if self.size == 1:
            return
        found = list(gradients)
        flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in found]))
        for gradient, mean in zip(found, flat.split([g.numel() for g in found]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def share(batch_size: int, parts: int = 1, group: int = 1) -> Share:
    """This process's share, once the processes know of each other; all of it if it is alone.

    Args:
        batch_size: Images of a step, over all processes.
        parts: Parts that the batch is divided into.
        group: Images that the minibatch deviation wants in a group.

    Raises:
        InputError: If the batch cannot be divided evenly.
    """
    together = distributed.is_available() and distributed.is_initialized()
    rank, size = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    if batch_size % (size * parts):
        raise InputError(
            "data.batch_size must be a multiple of the processes times training.accumulation, got "
            f"{batch_size} for {size} x {parts}; change it or the number of processes"
        )
    count = batch_size // (size * parts)
    return Share(rank, size, count // math.gcd(group, count), parts)


def check_alike(what: str, value: int) -> None:
    """Makes sure that all processes that train together hold the same value.

    Raises:
        InputError: On every process, if they do not: they would wait for each other for good.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    values: list[int | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise InputError(
            f"processes that train together must agree in {what}, got {values}; give an "
            "output_dir that all of them share"
        )


@contextmanager
def of_one_fate() -> Iterator[None]:
    """Says in a sentence that another process has ended, where this one was waiting for it.

    Raises:
        InputError: If a connection to another process broke inside the block.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in BROKEN):
            raise
        raise InputError(
            "processes that train together must all go on, got one that has ended, whose own "
            "message says why; the same command goes on"
        ) from error


class _Gathered(torch.autograd.Function):
    """All processes' tensors, stacked; each gets the sum of all gradients of its own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401  torch's own
        every = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, values.contiguous())
        return torch.stack(every)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]

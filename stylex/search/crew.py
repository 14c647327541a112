"""Processes that search together: the first leads, the others serve.

The leader runs the search. What is heavy it puts as a task, which every process runs on its own
share; the parts are merged by adding tensors that are zero elsewhere, which changes no bit, so a
result does not depend on the number of processes. As only the leader decides, processes of
different computers cannot come to different decisions.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch import Tensor, distributed

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.processes import Place
from stylex.progress import Progress, quiet
from stylex.search.engine import Engine
from stylex.types import Images, Labels

WAIT = timedelta(hours=2)  # for the slowest process


@dataclass
class Member:
    """What a process holds to work on.

    Attributes:
        model: The model under explanation.
        images: Reference images.
        computing: How engines compute, by the names of `Engine`'s arguments.
        progress: Wraps this process's long loops.
        engine: The engine that was opened last; none before the first.
        baseline: What it was opened for, known to the leader alone.
        called: What each image is called, if another classifier than the explained one says it;
            known to the leader alone.
    """

    model: StylEx
    images: Images
    computing: Mapping[str, Any]
    progress: Progress = quiet
    engine: Engine | None = None
    baseline: object = None
    called: Labels | None = None


Task = Callable[..., Any]


class Crew:
    """All processes of a search, seen from one of them.

    Attributes:
        place: Of this process.
        member: What this process holds; set before the first task.
    """

    member: Member

    def __init__(self, place: Place) -> None:
        self.place = place
        self._failed = False

    @property
    def leads(self) -> bool:
        """Whether this process runs the search."""
        return self.place.rank == 0

    def engine(self) -> Engine:
        """The engine that was opened last."""
        assert self.member.engine is not None
        return self.member.engine

    def call(self, task: Task, *arguments: Any) -> Any:  # noqa: ANN401  the task's own
        """Runs `task(crew, *arguments)` on every process; returns the leader's result.

        Args:
            task: A function of a module, which every process has under the same name.
            arguments: Tensors and plain values.
        """
        if self.place.size > 1:
            distributed.broadcast_object_list([(task, arguments)])
        self._failed = True  # until it has ended
        found = task(self, *arguments)
        self._failed = False
        return found

    def serve(self) -> None:
        """Does the leader's tasks until it dismisses the crew."""
        while True:
            received: list[Any] = [None]
            distributed.broadcast_object_list(received)
            if received[0] is None:
                return
            task, arguments = received[0]
            task(self, *arguments)

    def dismiss(self) -> None:
        """Lets the others go; amid a task that failed here they do not listen, but end with us."""
        if self.place.size > 1 and not self._failed:
            distributed.broadcast_object_list([None])

    def share(self, count: int) -> range:
        """Which of `count` pieces of a task are this process's."""
        return range(self.place.rank, count, self.place.size)

    def merge(self, part: Tensor) -> Tensor:
        """All processes' parts of a tensor, each zero where it is another's."""
        if self.place.size > 1:
            distributed.all_reduce(part)
        return part

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.place.size > 1:
            distributed.barrier()


@contextmanager
def assembled(here: Place) -> Iterator[Crew]:
    """The crew of processes that were started together.

    Raises:
        InputError: If there are several and no address to meet at is given.
    """
    if here.size == 1:
        yield Crew(here)
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(
                f"{here.size} processes need {name} to meet, got none; start with torchrun, or "
                "export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) "
                "and MASTER_PORT=29500"
            )
    distributed.init_process_group("gloo", rank=here.rank, world_size=here.size, timeout=WAIT)
    try:
        yield Crew(here)
    finally:
        distributed.destroy_process_group()

"""Signals that ask a run to leave: it ends its step, saves, and is handed back to its scheduler.

SIGTERM, SIGINT (Ctrl-C), SIGUSR1 and SIGUSR2 set a flag; the same one again leaves at once. In a
job of Slurm's, SIGUSR1 means that time is nearly up: the job is queued again. In a job of
submitit's its own handler does that, and SIGTERM, which Slurm sends along, stays ignored as there.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
SHARED_EVERY = 10  # steps: so often several processes hear of the first one's signal


class Departure:
    """What a signal asked for.

    Attributes:
        signum: The signal, once there was one.
        in_step: Whether steps are being done; a signal waits for the end of one.
    """

    def __init__(self, folder: Path, leads: bool) -> None:
        """Prepares.

        Args:
            folder: Of the run.
            leads: Whether this is the process that speaks to people and schedulers.
        """
        self.folder, self.leads = folder, leads
        self.signum: int | None = None
        self.in_step = False
        self.pid = os.getpid()
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Takes over the signals; again after somebody else has."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            self.before.setdefault(signum, signal.getsignal(signum))
            ignored = _in_submitit() and signum == signal.SIGTERM
            signal.signal(signum, self.before[signum] if ignored else self._note)

    def restore(self) -> None:
        """Gives the signals back."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def begin(self) -> None:
        """Steps begin: from here on a signal waits for the end of the present one."""
        self.install()
        self.in_step = True

    def end(self) -> None:
        """Steps have ended, and what they did is saved: a signal leaves at once."""
        self.in_step = False

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.pid:  # a process that reads images: its parent decides
            return
        if self.signum == signum:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(self.pid, signum)
        self.signum = signum
        if not self.in_step:
            self.leave(None)

    def wanted(self, step: int, share: Callable[[int | None], int | None] | None) -> bool:
        """Whether to leave after this step.

        Args:
            step: Steps done.
            share: Gives every process what the first one has; none if there is one process alone.
                The first decides for all, every few steps.
        """
        if share is not None:
            if step % SHARED_EVERY:
                return False
            self.signum = share(self.signum)
        return self.signum is not None

    def leave(self, step: int | None) -> NoReturn:
        """Ends the process, and has it begun again where there is a scheduler to ask.

        Args:
            step: That the run is at; none outside its steps.

        Raises:
            SystemExit: With 128 and the signal, as a shell says it.
        """
        signum = self.signum
        assert signum is not None
        self.in_step = True  # a further one, as Slurm sends to a job queued again, is only noted
        name = signal.Signals(signum).name
        where = "" if step is None else f" at step {step}"
        if self.leads:
            print(f"'{self.folder}' was stopped by {name}{where}; the same command goes on")
        before = self.before.get(signum)
        if _in_submitit() and signum != signal.SIGINT and callable(before):
            before(signum, None)  # leaves, if this process is the one that queues again
        elif self.leads and signum == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
            print(_requeued(os.environ["SLURM_JOB_ID"]), flush=True)
        raise SystemExit(128 + signum)


def _in_submitit() -> bool:
    return "SUBMITIT_EXECUTOR" in os.environ


def _requeued(job: str) -> str:
    """Asks Slurm to begin a job again; what came of it."""
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=60
        )
        fault = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault is None:
        return f"Slurm begins job {job} again"
    return f"Slurm does not begin job {job} again ({fault}): give the same command"


@contextmanager
def departing(folder: Path, leads: bool) -> Iterator[Departure]:
    """Takes over the signals inside the block."""
    departure = Departure(folder, leads)
    departure.install()
    try:
        yield departure
    finally:
        departure.restore()

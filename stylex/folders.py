"""A folder that one run writes: replaced whole, locked, and left with a sentence if its disk fails.

The lock is the kernel's (flock): it goes with the process that holds it, however that ends.
"""

import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stylex.artifacts import PARTIAL, sync
from stylex.errors import InputError

LOCK_FILE = ".lock"
ASIDE = ".aside."  # begins the name of a folder that is being replaced
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTDIR)
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
log = logging.getLogger("stylex")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `path` if the block ends well, else vanishes.

    A folder that has something in it cannot be replaced in one step: a process killed between two
    renames leaves the old one aside, where `clear_partial` finds it. The two never mix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{PARTIAL}{path.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        for file in (*temporary.iterdir(), temporary):
            sync(file)
        if path.exists():
            path.rename(_aside(path))
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(_aside(path), ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f"{ASIDE}{path.name}")


def clear_partial(folder: Path) -> None:
    """Removes what killed processes left half written; only for whoever holds the lock.

    A folder that was put aside and has no successor comes back.
    """
    for path in folder.glob(f"{ASIDE}*"):
        whole = folder / path.name.removeprefix(ASIDE)
        if whole.exists():
            shutil.rmtree(path)
        else:
            path.rename(whole)
    for path in folder.glob(f"{PARTIAL}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class Lock:
    """Held on a folder: no other run writes there."""

    def __init__(self, folder: Path) -> None:
        """Takes the lock; the folder is made.

        Raises:
            InputError: If another process holds it.
        """
        self.folder, self.path = folder, folder / LOCK_FILE
        self.is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            self.file = self.path.open("a+")
            os.register_at_fork(after_in_child=self.file.close)  # a child would keep the lock
            self._take()
            if self.holds():
                break
            self.file.close()  # its holder left, and took the file along
        self.file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S %z")
        facts = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
        self.file.write(json.dumps(facts) + "\n")
        self.file.flush()

    def _take(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(self.path)
            self.file.close()
            raise InputError(
                f"output_dir must be one run's alone, got '{self.folder}', which {holder} is "
                "writing; wait for it, stop it, or give another output_dir"
            ) from error
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            log.warning(
                "the file system of '%s' has no locks (%s): see to it that no other run writes "
                "there",
                self.folder,
                error.strerror,
            )

    def holds(self) -> bool:
        """Whether the folder is still there with this very lock in it."""
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Makes sure that the folder was not taken away: what is written would be a new one.

        Raises:
            InputError: If it was.
        """
        if not self.holds():
            raise InputError(_removed(self.folder))

    def release(self) -> None:
        """Gives the folder back; one that was made and has nothing in it goes."""
        if self.holds():
            self.path.unlink()
            if self.is_new:
                with suppress(OSError):  # it has something in it
                    self.folder.rmdir()
        self.file.close()


def _removed(folder: Path) -> str:
    return (
        f"output_dir must stay where it is while a run writes there, got '{folder}' removed or "
        "replaced; put it back, or give the same command to start again"
    )


def _holder(path: Path) -> str:
    try:
        facts = json.loads(path.read_text())
        return f"process {facts['pid']} on {facts['host']} (since {facts['started']})"
    except (OSError, ValueError, KeyError, TypeError):  # it writes them after it has the lock
        return "another process"


@contextmanager
def held(folder: Path) -> Iterator[Lock]:
    """Holds the lock of a folder, and says in a sentence what its disk refuses.

    Raises:
        InputError: If another process holds it, the disk is full, the folder may not be written or
            was removed.
    """
    try:
        lock = Lock(folder)
        try:
            yield lock
        finally:
            lock.release()
    except OSError as error:
        sentence = _sentence(error, folder)
        if sentence is None:
            raise
        raise InputError(sentence) from error


def _sentence(error: OSError, folder: Path) -> str | None:
    """What a failed system call says of the run's folder; none if it is of something else."""
    name = error.filename
    inside = isinstance(name, str) and folder.absolute() in Path(name).absolute().parents
    if error.errno in FULL:
        return (
            f"output_dir needs room to write in, got '{folder}' on a full disk or at its quota "
            f"({error.strerror}); what was saved before is whole: make room and give the same "
            "command"
        )
    if error.errno == errno.ENOENT and inside and not folder.exists():
        return _removed(folder)
    if error.errno in UNUSABLE and (inside or name is None or Path(name) == folder):
        return (
            f"output_dir must be a folder that can be written, got '{folder}' ({error.strerror}); "
            "what was saved before is whole: put that right and give the same command"
        )
    return None

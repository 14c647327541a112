"""A folder that one run writes: locked, swapped whole, and refused in a sentence."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import pytest

from stylex import folders
from stylex.artifacts import PARTIAL
from stylex.errors import InputError
from stylex.folders import LOCK_FILE, Lock, clear_partial, held, replacing_folder


def written(path: Path, text: str) -> None:
    with replacing_folder(path) as folder:
        (folder / "one").write_text(text)
        (folder / "two").write_text(text)


def content(path: Path) -> set[str]:
    return {file.read_text() for file in path.iterdir()}


# Folders replaced whole --------------------------------------------------------------------------


def test_a_folder_is_replaced_as_a_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    written(tmp_path / "best", "old")
    written(tmp_path / "best", "new")

    assert content(tmp_path / "best") == {"new"}
    assert os.listdir(tmp_path) == ["best"]


def test_an_error_inside_the_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path / "best", "old")

    def write_half() -> None:
        with replacing_folder(tmp_path / "best") as folder:
            (folder / "one").write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()

    assert content(tmp_path / "best") == {"old"}
    assert os.listdir(tmp_path) == ["best"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_process_killed_between_two_renames_never_mixes_and_the_next_one_repairs(
    tmp_path: Path, renames: int
) -> None:
    written(tmp_path / "best", "old")
    child = os.fork()
    if not child:
        calls, real = [0], Path.rename

        def rename(path: Path, target: Path) -> Path:
            if calls[0] == renames:
                os.kill(os.getpid(), signal.SIGKILL)
            calls[0] += 1
            return real(path, target)

        try:
            Path.rename = rename  # type: ignore[method-assign]
            folders.sync = lambda _: None if calls[0] < 2 else os.kill(os.getpid(), 9)
            written(tmp_path / "best", "new")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    clear_partial(tmp_path)

    assert content(tmp_path / "best") == {"new" if renames == 2 else "old"}
    assert os.listdir(tmp_path) == ["best"]


def test_only_what_was_half_written_is_cleared(tmp_path: Path) -> None:
    for name in (f"{PARTIAL}model.safetensors.abc", "mine.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / f"{PARTIAL}best.xyz").mkdir()

    clear_partial(tmp_path)

    assert sorted(os.listdir(tmp_path)) == [".hidden", "mine.txt"]


# The lock ----------------------------------------------------------------------------------------


def test_a_held_folder_is_refused_with_its_holder_and_free_again_afterwards(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    with held(folder):
        facts = json.loads((folder / LOCK_FILE).read_text())
        assert facts["pid"] == os.getpid()
        sentence = rf"one run's alone, got '.*run', which process {os.getpid()} on .* is writing"
        with pytest.raises(InputError, match=sentence):
            Lock(folder)
    with held(folder):
        (folder / "file").touch()

    assert os.listdir(folder) == ["file"]


def test_a_folder_that_got_nothing_goes_and_one_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with held(tmp_path / name):
            pass

    assert os.listdir(tmp_path) == ["there"]


def test_the_lock_of_a_killed_process_blocks_nobody_not_even_with_children_alive(
    tmp_path: Path,
) -> None:
    child = os.fork()
    if not child:
        lock = Lock(tmp_path)
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        (tmp_path / "locked").write_text(str(lock.holds()))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "locked").read_text() == "True"
    assert (tmp_path / LOCK_FILE).is_file()

    with held(tmp_path) as lock:
        assert lock.holds()


def test_a_lock_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        lock = Lock(tmp_path)
        os.write(writing, b"held" if lock.holds() else b"lost")
        time.sleep(60)
        os._exit(0)
    assert os.read(reading, 4) == b"held"
    with pytest.raises(InputError, match=f"which process {child} on"):
        Lock(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)

    Lock(tmp_path).release()


def test_a_file_system_without_locks_is_said_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)

    with held(tmp_path):
        (tmp_path / "file").touch()

    assert "has no locks (No locks available): see to it" in caplog.text


def test_a_folder_that_was_removed_or_replaced_is_no_longer_held(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    lock = Lock(folder)
    lock.check()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="output_dir must stay where it is .*run' removed or re"):
        lock.check()
    folder.mkdir()
    (folder / LOCK_FILE).touch()
    with pytest.raises(InputError, match="removed or replaced"):
        lock.check()
    lock.release()
    assert (folder / LOCK_FILE).is_file()  # it is not the run's


# What a disk refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "named", "sentence"),
    [
        (errno.ENOSPC, False, "needs room to write in, got '.*' on a full disk or at its quota"),
        (errno.EDQUOT, False, "needs room to write in"),
        (errno.EFBIG, False, "needs room to write in"),
        (errno.EACCES, True, "must be a folder that can be written, got '.*' .Permission denied"),
        (errno.EROFS, True, "must be a folder that can be written, got '.*' .Read-only"),
        (errno.EIO, False, "must be a folder that can be written, got '.*' .Input/output error"),
    ],
)
def test_what_the_disk_refuses_is_one_sentence(
    tmp_path: Path, code: int, named: bool, sentence: str
) -> None:
    def fail() -> None:
        with held(tmp_path / "run"):
            name = (str(tmp_path / "run" / "file"),) if named else ()
            raise OSError(code, os.strerror(code), *name)

    with pytest.raises(InputError, match=sentence):
        fail()


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.ECONNRESET])
def test_what_is_not_of_the_folder_stays_what_it_is(tmp_path: Path, code: int) -> None:
    def fail() -> None:
        with held(tmp_path / "run"):
            raise OSError(code, os.strerror(code), "/elsewhere")

    with pytest.raises(OSError, match=os.strerror(code)):
        fail()

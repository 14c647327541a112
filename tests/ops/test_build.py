"""The kernels' library is built once, whole or not at all, and says what went wrong.

A toolkit of shell scripts stands in for CUDA's, except where the real kernels are compiled.
"""

import fcntl
import importlib
import os
import pkgutil
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stylex import ops
from stylex.ops import build
from stylex.ops.build import CSRC, BuildError, digest, first_error, load, plan
from stylex.ops.toolkit import find_toolkit

ROOT = Path(__file__).parents[2]
LOAD = "import sys; from pathlib import Path; from stylex.ops.build import load; "
LOAD += "print(load(Path(sys.argv[1])))"
needs_cuda_torch = pytest.mark.skipif(
    torch.version.cuda is None, reason="torch is not built for CUDA"
)


@pytest.fixture
def builds(fake_toolkit: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Nothing is compiled or loaded: a build is an empty file; gives the folders it is made in."""
    made: list[Path] = []

    def compile_nothing(planned: build.Plan, work: Path) -> None:
        made.append(work)
        (work / planned.library.name).touch()

    monkeypatch.setattr(build, "_compile", compile_nothing)
    monkeypatch.setattr(build, "_load", lambda library: library)
    return made


def start(folder: Path) -> "subprocess.Popen[str]":
    """A process that loads the library; it sees what the test's environment says."""
    command = [sys.executable, "-c", LOAD, str(folder)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def hold(lock: Path, note: str) -> "subprocess.Popen[str]":
    """Another process that holds a lock until its input is closed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(note)
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held');"
    code += " sys.stdout.flush(); sys.stdin.read()"
    pipe = subprocess.PIPE
    command = [sys.executable, "-S", "-c", code, str(lock)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


# The digest


def test_the_digest_changes_with_every_ingredient_and_with_nothing_else(
    fake_toolkit: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def now(targets: tuple[str, ...] = ("9.0",)) -> str:
        return digest(sources, find_toolkit(), targets)

    def after(change: Callable[[], object]) -> str:
        change()
        return now()

    nvcc = fake_toolkit / "bin" / "nvcc"
    version = find_toolkit().version
    first = now()
    os.utime(sources / "kernel.cu", (0, 0))
    assert now() == first
    found = [
        first,
        now(("9.0+PTX",)),
        now(("8.0", "9.0")),
        after(lambda: (sources / "kernel.cu").write_text("// altered\n")),
        after(lambda: (sources / "kernel.cuh").write_text("// altered\n")),
        after(lambda: (sources / "bindings.cpp").write_text("// altered\n")),
        after(lambda: (sources / "kernel.cu").rename(sources / "renamed.cu")),
        after(lambda: nvcc.write_text(nvcc.read_text().replace(version, f"{version}9"))),
        after(lambda: monkeypatch.setattr(build, "FLAGS", ("-O0",))),
        after(lambda: monkeypatch.setattr(torch, "__version__", "2.99.0")),
        after(lambda: monkeypatch.setattr(torch.version, "cuda", "13.9")),
        after(lambda: monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "cpython-399")),
    ]
    assert len(set(found)) == len(found)


def test_the_cache_is_torchs_folder_else_among_the_users_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert build.cache_root() == tmp_path / "torch"
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    assert build.cache_root() == tmp_path / "xdg" / "stylex"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build.cache_root() == tmp_path / "home" / ".cache" / "stylex"


# Built once


def test_a_library_is_built_at_first_and_found_later_with_one_line_of_progress(
    builds: list[Path], sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = load(sources)
    build._attempt.cache_clear()  # as a new process

    assert load(sources) == library == plan(sources).library
    assert len(builds) == 1
    assert library.is_file()
    line = r"building the CUDA ops for sm_90\+PTX \(about a minute, once\) \.\.\. done in 0 s\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_an_altered_source_is_built_anew_and_the_old_library_stays(
    builds: list[Path], sources: Path
) -> None:
    old = load(sources)
    (sources / "kernel.cuh").write_text("// altered\n")
    build._attempt.cache_clear()

    new = load(sources)
    assert new != old
    assert old.is_file()
    assert new.is_file()


def test_what_a_killed_build_left_is_cleared_away(builds: list[Path], sources: Path) -> None:
    planned = plan(sources)
    left = planned.folder.with_name(f".{planned.folder.name}.left")
    other = planned.folder.with_name(".ops-another.left")
    for folder in (left, other, planned.folder):
        folder.mkdir(parents=True)
        (folder / "kernel.o").touch()

    load(sources)

    assert planned.library.is_file()
    assert not (planned.folder / "kernel.o").exists()
    assert not left.exists()
    assert other.exists()  # it belongs to another lock


def test_an_interrupted_build_leaves_nothing_behind(
    builds: list[Path], sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(planned: build.Plan, work: Path) -> None:
        (work / planned.library.name).touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "_compile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(sources)
    planned = plan(sources)
    assert [path.name for path in planned.folder.parent.iterdir()] == [
        f"{planned.folder.name}.lock"
    ]

    assert load(sources).is_file()


def test_a_rank_other_than_0_gives_rank_0_a_start_but_builds_if_it_never_comes(
    builds: list[Path], sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert load(sources).is_file()
    assert slept.count(build.HEAD_START_S) == 1

    monkeypatch.setenv("LOCAL_RANK", "0")
    (sources / "kernel.cu").write_text("// altered\n")
    build._attempt.cache_clear()
    assert load(sources).is_file()
    assert slept.count(build.HEAD_START_S) == 1


# The lock


def test_who_waits_says_once_for_whom_and_gives_up_in_time(
    builds: list[Path], sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = plan(sources).beside(".lock")
    holder = hold(lock, "process 4711 on node7 (started 12:34:56)")
    try:
        match = rf"within 0.5 s, got no end of process 4711 on node7 \(started 12:34:56\), .*{lock}"
        with pytest.raises(BuildError, match=match):
            load(sources, timeout_s=0.5)
    finally:
        holder.communicate("")
    waiting = "waiting for process 4711 on node7 (started 12:34:56) that builds the CUDA ops in "
    assert capsys.readouterr().err == f"{waiting}{plan(sources).folder}\n"
    assert not builds


def test_a_lock_whose_holder_was_killed_does_not_hold(builds: list[Path], sources: Path) -> None:
    holder = hold(plan(sources).beside(".lock"), "process 4711 on node7 (started 12:34:56)")
    holder.kill()
    holder.communicate()
    assert load(sources, timeout_s=0.0).is_file()


@pytest.mark.parametrize("fails", [True, False])
def test_who_waited_takes_over_the_result_and_builds_nothing(
    fails: bool, builds: list[Path], sources: Path
) -> None:
    planned = plan(sources)
    lock = planned.beside(".lock")
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def finish() -> None:
            if fails:
                lock.write_text("failed: the CUDA ops must compile, got 'no'")
            else:
                planned.folder.mkdir()
                planned.library.touch()
            fcntl.flock(file, fcntl.LOCK_UN)

        timer = threading.Timer(0.5, finish)
        timer.start()
        if fails:
            with pytest.raises(BuildError, match="^the CUDA ops must compile, got 'no'$"):
                load(sources)
        else:
            assert load(sources) == planned.library
        timer.join()
    assert not builds


# Faults


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("[1/2] nvcc -c k.cu\nk.cu(3): error: identifier 'a' is undefined\n", "k.cu(3): error: "),
        ("a.cpp:1:10: fatal error: b.h: No such file\n", "a.cpp:1:10: fatal error: b.h"),
        ("[2/2] c++\nnvcc fatal   : Unsupported gpu architecture\n", "nvcc fatal   : Unsu"),
        (
            "/usr/bin/ld: cannot find -lcudart\ncollect2: error: ld returned 1",
            "/usr/bin/ld: cannot",
        ),
        ("OSError: /x.so: undefined symbol: run\n", "OSError: /x.so: undefined symbol"),
        ("Traceback:\n  raise RuntimeError(a)\nRuntimeError: odd\n\n", "RuntimeError: odd"),
        ("", "no word"),
    ],
)
def test_the_first_complaint_of_a_log_is_found(log: str, words: str) -> None:
    assert first_error(log).startswith(words)


@needs_cuda_torch
def test_a_failed_build_says_the_compilers_words_the_log_and_the_way_out_and_is_not_tried_again(
    bare: Path,
    make_toolkit: Callable[..., Path],
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "kernel.cu(1): error: this is no kernel"
    root = make_toolkit(bare / "cuda", command=f"echo '{words}'; exit 2")
    monkeypatch.setenv("CUDA_HOME", str(root))
    log = plan(sources).beside(".log")

    expected = f"the CUDA ops must compile, got '{words}'; the whole log is {log}; run "
    expected += "'python -m stylex.doctor', or set ops.impl=reference"
    for _ in range(2):
        with pytest.raises(BuildError, match=f"^{re.escape(expected)}$"):
            load(sources)

    assert words in log.read_text()
    progress = capsys.readouterr().err
    assert progress.count("building the CUDA ops") == 1
    assert progress.endswith("... failed\n")
    assert not plan(sources).folder.exists()


def test_a_library_that_does_not_load_is_named(
    builds: list[Path], sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = load(sources)
    monkeypatch.undo()
    with pytest.raises(BuildError, match=f"library must load, got .*; delete {library.parent} to"):
        build._load(library)


def test_a_cache_that_cannot_be_written_is_named(
    builds: list[Path], sources: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(bare / "file"))
    match = f"must be a folder that can be written .*'{bare}/file.*'; set TORCH_EXTENSIONS_DIR"
    with pytest.raises(BuildError, match=match):
        load(sources)


def test_ninja_is_found_beside_python_when_its_environment_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(
        BuildError, match="ninja must be installed, got none .*; 'pip install ninja"
    ):
        build.find_ninja()

    (tmp_path / "ninja").touch(mode=0o755)
    assert build.find_ninja() == tmp_path / "ninja"


def test_an_operating_system_without_the_ops_is_named(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BuildError, match="need Linux, got win32, where the reference ops are used"):
        plan(sources)


def test_a_folder_without_sources_is_named(bare: Path) -> None:
    with pytest.raises(BuildError, match=f"sources must be in {bare}, got none; install it again"):
        plan(bare)


# Whole processes


@needs_cuda_torch
def test_two_processes_at_once_build_once(fake_toolkit: Path, sources: Path) -> None:
    processes = [start(sources) for _ in range(2)]
    found = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], found
    assert found[0][0] == found[1][0] == f"{plan(sources).library}\n"
    assert sum(progress.count("building") for _, progress in found) == 1


@needs_cuda_torch
def test_a_build_killed_in_the_middle_neither_holds_up_nor_poisons_the_next(
    bare: Path,
    make_toolkit: Callable[..., Path],
    fake_toolkit: Path,
    sources: Path,
) -> None:
    nvcc = fake_toolkit / "bin" / "nvcc"
    script = nvcc.read_text()
    nvcc.write_text(script.replace("*)", f"*) touch {bare}/compiling; sleep 8;"))
    killed = start(sources)
    deadline = time.monotonic() + 60
    while not (bare / "compiling").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)  # its compiler lives on
    killed.wait()
    nvcc.write_text(script)

    following = start(sources)
    found, progress = following.communicate(timeout=60)
    killed.communicate()  # until its compiler has ended too

    planned = plan(sources)
    assert found == f"{planned.library}\n", progress
    assert "waiting" not in progress
    assert "building" in progress
    left = {path.name for path in planned.folder.parent.iterdir()}
    assert left == {
        planned.folder.name,
        f"{planned.folder.name}.lock",
        f"{planned.folder.name}.log",
    }


# The real kernels


@pytest.mark.slow
def test_every_kernel_compiles_for_sm_80_and_sm_90_and_is_registered_for_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    try:
        plan()
    except BuildError as error:
        pytest.skip(str(error))
    names = re.findall(r'm\.impl\(\s*"(?:stylex::)?(\w+)"', (CSRC / "bindings.cpp").read_text())
    modules = [f"stylex.ops.{module.name}" for module in pkgutil.iter_modules(ops.__path__)]
    for module in modules:
        importlib.import_module(module)

    code = f"import torch, {', '.join(modules)}; stylex.ops.build.load(); print([name for name in "
    code += (
        f"{names} if torch._C._dispatch_has_kernel_for_dispatch_key('stylex::' + name, 'CUDA')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert names
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(names)
    assert "for sm_80, sm_90 " in done.stderr

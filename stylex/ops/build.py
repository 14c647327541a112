"""The library of CUDA kernels: built at first use, kept under a digest of all that shapes it.

The kernels are compiled in a process of their own, in a folder of their own that takes its final
name only when the library has been built and loaded there once: a final folder is always whole. A
file lock, which dies with its process, lets one process of a node build while the others wait.
"""

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from stylex.ops.toolkit import (
    REFERENCE,
    BuildError,
    Toolkit,
    architectures,
    check_match,
    find_cudart,
    find_includes,
    find_toolkit,
    gencode,
)

CSRC = Path(__file__).parent / "csrc"
LIBRARY = "stylex_ops"
FLAGS = ("-O3",)
TIMEOUT_S = 600.0
POLL_S = 0.2
HEAD_START_S = 2.0  # of a node's rank 0; whoever takes the lock first builds all the same
FAILED = "failed: "
BUILDER = "import json, sys, torch.utils.cpp_extension as c; c.load(**json.load(sys.stdin))"


@dataclass(frozen=True)
class Plan:
    """What is to be built, and where it will lie.

    Attributes:
        sources: Files to compile.
        toolkit: Compiler of the kernels.
        architectures: What the kernels are compiled for.
        folder: The build's own folder in the cache.
    """

    sources: tuple[Path, ...]
    toolkit: Toolkit
    architectures: tuple[str, ...]
    folder: Path

    @property
    def library(self) -> Path:
        """The shared library; it exists once it is built."""
        return self.folder / f"{LIBRARY}.so"

    def beside(self, suffix: str) -> Path:
        """A file next to the folder, which outlives a failed build."""
        return self.folder.with_name(self.folder.name + suffix)


def load(folder: Path = CSRC, timeout_s: float = TIMEOUT_S) -> Path:
    """Loads the CUDA ops' library into this process, once; builds it first if need be.

    A build that failed is not tried again by the same process.

    Args:
        folder: Sources: `*.cu`, their headers, and `bindings.cpp` that registers the ops.
        timeout_s: How long to wait for another process that builds the same library.

    Returns:
        The library.

    Raises:
        BuildError: If it cannot be built or loaded.
    """
    found = _attempt(folder, timeout_s)
    if isinstance(found, str):
        raise BuildError(found)
    return found


@functools.cache
def _attempt(folder: Path, timeout_s: float) -> Path | str:
    try:
        planned = plan(folder)
        if not planned.library.is_file():
            _build_once(planned, timeout_s)
        return _load(planned.library)
    except BuildError as error:
        return str(error)


def _load(library: Path) -> Path:
    try:
        torch.ops.load_library(library)
    except (OSError, RuntimeError) as error:
        raise BuildError(
            f"the CUDA ops' library must load, got '{error}'; delete {library.parent} to build it "
            f"again, or {REFERENCE}"
        ) from error
    return library


def plan(folder: Path = CSRC) -> Plan:
    """Finds out what would be built and where; builds nothing.

    Raises:
        BuildError: If something that the build needs is missing.
    """
    if sys.platform != "linux":
        raise BuildError(
            f"the CUDA ops need Linux, got {sys.platform}, where the reference ops are used; "
            f"{REFERENCE}"
        )
    sources = tuple(sorted([*folder.glob("*.cu"), *folder.glob("*.cpp")]))
    if not sources:
        raise BuildError(f"the CUDA ops' sources must be in {folder}, got none; install it again")
    toolkit = find_toolkit()
    check_match(toolkit)
    targets = architectures(toolkit.capabilities)
    name = f"ops-{digest(folder, toolkit, targets)}"
    return Plan(sources, toolkit, targets, cache_root() / name)


def digest(folder: Path, toolkit: Toolkit, targets: tuple[str, ...]) -> str:
    """Sixteen hex digits of all that shapes the library."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    facts = [
        *((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files),
        *(FLAGS, targets, torch.__version__, torch.version.cuda, toolkit.version),
        sysconfig.get_config_var("SOABI"),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cache_root() -> Path:
    """Where libraries are kept: TORCH_EXTENSIONS_DIR, else `stylex` among the user's caches."""
    if os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(os.environ["TORCH_EXTENSIONS_DIR"]).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylex"


def find_ninja() -> Path:
    """Ninja on PATH, else beside this Python, whose environment may not be activated.

    Raises:
        BuildError: If it is in neither place.
    """
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("ninja") or shutil.which("ninja", path=scripts)
    if found is None:
        raise BuildError(
            f"ninja must be installed, got none on PATH and in {scripts}; 'pip install ninja'"
        )
    return Path(found)


# One process builds


def _build_once(planned: Plan, timeout_s: float) -> None:
    """Builds unless another process does so first; takes over that one's failure."""
    note = planned.beside(".lock")
    try:
        planned.folder.parent.mkdir(parents=True, exist_ok=True)
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(HEAD_START_S)
        with _locked(planned, timeout_s) as waited:
            if planned.library.is_file():
                return
            said = note.read_text()
            if waited and said.startswith(FAILED):
                raise BuildError(said.removeprefix(FAILED))
            host, started = socket.gethostname(), time.strftime("%H:%M:%S")
            note.write_text(f"process {os.getpid()} on {host} (started {started})")
            try:
                _build(planned)
            except BuildError as error:
                note.write_text(f"{FAILED}{error}")
                raise
    except OSError as error:
        raise BuildError(
            f"the CUDA ops' cache must be a folder that can be written and locked, got '{error}'; "
            "set TORCH_EXTENSIONS_DIR to a local folder"
        ) from error


@contextmanager
def _locked(planned: Plan, timeout_s: float) -> Iterator[bool]:
    """Holds the build's lock, whose file names its holder; says whether it had to wait.

    No child inherits the file, so the lock ends with this process, however it ends.

    Raises:
        BuildError: If another process holds the lock for longer than the time-out.
    """
    import fcntl  # not on Windows, where this module can still say why it builds nothing

    path, waited, deadline = planned.beside(".lock"), False, time.monotonic() + timeout_s
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                said = path.read_text()
                holder = said if said.startswith("process") else "another process"
            if not waited:
                _say(f"waiting for {holder} that builds the CUDA ops in {planned.folder}\n")
            waited = True
            if time.monotonic() > deadline:
                raise BuildError(
                    f"the CUDA ops must be built within {timeout_s:g} s, got no end of {holder}, "
                    f"which holds {path}; end it and start again, or {REFERENCE}"
                )
            time.sleep(POLL_S)
        yield waited


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _build(planned: Plan) -> None:
    """Builds aside and moves the whole folder into place; only the lock's holder may."""
    folder = planned.folder
    prefix = f".{folder.name}."
    for leftover in [folder, *folder.parent.glob(f"{prefix}*")]:  # of killed builds
        shutil.rmtree(leftover, ignore_errors=True)
    targets = ", ".join(f"sm_{entry.replace('.', '')}" for entry in planned.architectures)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    started = time.monotonic()
    _say(f"building the CUDA ops for {targets} (about a minute, once) ...")
    try:
        _compile(planned, work)
        work.chmod(0o755)
        work.rename(folder)
        _say(f" done in {time.monotonic() - started:.0f} s\n")
    except BaseException:
        _say(" failed\n")
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _compile(planned: Plan, work: Path) -> None:
    """Compiles, links and tries to load the library in `work`, all in another process."""
    toolkit = planned.toolkit
    includes = [shlex.quote(str(folder)) for folder in find_includes(toolkit)]
    (work / "libcudart.so").symlink_to(find_cudart(toolkit))  # a wheel's has another name
    arguments = {
        "name": LIBRARY,
        "sources": [str(path) for path in planned.sources],
        "extra_cflags": [*FLAGS, *(f"-idirafter {folder}" for folder in includes)],
        "extra_cuda_cflags": [*FLAGS, *gencode(planned.architectures)],
        "extra_ldflags": [f"-L{shlex.quote(str(work))}"],
        "build_directory": str(work),
        "with_cuda": True,
        "is_python_module": False,
    }
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(find_ninja().parent)])
    log = planned.beside(".log")
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-c", BUILDER],
            input=json.dumps(arguments),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "PATH": path, "CUDA_HOME": str(toolkit.root)},
        )
    if done.returncode != 0:
        words = first_error(log.read_text(errors="replace"))
        raise BuildError(
            f"the CUDA ops must compile, got '{words}'; the whole log is {log}; run "
            f"'python -m stylex.doctor', or {REFERENCE}"
        )


def first_error(log: str) -> str:
    """The line in which a compiler, linker or loader first complains, else the last one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    pattern = r"\berror: |error\s+:|nvcc fatal|cannot find -l|undefined (reference|symbol)"
    return next((line for line in lines if re.search(pattern, line)), (lines or ["no word"])[-1])

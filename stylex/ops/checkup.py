"""What the CUDA ops need, looked at piece by piece; nothing is built but a one-line probe."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from stylex.ops import build, toolkit
from stylex.ops.toolkit import REFERENCE, BuildError, Toolkit

NEED_NVCC = ("CUDA version", "CUDA headers", "libcudart", "compiling", "targets", "ops library")
Mark = Literal["ok", "warning", "missing", "skipped", "fault"]
PROBE = "#include <cuda_runtime_api.h>\n#include <vector>\n__global__ void probe() {}\n"


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Attributes:
        name: What was looked at.
        mark: `missing` if the CUDA ops cannot do without it, `skipped` if an earlier fault left
            nothing to look at, `fault` if a classifier cannot be explained with it.
        text: What was found.
        remedy: What puts it right; empty if nothing is wrong.
    """

    name: str
    mark: Mark
    text: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Looks at everything, from Python to the GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's reasons for seeing no GPU become a finding
        return _examine()


def _examine() -> list[Finding]:
    findings = [
        Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})"),
        look("torch", torch_build),
        look("GPU", gpus),
        look("torch headers", torch_headers),
        look("ninja", lambda: str(build.find_ninja())),
        look("C++ compiler", compiler),
        look("cache folder", cache),
    ]
    try:
        found = toolkit.find_toolkit()
    except BuildError as error:
        return [*findings, fault("nvcc", error), *_skipped("it needs nvcc", *NEED_NVCC)]
    findings += [
        Finding("nvcc", "ok", nvcc(found)),
        look("CUDA version", lambda: versions(found)),
        look("CUDA headers", lambda: ", ".join(map(str, toolkit.find_includes(found)))),
        look("libcudart", lambda: str(toolkit.find_cudart(found))),
        look("compiling", lambda: probe(found)),
        architectures(found),
    ]
    if any(f.mark == "missing" for f in findings if f.name != "GPU"):
        return [*findings, *_skipped("what is missing comes first", "ops library")]
    return [*findings, look("ops library", library)]


def look(name: str, at: Callable[[], str]) -> Finding:
    """Good news in the words of `at`, or the fault that it raises."""
    try:
        return Finding(name, "ok", at())
    except BuildError as error:
        return fault(name, error)


def fault(name: str, error: BuildError) -> Finding:
    """A sentence of the form "rule, got value; remedy", taken apart."""
    text, _, remedy = str(error).rpartition("; ")
    return Finding(name, "missing", text, remedy)


def _skipped(reason: str, *names: str) -> list[Finding]:
    return [Finding(name, "skipped", f"not looked at, because {reason}") for name in names]


# torch and the computer


def torch_build() -> str:
    """Version of torch, and of the CUDA that it was built for."""
    if torch.version.cuda is None:
        raise BuildError(
            f"torch must be built for CUDA, got {torch.__version__}, which is not; install one of "
            f"the CUDA builds of pytorch.org, or {REFERENCE}"
        )
    return f"{torch.__version__}, built for CUDA {torch.version.cuda}"


def torch_headers() -> str:
    """Folder of torch's C++ headers."""
    folder = Path(torch.__file__).parent / "include"
    if not (folder / "torch" / "library.h").is_file():
        raise BuildError(
            f"torch's headers must be installed, got no torch/library.h in {folder}; install torch "
            "with pip"
        )
    return str(folder)


def compiler() -> str:
    """The host's C++ compiler, as torch takes it."""
    name = os.environ.get("CXX", "c++")
    path = shutil.which(name)
    if path is None:
        raise BuildError(
            f"a C++ compiler must be installed, got no '{name}' on PATH; install g++, or set CC "
            "and CXX to a compiler"
        )
    return f"{path}: {_run(path, '--version').partition(chr(10))[0]}"


def cache() -> str:
    """The folder that built libraries are kept in, though it need not exist yet."""
    root = build.cache_root()
    parent = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=parent):
            return str(root)
    except OSError as error:
        raise BuildError(
            f"the cache must be a folder that can be written, got '{error}'; set "
            "TORCH_EXTENSIONS_DIR to another"
        ) from error


def gpus() -> str:
    """Name, compute capability and memory of every GPU, and the driver."""
    if not torch.cuda.is_available():
        reason, remedy = _why_no_gpu()
        raise BuildError(f"a GPU must be visible to torch, got none: {reason}; {remedy}")
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    texts = [f"{p.name} ({p.major}.{p.minor}, {p.total_memory / 2**30:.0f} GiB)" for p in found]
    return f"{', '.join(texts)}, driver {_driver() or 'of unknown version'}"


def _why_no_gpu() -> tuple[str, str]:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} knows no CUDA", "install torch for CUDA first"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        value = os.environ["CUDA_VISIBLE_DEVICES"]
        return f"CUDA_VISIBLE_DEVICES='{value}' hides them all", "unset CUDA_VISIBLE_DEVICES"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (
            "no NVIDIA driver is installed (no libcuda.so.1)",
            f"install NVIDIA's driver for CUDA {torch.version.cuda}, or start the container with "
            "'--gpus all'",
        )
    try:
        torch.cuda.init()
    except RuntimeError as error:
        words = re.split(r"\. |\n", str(error))[0].replace(";", ",")
        driver = f"driver {_driver()}" if _driver() else "nvidia-smi does not answer"
        return (
            f"torch says '{words}' ({driver})",
            f"run nvidia-smi, and install a driver for CUDA {torch.version.cuda} if it is older",
        )
    return "torch counts none", "run nvidia-smi to see whether the driver lists one"


def _driver() -> str:
    """The driver's version; empty if nvidia-smi does not say."""
    if shutil.which("nvidia-smi") is None:
        return ""
    words = _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    return words[0] if words and re.fullmatch(r"[\d.]+", words[0]) else ""


# The toolkit


def nvcc(found: Toolkit) -> str:
    """The compiler that was found, its version, and where it really lies."""
    real = "" if found.found.resolve() == found.nvcc else f", which runs {found.nvcc}"
    return f"{found.found}: {found.version}{real}"


def versions(found: Toolkit) -> str:
    """That nvcc and torch are of one CUDA."""
    toolkit.check_match(found)
    return f"nvcc {found.version} fits torch's {torch.version.cuda}"


def probe(found: Toolkit) -> str:
    """Has nvcc compile one line, which shows whether it accepts the host's compiler."""
    host = ["-ccbin", os.environ["CC"]] if "CC" in os.environ else []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cu"
        source.write_text(PROBE)
        command = [str(found.nvcc), *host, "-c", str(source), "-o", f"{folder}/probe.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"nvcc must compile a line, got '{build.first_error(done.stderr + done.stdout)}'; set "
            f"CC and CXX to a C++ compiler that CUDA {found.version} accepts"
        )
    return "nvcc and the C++ compiler work together"


def architectures(found: Toolkit) -> Finding:
    """What the kernels are compiled for, and whether the environment's list is heeded."""
    try:
        visible = toolkit.visible_gpus()
        entries, ignored = toolkit.read_list(found.capabilities, visible)
        if ignored:
            return Finding("targets", "warning", ignored, "unset it, or list the GPUs' own")
        chosen = entries or toolkit.architectures(found.capabilities)
        return Finding("targets", "ok", f"compute capability {', '.join(chosen)}")
    except BuildError as error:
        return fault("targets", error)


def library() -> str:
    """Whether this very library is built already."""
    planned = build.plan()
    if planned.library.is_file():
        return f"built: {planned.library}"
    log = planned.beside(".log")
    unfinished = f" (an unfinished build left {log})" if log.is_file() else ""
    return f"not built yet; built at first use on CUDA, about a minute{unfinished}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout

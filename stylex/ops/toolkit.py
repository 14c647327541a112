"""The CUDA toolkit of this computer: where it really lies, and what it is to compile for.

Nothing is built here, and the environment is read but never changed.
"""

import importlib.util
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stylex.errors import InputError

LOGGER = logging.getLogger("stylex.ops")
REFERENCE = "set ops.impl=reference"
USUAL_PLACE = Path("/usr/local/cuda")
DEFAULT_ARCHITECTURE = "9.0+PTX"
# That c10's and ATen's CUDA headers include; a small toolkit has only the first.
HEADERS = ("cuda_runtime_api.h", "cublas_v2.h", "cusparse.h", "cusolver_common.h")

Capability = tuple[int, int]


class BuildError(InputError):
    """The CUDA ops cannot be built or loaded: what failed, in whose words, and the way out."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit whose compiler runs.

    Attributes:
        found: The nvcc that was found, perhaps a wrapper.
        root: The toolkit's real folder.
        version: Of nvcc, such as 13.0.88.
        capabilities: Compute capabilities that nvcc compiles for.
    """

    found: Path
    root: Path
    version: str
    capabilities: tuple[Capability, ...]

    @property
    def nvcc(self) -> Path:
        """The compiler itself."""
        return self.root / "bin" / "nvcc"

    @property
    def major(self) -> str:
        """CUDA's major version."""
        return self.version.partition(".")[0]


def find_toolkit() -> Toolkit:
    """Finds CUDA_HOME's or CUDA_PATH's toolkit, else that of nvcc on PATH, else a usual place's.

    Raises:
        BuildError: If there is none.
    """
    looked = []
    for place, nvcc in _candidates():
        looked.append(place)
        toolkit = _ask(nvcc) if nvcc.is_file() else None
        if toolkit is not None:
            return toolkit
    raise BuildError(
        f"nvcc must be installed, got none that runs in {', '.join(looked)}; install CUDA toolkit "
        f"{torch.version.cuda or ''} and set CUDA_HOME to its folder, or {REFERENCE}"
    )


def check_match(toolkit: Toolkit) -> None:
    """Makes sure that nvcc and torch are of the same CUDA, up to the minor version.

    Raises:
        BuildError: If they are not.
    """
    ours = torch.version.cuda
    if ours is None:
        raise BuildError(
            f"torch must be built for CUDA, got {torch.__version__}, which is not; install torch "
            f"for CUDA {toolkit.major}, or {REFERENCE}"
        )
    if ours.partition(".")[0] != toolkit.major:
        raise BuildError(
            f"nvcc must be of torch's CUDA {ours}, got {toolkit.version} in {toolkit.root}; "
            f"install CUDA toolkit {ours} and set CUDA_HOME to its folder, or {REFERENCE}"
        )


def _candidates() -> Iterator[tuple[str, Path]]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            folder = os.environ[variable]
            yield f"{variable}={folder}", Path(folder) / "bin" / "nvcc"
    yield "PATH", Path(shutil.which("nvcc") or "nvcc-not-on-path")
    yield str(USUAL_PLACE), USUAL_PLACE / "bin" / "nvcc"
    for wheel in _wheels():
        yield str(wheel), wheel / "bin" / "nvcc"


def _ask(nvcc: Path) -> Toolkit | None:
    """Asks nvcc itself, since a wrapper's folder says nothing; none if it does not run."""
    try:
        version = re.search(r"release [\d.]+, V([\d.]+)", _output(nvcc, "--version"))
        home = re.search(r"_HERE_=(.+)", _output(nvcc, "--dryrun", "-x", "cu", os.devnull))
        listed = re.findall(r"compute_(\d+)(\d)\b", _output(nvcc, "--list-gpu-arch"))
    except (OSError, subprocess.TimeoutExpired):
        return None
    if version is None:
        return None
    folder = Path(home[1].strip()) if home else nvcc.resolve().parent
    capabilities = sorted((int(major), int(minor)) for major, minor in listed)
    return Toolkit(nvcc, folder.resolve().parent, version[1], tuple(capabilities))


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def _wheels() -> list[Path]:
    """Folders of NVIDIA's Python wheels: all of CUDA 13 in one, of CUDA 12 one per library."""
    spec = importlib.util.find_spec("nvidia")
    roots = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    this = f"cu{(torch.version.cuda or '').partition('.')[0]}"
    folders = [folder for root in roots for folder in sorted(Path(root).iterdir())]
    return [f for f in folders if f.name == this or not re.fullmatch(r"cu\d+", f.name)]


# Headers and the runtime library


def find_includes(toolkit: Toolkit) -> list[Path]:
    """Folders of the CUDA headers, the toolkit's before those of NVIDIA's wheels.

    Raises:
        BuildError: If the runtime's header is in none.
    """
    folders = [toolkit.root / "include", *sorted(toolkit.root.glob("targets/*/include"))]
    folders += [wheel / "include" for wheel in _wheels()]
    found = {name: [f for f in folders if (f / name).is_file()] for name in HEADERS}
    if not found[HEADERS[0]]:
        raise BuildError(_not_found(HEADERS[0], folders))
    return list(dict.fromkeys(places[0] for places in found.values() if places))


def find_cudart(toolkit: Toolkit) -> Path:
    """The CUDA runtime library, beside nvcc or in NVIDIA's wheel.

    Raises:
        BuildError: If it is in none of the places.
    """
    root = toolkit.root
    folders = [root / "lib64", *sorted(root.glob("targets/*/lib")), root / "lib"]
    folders += [wheel / "lib" for wheel in _wheels()]
    for folder in folders:
        for name in ("libcudart.so", f"libcudart.so.{toolkit.major}"):
            if (folder / name).is_file():
                return folder / name
    raise BuildError(_not_found("libcudart.so", folders))


def _not_found(name: str, folders: list[Path]) -> str:
    places = ", ".join(str(f) for f in folders if f.is_dir()) or str(folders[0])
    return (
        f"{name} must be installed, got none in {places}; install the wheel nvidia-cuda-runtime "
        f"(of CUDA {torch.version.cuda}), or {REFERENCE}"
    )


# Architectures


def architectures(supported: Sequence[Capability]) -> tuple[str, ...]:
    """What to compile for: TORCH_CUDA_ARCH_LIST if valid, else the visible GPUs, else 9.0+PTX.

    Args:
        supported: Compute capabilities that nvcc compiles for.

    Raises:
        BuildError: If nvcc no longer compiles for a visible GPU.
    """
    visible = visible_gpus()
    entries, fault = read_list(supported, visible)
    if fault:
        LOGGER.warning("%s", fault)
    elif entries:
        return entries
    found = tuple(dict.fromkeys(_compilable(gpu, supported) for gpu in visible))
    return found or (DEFAULT_ARCHITECTURE,)


def visible_gpus() -> list[Capability]:
    """Compute capabilities of the GPUs that torch can use."""
    if not torch.cuda.is_available():
        return []
    return sorted(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))


def read_list(
    supported: Sequence[Capability], visible: Sequence[Capability]
) -> tuple[tuple[str, ...], str]:
    """Entries of TORCH_CUDA_ARCH_LIST, and why they are ignored if they are.

    Every entry must be one that nvcc knows, and every visible GPU must be able to run one.
    """
    text = os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip("; ")
    if text in ("", "native"):
        return (), ""
    entries = tuple(dict.fromkeys(re.split(r"[;\s]+", text)))
    wrong = [entry for entry in entries if _parse(entry) not in supported]
    idle = [gpu for gpu in visible if not any(_runs(entry, gpu) for entry in entries)]
    fault = f"TORCH_CUDA_ARCH_LIST='{text}' is ignored, because "
    if wrong:
        return entries, f"{fault}nvcc does not know {', '.join(wrong)}"
    if idle:
        return entries, f"{fault}a GPU of compute capability {_dotted(idle[0])} can run none of it"
    return entries, ""


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"


def _parse(entry: str) -> Capability | None:
    """Compute capability of X.Y, X.Y+PTX, X.Ya or X.Ya+PTX; the letter only from 9.0 on."""
    match = re.fullmatch(r"(\d+)\.(\d)(a?)(\+PTX)?", entry)
    if match is None:
        return None
    capability = int(match[1]), int(match[2])
    return None if match[3] and capability < (9, 0) else capability


def _runs(entry: str, gpu: Capability) -> bool:
    """Machine code serves its own generation, PTX every later one, the letter one GPU only."""
    capability = _parse(entry)
    if capability is None or capability > gpu:
        return False
    if "a" in entry:
        return capability == gpu
    return capability[0] == gpu[0] or entry.endswith("+PTX")


def _compilable(gpu: Capability, supported: Sequence[Capability]) -> str:
    if gpu in supported:
        return _dotted(gpu)
    older = [capability for capability in supported if capability < gpu]
    if not older:
        raise BuildError(
            f"a GPU must have a compute capability that nvcc knows, got {_dotted(gpu)}; hide it "
            f"with CUDA_VISIBLE_DEVICES, install torch and nvcc of an older CUDA, or {REFERENCE}"
        )
    return f"{_dotted(max(older))}+PTX"


def gencode(entries: Sequence[str]) -> list[str]:
    """Flags of nvcc for the architectures; with them torch adds none of its own."""
    flags = []
    for entry in entries:
        number = entry.removesuffix("+PTX").replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if entry.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags

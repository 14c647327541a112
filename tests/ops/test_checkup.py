"""Every fault that keeps the CUDA ops from running is found, named and given its remedy."""

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stylex.ops import build, checkup
from stylex.ops.checkup import Finding, examine


@pytest.fixture
def computer(fake_toolkit: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer on which nothing is missing, with one GPU; gives an empty folder."""
    scripts = bare / "scripts"
    scripts.mkdir()
    for name, answer in [("ninja", "1.13"), ("nvidia-smi", "580.65.06"), ("c++", "c++ 12.2.0")]:
        (scripts / name).write_text(f"#!/bin/sh\necho {answer}\n")
        (scripts / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpu = SimpleNamespace(name="NVIDIA H100", major=9, minor=0, total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (9, 0))
    return bare


def finding(name: str) -> Finding:
    (found,) = [f for f in examine() if f.name == name]
    return found


def only_fault() -> Finding:
    (found,) = [f for f in examine() if f.mark not in ("ok", "skipped")]
    return found


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    which = shutil.which

    def seek(name: str, path: str | None = None) -> str | None:
        return None if name in names else which(name, path=path)

    monkeypatch.setattr(shutil, "which", seek)


def test_where_nothing_is_missing_every_finding_is_ok(computer: Path) -> None:
    found = {f.name: f for f in examine()}
    assert {f.mark for f in found.values()} == {"ok"}
    assert found["GPU"].text == "NVIDIA H100 (9.0, 80 GiB), driver 580.65.06"
    assert found["C++ compiler"].text == f"{computer}/scripts/c++: c++ 12.2.0"
    assert found["targets"].text == "compute capability 9.0"
    assert not any(f.remedy for f in found.values())


def test_looking_leaves_nothing_behind(computer: Path) -> None:
    examine()
    assert not build.cache_root().exists()


# torch and the computer


def test_a_torch_without_cuda_is_found(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {f.name: f for f in examine() if f.mark == "missing"}
    assert list(found) == ["torch", "GPU", "CUDA version"]
    assert found["torch"].text.startswith("torch must be built for CUDA, got ")
    assert found["torch"].remedy.startswith("install one of the CUDA builds of pytorch.org")
    assert "knows no CUDA" in found["GPU"].text


def test_torch_without_headers_is_found(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__file__", str(computer / "torch" / "__init__.py"))
    found = only_fault()
    assert found.name == "torch headers"
    assert f"got no torch/library.h in {computer}/torch/include" in found.text
    assert found.remedy == "install torch with pip"


def test_a_missing_ninja_is_found(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "ninja")
    assert (only_fault().name, only_fault().remedy) == ("ninja", "'pip install ninja'")


@pytest.mark.parametrize("variable", [None, "odd++"])
def test_a_missing_compiler_is_found(
    variable: str | None, computer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("CXX", variable)
    hide(monkeypatch, variable or "c++")
    found = only_fault()
    assert found.name == "C++ compiler"
    assert f"got no '{variable or 'c++'}' on PATH" in found.text
    assert found.remedy == "install g++, or set CC and CXX to a compiler"


def test_a_cache_that_cannot_be_written_is_found(
    computer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (computer / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(computer / "file"))
    found = only_fault()
    assert found.name == "cache folder"
    assert f"{computer}/file" in found.text
    assert found.remedy == "set TORCH_EXTENSIONS_DIR to another"


def no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def no_driver_of_this_age() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020). Please;")


@pytest.mark.parametrize(
    ("visible", "driver", "start", "reason", "remedy"),
    [
        ("", str, str, "CUDA_VISIBLE_DEVICES='' hides them all", "unset CUDA_VISIBLE_DEVICES"),
        ("-1", str, str, "CUDA_VISIBLE_DEVICES='-1' hides", "unset CUDA_VISIBLE_DEVICES"),
        ("0", no_library, str, "no NVIDIA driver is installed", "install NVIDIA's driver for CUDA"),
        (
            "0",
            str,
            no_driver_of_this_age,
            "'The NVIDIA driver on your system is too old (found version 12020)' (driver 580.65.06",
            "run nvidia-smi, and install a driver for CUDA",
        ),
        ("0", str, str, "torch counts none", "run nvidia-smi to see"),
    ],
)
def test_without_a_gpu_the_very_reason_is_given(
    visible: str,
    driver: Callable[[str], object],
    start: Callable[[], object],
    reason: str,
    remedy: str,
    computer: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(ctypes, "CDLL", driver)
    monkeypatch.setattr(torch.cuda, "init", start)
    found = only_fault()
    assert found.name == "GPU"
    assert found.text.startswith("a GPU must be visible to torch, got none: ")
    assert reason in found.text
    assert found.remedy.startswith(remedy)


def test_a_driver_that_does_not_answer_is_no_fault_of_the_ops(computer: Path) -> None:
    (computer / "scripts" / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\n")
    assert finding("GPU").text.endswith("driver of unknown version")


# The toolkit


def test_without_nvcc_what_needs_it_is_skipped(
    computer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(computer / "nowhere"))
    hide(monkeypatch, "nvcc")
    found = only_fault()
    assert found.name == "nvcc"
    assert f"got none that runs in CUDA_HOME={computer}/nowhere, PATH, " in found.text
    assert found.remedy.startswith("install CUDA toolkit ")
    skipped = [f for f in examine() if f.mark == "skipped"]
    assert [f.name for f in skipped] == list(checkup.NEED_NVCC)
    assert {f.text for f in skipped} == {"not looked at, because it needs nvcc"}


def test_a_wrappers_real_folder_is_named(
    computer: Path, fake_toolkit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_HOME")
    wrapper = computer / "scripts" / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {fake_toolkit}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    text = finding("nvcc").text
    assert text.startswith(f"{wrapper}: ")
    assert text.endswith(f", which runs {fake_toolkit}/bin/nvcc")


def test_an_nvcc_of_another_cuda_is_found(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "11.8")
    found = only_fault()
    assert found.name == "CUDA version"
    assert found.text.startswith("nvcc must be of torch's CUDA 11.8, got ")
    assert found.remedy.startswith("install CUDA toolkit 11.8 and set CUDA_HOME")


@pytest.mark.parametrize(
    ("path", "name"),
    [("include/cuda_runtime_api.h", "CUDA headers"), ("lib64/libcudart.so", "libcudart")],
)
def test_a_missing_piece_of_the_toolkit_is_found(
    path: str, name: str, computer: Path, fake_toolkit: Path
) -> None:
    (fake_toolkit / path).unlink()
    found = only_fault()
    assert found.name == name
    assert f"got none in {(fake_toolkit / path).parent}" in found.text
    assert found.remedy.startswith("install the wheel nvidia-cuda-runtime (of CUDA ")
    assert finding("ops library").text == "not looked at, because what is missing comes first"


def test_a_compiler_that_nvcc_refuses_is_found(computer: Path, fake_toolkit: Path) -> None:
    nvcc = fake_toolkit / "bin" / "nvcc"
    words = "host_config.h:137:2: error: #error -- unsupported GNU version!"
    nvcc.write_text(nvcc.read_text().replace("*)", f"*) echo '{words}' >&2; exit 1;"))
    found = only_fault()
    assert found.name == "compiling"
    assert found.text == f"nvcc must compile a line, got '{words}'"
    assert found.remedy.startswith("set CC and CXX to a C++ compiler that CUDA ")


def test_a_list_of_architectures_that_is_ignored_is_a_warning(
    computer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "5.0")
    found = only_fault()
    assert (found.name, found.mark) == ("targets", "warning")
    assert found.text.endswith("nvcc does not know 5.0")
    assert found.remedy == "unset it, or list the GPUs' own"


def test_a_gpu_too_old_for_nvcc_is_found(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (7, 0))
    found = only_fault()
    assert (found.name, found.mark) == ("targets", "missing")
    assert found.text.endswith("got 7.0")


# The library


def test_the_library_is_built_or_not_yet_or_was_left_unfinished(computer: Path) -> None:
    soon = "not built yet; built at first use on CUDA, about a minute"
    planned = build.plan()
    assert finding("ops library").text == soon
    planned.folder.mkdir(parents=True)
    planned.beside(".log").touch()
    left = f"{soon} (an unfinished build left {planned.beside('.log')})"
    assert finding("ops library").text == left
    planned.library.touch()
    assert finding("ops library").text == f"built: {planned.library}"

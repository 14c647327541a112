"""A CUDA toolkit of shell scripts, so that everything around the compiler is tested without one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stylex.ops import build, toolkit

NVCC = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release {release}, V{version}" ;;
--dryrun) echo '#$ _HERE_={home}/bin' >&2 ;;
--list-gpu-arch) printf 'compute_75\\ncompute_80\\ncompute_90\\ncompute_120\\n' ;;
*) {command} ;;
esac
"""
# Any kernel becomes an empty object file: `... -c SOURCE -o OBJECT`.
EMPTY_OBJECT = 'for last; do :; done; echo | g++ -fPIC -x c++ -c - -o "$last"'

MakeToolkit = Callable[..., Path]


@pytest.fixture
def make_toolkit() -> MakeToolkit:
    """Writes a toolkit whose compiler only answers questions, if not told to do more."""

    def make(
        root: Path, version: str | None = None, command: str = "exit 1", home: Path | None = None
    ) -> Path:
        version = version or f"{torch.version.cuda or '13.0'}.1"
        for folder in ("bin", "include", "lib64"):
            (root / folder).mkdir(parents=True)
        for header in toolkit.HEADERS:
            (root / "include" / header).touch()
        (root / "lib64" / "libcudart.so").touch()
        script = NVCC.format(
            version=version,
            release=version.rpartition(".")[0],
            home=home or root,
            command=command,
        )
        (root / "bin" / "nvcc").write_text(script)
        (root / "bin" / "nvcc").chmod(0o755)
        return root

    return make


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer without CUDA, GPU and built libraries; gives an empty folder."""
    for name in ("CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST", "LOCAL_RANK", "CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # for processes that a test starts
    monkeypatch.setattr(torch.version, "cuda", torch.version.cuda or "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(toolkit, "USUAL_PLACE", tmp_path / "usual")
    monkeypatch.setattr(toolkit, "_wheels", lambda: [])
    build._attempt.cache_clear()
    return tmp_path


@pytest.fixture
def fake_toolkit(bare: Path, make_toolkit: MakeToolkit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUDA_HOME names a toolkit that turns every kernel into an empty object file."""
    root = make_toolkit(bare / "cuda", command=EMPTY_OBJECT)
    monkeypatch.setenv("CUDA_HOME", str(root))
    return root


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small kernel folder, without torch's headers so that it compiles at once."""
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "kernel.cu").write_text("__global__ void kernel() {}\n")
    (folder / "kernel.cuh").write_text("// shared\n")
    (folder / "bindings.cpp").write_text('extern "C" int answer() { return 42; }\n')
    return folder

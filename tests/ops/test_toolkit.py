"""Which toolkit is found, and what it is told to compile for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stylex.ops import toolkit
from stylex.ops.toolkit import (
    BuildError,
    architectures,
    check_match,
    find_cudart,
    find_includes,
    find_toolkit,
    gencode,
)

MakeToolkit = Callable[..., Path]
SUPPORTED = [(7, 5), (8, 0), (9, 0), (12, 0)]


@pytest.fixture
def empty_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(bare / "nothing"))
    return bare


def see_gpus(monkeypatch: pytest.MonkeyPatch, *capabilities: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capabilities[i])


# Finding it


def test_behind_a_wrapper_on_path_the_real_folder_is_found(
    bare: Path, make_toolkit: MakeToolkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = make_toolkit(bare / "cuda-13.0")
    wrapper = bare / "local" / "bin" / "nvcc"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(f'#!/bin/sh\nexec {real}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:/usr/bin:/bin")

    found = find_toolkit()

    assert (found.found, found.root, found.nvcc) == (wrapper, real, real / "bin" / "nvcc")
    assert found.capabilities == tuple(SUPPORTED)


def test_cuda_home_comes_before_cuda_path_before_path_before_the_usual_place(
    bare: Path, make_toolkit: MakeToolkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {name: make_toolkit(bare / name) for name in ("home", "path", "on_path", "usual")}
    monkeypatch.setenv("CUDA_HOME", str(roots["home"]))
    monkeypatch.setenv("CUDA_PATH", str(roots["path"]))
    monkeypatch.setenv("PATH", f"{roots['on_path'] / 'bin'}:/usr/bin:/bin")

    for name, gone in [("home", "CUDA_HOME"), ("path", "CUDA_PATH")]:
        assert find_toolkit().root == roots[name]
        monkeypatch.delenv(gone)
    assert find_toolkit().root == roots["on_path"]
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (roots["on_path"] / "bin" / "nvcc").unlink()
    assert find_toolkit().root == roots["usual"]


def test_a_toolkit_whose_compiler_does_not_run_is_passed_over(
    bare: Path, make_toolkit: MakeToolkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = make_toolkit(bare / "broken"), make_toolkit(bare / "usual")
    (broken / "bin" / "nvcc").write_bytes(b"\x7fELF of another machine")
    monkeypatch.setenv("CUDA_HOME", str(broken))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(toolkit.shutil, "which", lambda name: None)

    assert find_toolkit().root == whole


def test_without_any_toolkit_the_error_names_every_place(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", "/no/such/folder")
    match = f"got none that runs in CUDA_HOME=/no/such/folder, PATH, {empty_path}/usual; install"
    with pytest.raises(BuildError, match=match):
        find_toolkit()


@pytest.mark.parametrize(
    ("cuda", "match"),
    [
        ("12.8", "nvcc must be of torch's CUDA 12.8, got 13.0.1 in .*; install CUDA toolkit 12.8"),
        (None, "torch must be built for CUDA, got .*, which is not; install torch for CUDA 13"),
    ],
)
def test_nvcc_and_torch_must_be_of_one_cuda(
    cuda: str | None,
    match: str,
    bare: Path,
    make_toolkit: MakeToolkit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(bare / "cuda", version="13.0.1")))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    check_match(find_toolkit())  # minor versions may differ

    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(BuildError, match=match):
        check_match(find_toolkit())


# Headers and the runtime library


def test_the_wheel_gives_only_the_headers_that_the_toolkit_lacks(
    fake_toolkit: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = bare / "nvidia" / "cu13"
    (wheel / "include").mkdir(parents=True)
    for header in toolkit.HEADERS:
        (wheel / "include" / header).touch()
    monkeypatch.setattr(toolkit, "_wheels", lambda: [wheel])
    found = find_toolkit()

    assert find_includes(found) == [fake_toolkit / "include"]
    (fake_toolkit / "include" / "cusparse.h").unlink()
    assert find_includes(found) == [fake_toolkit / "include", wheel / "include"]


def test_without_the_runtimes_header_the_error_says_where_it_looked(fake_toolkit: Path) -> None:
    (fake_toolkit / "include" / "cuda_runtime_api.h").unlink()
    match = f"cuda_runtime_api.h must be installed, got none in {fake_toolkit}/include; install"
    with pytest.raises(BuildError, match=match):
        find_includes(find_toolkit())


@pytest.mark.parametrize(
    "place", ["lib64/libcudart.so", "targets/x86_64-linux/lib/libcudart.so", "lib/libcudart.so"]
)
def test_libcudart_is_found_in_every_layout_of_a_toolkit(place: str, fake_toolkit: Path) -> None:
    (fake_toolkit / "lib64" / "libcudart.so").unlink()
    (fake_toolkit / place).parent.mkdir(parents=True, exist_ok=True)
    (fake_toolkit / place).touch()
    assert find_cudart(find_toolkit()) == fake_toolkit / place


def test_libcudart_is_found_in_the_wheel_which_gives_it_another_name(
    fake_toolkit: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_toolkit / "lib64" / "libcudart.so").unlink()
    with pytest.raises(BuildError, match=f"got none in {fake_toolkit}/lib64; install the wheel"):
        find_cudart(find_toolkit())

    major = (torch.version.cuda or "").partition(".")[0]
    library = bare / "wheel" / "lib" / f"libcudart.so.{major}"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setattr(toolkit, "_wheels", lambda: [bare / "wheel"])
    assert find_cudart(find_toolkit()) == library


# Architectures


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("9.0", ("9.0",)),
        ("8.0;9.0", ("8.0", "9.0")),
        ("8.0 9.0+PTX", ("8.0", "9.0+PTX")),
        (" 8.0; 9.0a ;", ("8.0", "9.0a")),
        ("12.0a+PTX", ("12.0a+PTX",)),
        ("9.0;9.0", ("9.0",)),
        ("", ("9.0+PTX",)),
        ("native", ("9.0+PTX",)),
    ],
)
def test_a_valid_list_of_the_environment_is_followed(
    text: str,
    entries: tuple[str, ...],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", text)
    assert architectures(SUPPORTED) == entries
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("7.0 9.0", "7.0"),
        ("8.6", "8.6"),
        ("9", "9"),
        ("8.0a", "8.0a"),
        ("9.0+ptx", "9.0+ptx"),
        ("sm_90;8.0", "sm_90"),
        ("Hopper", "Hopper"),
        ("8.0,9.0", "8.0,9.0"),
        ("9.0 --use_fast_math", "--use_fast_math"),
    ],
)
def test_an_invalid_list_is_ignored_and_the_log_names_the_entry(
    text: str,
    named: str,
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", text)
    assert architectures(SUPPORTED) == ("9.0+PTX",)
    expected = f"TORCH_CUDA_ARCH_LIST='{text}' is ignored, because nvcc does not know {named}"
    assert caplog.messages == [expected]


@pytest.mark.parametrize(
    ("text", "gpu", "heeded"),
    [
        ("8.0", (8, 9), True),  # machine code serves its own generation
        ("8.0", (9, 0), False),
        ("8.0+PTX", (9, 0), True),
        ("9.0", (8, 0), False),
        ("9.0a", (9, 0), True),
        ("9.0a+PTX", (12, 0), False),  # the letter ties even PTX to one GPU
        ("7.5 9.0", (9, 0), True),
    ],
)
def test_a_list_that_a_visible_gpu_cannot_run_is_ignored(
    text: str,
    gpu: tuple[int, int],
    heeded: bool,
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    see_gpus(monkeypatch, gpu)
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", text)
    found = architectures([*SUPPORTED, (8, 9)])
    assert found == (tuple(text.split()) if heeded else (f"{gpu[0]}.{gpu[1]}",))
    assert ("can run none of it" in caplog.text) is not heeded


def test_without_a_list_every_kind_of_visible_gpu_is_compiled_for_once(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, (9, 0), (8, 0), (9, 0))
    assert architectures(SUPPORTED) == ("8.0", "9.0")


def test_a_gpu_newer_than_nvcc_gets_ptx_of_the_newest_that_nvcc_knows(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, (10, 3))
    assert architectures(SUPPORTED) == ("9.0+PTX",)


def test_a_gpu_older_than_all_that_nvcc_knows_is_an_error(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, (7, 0))
    with pytest.raises(BuildError, match="compute capability that nvcc knows, got 7.0; hide it"):
        architectures(SUPPORTED)


def test_flags_give_machine_code_and_ptx_where_it_is_asked_for() -> None:
    assert gencode(["8.0", "9.0a", "12.0+PTX"]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]

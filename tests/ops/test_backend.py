"""Which implementation runs, and that it is said once."""

import logging
from collections.abc import Iterator

import pytest
import torch

from stylex.ops import backend, build


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    backend._say.cache_clear()
    yield
    backend._say.cache_clear()


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise build.BuildError("nvcc must be there, got none")

    monkeypatch.setattr(build, "load", fail)


def on_cuda(dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(1, dtype=dtype).as_subclass(OnCuda)


def test_auto_on_a_cpu_is_plain_pytorch_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stylex.ops"):
        assert not backend.fused("auto", torch.zeros(1))
        assert not backend.fused("auto", torch.zeros(1))

    assert caplog.messages == ["ops: plain PyTorch, since the tensors are on the CPU"]


def test_reference_is_plain_pytorch_and_fused_the_registered_op_everywhere() -> None:
    assert not backend.fused("reference", on_cuda(torch.float32))
    assert backend.fused("fused", torch.zeros(1))


def test_auto_on_cuda_takes_the_library_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "load", lambda: None)

    with caplog.at_level(logging.INFO, "stylex.ops"):
        assert all(backend.fused("auto", on_cuda(dtype)) for dtype in backend.DTYPES)

    assert caplog.messages == ["ops: fused CUDA kernels, since the tensors are on a GPU"]


@pytest.mark.usefixtures("no_library")
def test_auto_on_cuda_without_the_library_says_why_and_fused_fails_in_the_same_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "stylex.ops"):
        assert not backend.fused("auto", on_cuda(torch.float32))

    assert caplog.messages == [
        "ops: plain PyTorch on CUDA, which is slower, since nvcc must be there, got none"
    ]
    with pytest.raises(build.BuildError, match="nvcc must be there, got none"):
        backend.fused("fused", on_cuda(torch.float32))


def test_a_type_without_a_kernel_is_plain_pytorch_or_refused() -> None:
    assert not backend.fused("auto", on_cuda(torch.float64))
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16, got torch.float64"):
        backend.fused("fused", on_cuda(torch.float64))


@pytest.mark.usefixtures("no_library")
def test_the_compiler_takes_the_answer_as_a_constant() -> None:
    def double_if_available(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if backend.available(False) else x * 3

    compiled = torch.compile(double_if_available, backend="eager", fullgraph=True)

    assert compiled(torch.ones(1)).tolist() == [3.0]

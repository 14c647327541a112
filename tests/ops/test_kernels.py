"""The CUDA kernels' own source, compiled as plain C++ and run thread by thread on the CPU.

It proves indices, tails, layouts, sums and rounding on a computer without a GPU; speed and the
bindings are proved by tests/ops/test_cuda.py where there is one.
"""

import ctypes
import fcntl
import hashlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.ops import convolution, epilogue, modulate, upfirdn2d  # noqa: F401  declares the ops

CSRC = Path(epilogue.__file__).parent / "csrc"
TYPES = (torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
# One unit in the last place of the largest values around 8, where each type rounds the result once.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 8e-3, torch.bfloat16: 6.3e-2}


def headers() -> Path | None:
    """A folder with CUDA's headers, from a toolkit or from the NVIDIA wheels."""
    wheels = sorted(Path(p) / "nvidia" for p in sys.path if (Path(p) / "nvidia").is_dir())
    nvcc = shutil.which("nvcc")
    toolkits = [Path(nvcc).resolve().parent.parent / "include"] if nvcc else []
    toolkits += sorted(Path("/usr/local").glob("cuda*/include"))
    for folder in [*toolkits, *(found for w in wheels for found in sorted(w.glob("*/include")))]:
        if all((folder / name).is_file() for name in ("cuda_fp16.h", "cuda_runtime_api.h")):
            return folder
    return None


class Grid(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int) for n in ("batch", "channels", "height", "width", "last")]


class EpilogueCall(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("grid", Grid),
        ("taps", ctypes.c_void_p),
        ("blur_gain", ctypes.c_float),
        ("demodulation", ctypes.c_void_p),
        ("noise", ctypes.c_void_p),
        ("noise_per_sample", ctypes.c_int),
        ("gain", ctypes.c_float),
        ("slope", ctypes.c_float),
        ("clamp", ctypes.c_float),
    ]


class Upfirdn2dCall(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("input", Grid),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("filter", ctypes.c_void_p),
        *(
            (name, ctypes.c_int)
            for name in (
                *("separable", "flip", "taps_y", "taps_x", "up_y", "up_x", "down_y", "down_x"),
                *("before_y", "before_x"),
            )
        ),
        ("gain", ctypes.c_float),
    ]


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    include = headers()
    if shutil.which("g++") is None or include is None:
        pytest.skip("needs g++ and CUDA's headers (cuda_fp16.h)")
    shared = tmp_path_factory.getbasetemp().parent  # of all workers of one run
    sources = [*CSRC.iterdir(), Path(__file__).with_name("emulation.h")]
    contents = b"".join(path.read_bytes() for path in sorted(sources) if path.is_file())
    library = shared / f"kernels-{hashlib.sha256(contents).hexdigest()[:16]}.so"
    with (shared / "kernels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            kernels = [str(path) for path in sorted(CSRC.glob("*.cu"))]
            includes = ["-I", str(Path(__file__).parent), "-I", str(include)]
            command = ["g++", "-std=c++17", "-O1", "-fPIC", "-shared", *includes, "-x", "c++"]
            subprocess.run([*command, *kernels, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def features(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=layout)


def worst(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()) / 8)
    return float((found.double() - expected.double()).abs().max()) / scale


SHAPES = ((2, 16, 8, 8), (2, 3, 5, 7), (1, 40, 4, 33), (3, 8, 37, 8), (1, 300, 5, 6))
EPILOGUES = [
    pytest.param(shape, dtype, layout, *options, id=f"{shape}-{dtype}-{i}-{options}")
    for (i, layout), shape, dtype in itertools.product(enumerate(LAYOUTS), SHAPES, TYPES)
    for options in ((False,) * 3, (True, True, False), (True,) * 3, (False, True, True))
]


@pytest.mark.parametrize(("shape", "dtype", "layout", "demodulated", "noisy", "blurred"), EPILOGUES)
def test_epilogue_kernels_equal_the_composed_op_and_its_derivatives(
    kernels: ctypes.CDLL,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: torch.memory_format,
    demodulated: bool,
    noisy: bool,
    blurred: bool,
) -> None:
    torch.manual_seed(0)
    b, c, h, w = shape
    taps = torch.tensor([0.1, 0.5, 0.3, 0.2]) if blurred else None
    x = features((b, c, h + blurred, w + blurred), dtype, layout)
    vx = features(x.shape, dtype, layout)
    bias, v_bias = torch.randn(2, c)
    d, vd = torch.randn(2, b, c) if demodulated else (None, None)
    noise = torch.randn(b if shape[0] == 2 else 1, 1, h, w) if noisy else None
    strength, v_strength = torch.randn(2).unbind() if noisy else (None, None)
    numbers = (4.0, 1.4, 2.5)
    call = EpilogueCall(
        TYPES.index(dtype),
        Grid(b, c, h, w, layout == torch.channels_last),
        pointer(taps),
        numbers[0],
        pointer(d),
        pointer(noise),
        noise is not None and len(noise) == b > 1,
        numbers[1],
        0.2,
        numbers[2],
    )
    at = ctypes.byref(call)
    options = (d, noise, taps, *numbers)

    y = features(shape, dtype, layout)
    kernels.epilogue(at, *map(pointer, (x, bias, strength, y)), None)
    expected = torch.ops.stylex.epilogue(x, bias, strength, *options)
    assert worst(y, expected) <= TOLERANCE[dtype]

    gy = features(shape, dtype, layout)
    needed = x if demodulated else None
    gx, partials = (
        torch.empty_like(x),
        torch.full((3, kernels.epilogue_partials(at), b, c), torch.nan),
    )
    kernels.epilogue_vjp(at, *map(pointer, (gy, y, needed, gx, partials)), None)
    sums = partials.sum(dim=1)
    found = torch.ops.stylex.epilogue_vjp(gy, y, needed, *options)
    assert worst(gx, found[0]) <= TOLERANCE[dtype]
    if demodulated:
        assert worst(sums[0], found[1]) <= 1e-4
    assert worst(sums[1].sum(dim=0), found[2]) <= 1e-4
    if noisy:
        assert worst(sums[2].sum(), found[3]) <= 1e-4

    tangent = torch.empty_like(y)
    kernels.epilogue_jvp(at, *map(pointer, (vx, needed, y, vd, v_bias, v_strength, tangent)), None)
    expected = torch.ops.stylex.epilogue_jvp(vx, vd, v_bias, v_strength, y, needed, *options)
    assert worst(tangent, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("before", "after"),
    [*((t, t) for t in TYPES), (torch.float32, torch.bfloat16), (torch.float16, torch.float32)],
)
def test_modulate_kernels_equal_the_composed_op(
    kernels: ctypes.CDLL,
    shape: tuple[int, int, int, int],
    layout: torch.memory_format,
    before: torch.dtype,
    after: torch.dtype,
) -> None:
    torch.manual_seed(0)
    x, gy = features(shape, before, layout), features(shape, after, layout)
    s = torch.randn(shape[:2])
    types = (TYPES.index(before), TYPES.index(after))
    grid = Grid(*shape, layout == torch.channels_last)
    y = torch.empty_like(gy)
    kernels.modulate(grid, *types, *map(pointer, (x, s, y)), None)
    assert worst(y, torch.ops.stylex.modulate(x, s, after)) <= TOLERANCE[after]

    vx, vs, tangent = features(shape, before, layout), torch.randn(shape[:2]), torch.empty_like(gy)
    kernels.modulate_jvp(grid, *types, *map(pointer, (vx, vs, x, s, tangent)), None)
    expected = torch.ops.stylex.modulate_jvp(vx, vs, x, s, after)
    assert worst(tangent, expected) <= TOLERANCE[after]

    gx = torch.empty_like(x)
    partials = torch.full((kernels.modulate_partials(grid, *types), *shape[:2]), torch.nan)
    kernels.modulate_vjp(grid, *types, *map(pointer, (gy, x, s, gx, partials)), None)
    expected = torch.ops.stylex.modulate_vjp(gy, x, s)
    assert worst(gx, expected[0]) <= TOLERANCE[before]
    assert worst(partials.sum(dim=0), expected[1]) <= 1e-4


RESAMPLINGS: list[tuple[Callable[[], Tensor], list[int], list[int], list[int]]] = [
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [1, 1], [1, 1], [2, 2, 2, 2]),
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [1, 1], [2, 2], [1, 1, 1, 1]),
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [2, 2], [1, 1], [2, 1, 2, 1]),
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [1, 1], [1, 1], [-1, 2, 3, -1]),
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [2, 2], [2, 2], [0, 3, 3, 0]),
    (lambda: torch.tensor([0.1, 0.5, 0.3, 0.2]), [4, 4], [1, 1], [3, 2, 3, 2]),
    (lambda: torch.randn(3, 5), [2, 1], [1, 4], [2, -1, 3, 4]),
    (lambda: torch.randn(24), [1, 1], [1, 1], [12, 11, 12, 11]),
    (lambda: torch.randn(24, 1), [2, 1], [1, 1], [12, 11, 0, 0]),
    (lambda: torch.randn(1), [2, 2], [1, 1], [0, 0, 0, 0]),
]  # fmt: skip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("make", "up", "down", "padding"), RESAMPLINGS)
def test_resampling_kernels_equal_the_composed_op(
    kernels: ctypes.CDLL,
    make: Callable[[], Tensor],
    up: list[int],
    down: list[int],
    padding: list[int],
    layout: torch.memory_format,
    dtype: torch.dtype,
    flip: bool,
) -> None:
    torch.manual_seed(0)
    taps = make()
    taps = taps / taps.abs().sum() ** (1 if taps.ndim == 2 else 0.5)
    for channels in (8, 3):
        x = features((2, channels, 9, 12), dtype, layout)
        expected = torch.ops.stylex.upfirdn2d(x, taps, up, down, padding, flip, 1.5)
        y = torch.full_like(expected, torch.nan)
        lengths = (taps.shape[0], taps.shape[-1])
        grid = Grid(*x.shape, layout == torch.channels_last)
        numbers: list[Any] = [*lengths, *up, *down, padding[0], padding[2], 1.5]
        call = Upfirdn2dCall(
            TYPES.index(dtype),
            grid,
            *y.shape[2:],
            pointer(taps),
            taps.ndim == 1,
            not flip,
            *numbers,
        )
        kernels.upfirdn2d(ctypes.byref(call), pointer(x), pointer(y), None)
        assert worst(y, expected) <= TOLERANCE[dtype]

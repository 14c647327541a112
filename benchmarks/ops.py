"""Each op forward, backward and twice backward: fused, plain PyTorch, and that compiled.

    python -m benchmarks.ops [--json PATH] [--quick] [--[no-]compile] [--seconds S]

GB/s count every activation that the maths reads or writes once, whatever an implementation moves;
parameters of a few kilobytes are left out. Beside them stands a copy of the same activation, timed
in the same rounds. Forward: x, noise and y. Backward: the gradients of y and x, y for the
epilogue's mask, x for the gradient of a factor on it, noise. Twice backward is what R1 and path
length add: the derivative of the backward pass for the gradient of y and, where there is a factor,
for x and the factor. A compiled op is one graph with the same inputs and outputs, which computes
what it needs anew from x.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import measurement
from benchmarks.measurement import Clock, Row, Run, device
from stylex.ops.backend import layout
from stylex.ops.convolution import conv2d, conv_transpose2d
from stylex.ops.epilogue import epilogue
from stylex.ops.modulate import modulate
from stylex.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d

ORDERS = ("forward", "backward", "twice backward")
LAYOUTS = {torch.contiguous_format: "NCHW", torch.channels_last: "NHWC"}
NCHW, NHWC = LAYOUTS
LOW, FULL = torch.bfloat16, torch.float32
NAMES = {LOW: "bfloat16", FULL: "float32"}
# Of StyleGAN2 at 256 px; a layer has channels, resolution, channels after, and what it does to it.
SHAPES = [(32, 64, 256, 256), (32, 256, 64, 64), (32, 512, 32, 32)]
LAYERS = [
    *((64, 256, 64, "same"), (128, 128, 128, "same"), (64, 256, 128, "down")),
    *((128, 128, 64, "up"), (256, 64, 256, "same"), (512, 32, 512, "same")),
]
SMALL_SHAPES = [(4, 16, 64, 64), (4, 64, 16, 16)]
SMALL_LAYERS = [(16, 64, 16, "same"), (16, 64, 32, "down"), (32, 32, 16, "up")]
COMPILE_SHARE = 0.6  # of the time, after which nothing more is compiled
COLUMNS = {
    **{"op": "op", "order": "order", "shape": "shape of x", "dtype": "type", "layout": "layout"},
    **{"fused_ms": "fused ms", "reference_ms": "plain ms", "compiled_ms": "compiled ms"},
    **{"gb_per_s": "GB/s", "share_of_copy": "of copy", "gflop_per_s": "GFLOP/s"},
    **{"times_reference": "x plain", "times_compiled": "x compiled", "fault": "fault"},
}


@dataclass(frozen=True)
class Case:
    """An op at a size.

    Attributes:
        op: Its name.
        call: The op of its differentiable inputs, and of `impl`.
        inputs: Those inputs, the activation x first.
        inner: Positions of the inputs for which a penalty differentiates first.
        outer: Positions for which it differentiates then, besides the gradient of y.
        masked: Whether the derivative depends on y.
        noise: Another large input, if there is one.
        flops: Multiplications and additions of a convolution, forward.
    """

    op: str
    call: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    inner: tuple[int, ...] = (0,)
    outer: tuple[int, ...] = ()
    masked: bool = False
    noise: Tensor | None = None
    flops: float | None = None

    def bytes_moved(self, order: str, y: Tensor) -> int:
        """Bytes of all activations that an order reads or writes, each once."""
        x, factor = self.inputs[0], len(self.inner) > 1
        noise = [] if self.noise is None else [self.noise]
        mask = [y] if self.masked else []
        moved = {
            "forward": [x, y, *noise],
            "backward": [y, x, *mask, *noise, *([x] if factor else [])],
            "twice backward": [x, y, *mask, *([x, y, x] if factor else [])],
        }[order]
        return sum(tensor.numel() * tensor.element_size() for tensor in moved)


def made(shape: Sequence[int], dtype: torch.dtype, form: torch.memory_format) -> Tensor:
    """A random tensor."""
    x = torch.randn(tuple(shape), device=device(), dtype=dtype)
    return x.contiguous(memory_format=form) if len(shape) == 4 else x


def pointwise(
    shape: tuple[int, int, int, int], dtype: torch.dtype, form: torch.memory_format
) -> Iterator[Case]:
    """The ops around a convolution whose result has this shape."""
    b, c, h, w = shape
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device()) / 8
    x = made(shape, dtype, form)
    bias, strength = made((c,), FULL, NCHW), torch.tensor(0.3, device=device())
    styles, noise = made((b, c), FULL, NCHW), made((b, 1, h, w), FULL, NCHW)
    yield Case("epilogue", epilogue, (x, bias), masked=True)
    for name, blur in (("epilogue of synthesis", None), ("epilogue of synthesis, blur", taps)):
        start = x if blur is None else made((b, c, h + 1, w + 1), dtype, form)
        call = partial(_synthesis, noise=noise, taps=blur)
        inputs, both = (start, bias, styles, strength), (0, 2)
        yield Case(name, call, inputs, both, both, masked=True, noise=noise)
    for before in (FULL, LOW) if dtype == LOW else (dtype,):
        call = partial(modulate, dtype=dtype)
        name = f"modulate from {NAMES[before]}"
        yield Case(name, call, (x.to(before), styles), inner=(0, 1), outer=(0, 1))
    half = made((b, c, h // 2, w // 2), dtype, form)
    yield Case("upsample2d", partial(upsample2d, taps=taps), (half,))
    yield Case("downsample2d", partial(downsample2d, taps=taps), (x,))
    yield Case("blur", partial(upfirdn2d, taps=taps, padding=(2, 2)), (x,))


def _synthesis(*inputs: Tensor, noise: Tensor, **rest: Any) -> Tensor:
    x, bias, factors, strength = inputs
    return epilogue(x, bias, factors, noise, strength, blur_gain=4.0, **rest)


def convolution(
    batch: int, layer: tuple[int, int, int, str], dtype: torch.dtype, form: torch.memory_format
) -> Case:
    """A layer's 3×3 convolution, its penalty that of R1: first for x, then for the weight."""
    before, resolution, after, kind = layer
    side = resolution + 1 if kind == "down" else resolution  # the filter before it pads
    x = made((batch, before, side, side), dtype, form)
    shape = (before, after, 3, 3) if kind == "up" else (after, before, 3, 3)
    weight = made(shape, dtype, NCHW) / before**0.5
    op, stride, padding = {
        "same": (conv2d, 1, 1),
        "down": (conv2d, 2, 0),
        "up": (conv_transpose2d, 2, 0),
    }[kind]
    places = batch * (resolution // 2 if kind == "down" else resolution) ** 2
    call, flops = partial(op, stride=stride, padding=padding), 2.0 * 9 * before * after * places
    name = f"convolution {before} to {after}, {kind}"
    return Case(name, call, (x, weight), outer=(1,), flops=flops)


def cases(on_cuda: bool, quick: bool) -> Iterator[Case]:
    """All cases, the most telling ones first: a GPU's automatic type and layout at every size."""
    shapes, layers = (SHAPES, LAYERS) if on_cuda else (SMALL_SHAPES, SMALL_LAYERS)
    if quick:
        shapes, layers = [(2, 8, 8, 8)], [(8, 8, 8, "same"), (8, 8, 8, "up")]
    main, other = (LOW, FULL) if on_cuda else (FULL, LOW)
    for shape in shapes:
        yield from pointwise(shape, main, NHWC)
    yield from (convolution(shapes[0][0], layer, main, NHWC) for layer in layers)
    if quick:
        return
    for dtype, form in ((main, NCHW), (other, NHWC), (other, NCHW)):
        yield from pointwise(shapes[1], dtype, form)
        yield from (convolution(shapes[0][0], layer, dtype, form) for layer in layers[:3])


def eager(case: Case, impl: str, gy: Tensor) -> dict[str, Run]:
    """Every order as autograd runs it, on graphs that are kept."""
    call = partial(case.call, impl=impl)
    leaves = [tensor.detach().requires_grad_() for tensor in case.inputs]
    gy = gy.detach().requires_grad_()
    y = call(*leaves)
    firsts = [leaves[i] for i in case.inner]
    inner = torch.autograd.grad(y, firsts, gy, create_graph=True)
    directions = [torch.randn_like(found) for found in inner]
    wanted = [gy, *(leaves[i] for i in case.outer)]

    def forward() -> object:
        with torch.no_grad():
            return call(*leaves)

    return {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, leaves, gy.detach(), retain_graph=True),
        "twice backward": lambda: torch.autograd.grad(inner, wanted, directions, retain_graph=True),
    }


def compiled(case: Case, gy: Tensor) -> dict[str, Run]:
    """Every order as one compiled graph of plain PyTorch."""
    call, inputs = partial(case.call, impl="reference"), list(case.inputs)
    directions = tuple(torch.randn_like(inputs[i]) for i in case.inner)

    def backward(gy: Tensor, *given: Tensor) -> object:
        return torch.func.vjp(call, *given)[1](gy)

    def inner(gy: Tensor, *outer: Tensor) -> object:
        given = dict(enumerate(inputs)) | dict(zip(case.outer, outer, strict=True))

        def of(*firsts: Tensor) -> Tensor:
            return call(*(given | dict(zip(case.inner, firsts, strict=True))).values())

        return torch.func.vjp(of, *(given[i] for i in case.inner))[1](gy)

    def twice(directions: tuple[Tensor, ...], *given: Tensor) -> object:
        return torch.func.vjp(inner, *given)[1](directions)

    torch._dynamo.reset()  # else the next size would be compiled for all sizes
    graph = partial(torch.compile, dynamic=False, fullgraph=True)
    values = [inputs[i] for i in case.outer]
    return {
        "forward": partial(graph(call), *inputs),
        "backward": partial(graph(backward), gy, *inputs),
        "twice backward": partial(graph(twice), directions, gy, *values),
    }


def measure(case: Case, clock: Clock, compiling: bool, rounds: int, limit_s: float) -> list[Row]:
    """A row per order."""
    y = case.call(*case.inputs, impl="reference")
    x, gy = case.inputs[0], torch.randn_like(y)
    larger = max(x, y, key=lambda tensor: tensor.nbytes)
    target = torch.empty_like(larger)
    forms = {"fused": eager(case, "fused", gy), "reference": eager(case, "reference", gy)}
    if compiling and case.flops is None:
        forms["compiled"] = compiled(case, gy)
    rows = []
    for order in ORDERS:
        runs: dict[str, Run] = {name: form[order] for name, form in forms.items()}
        runs["copy"] = lambda: target.copy_(larger)
        with torch.no_grad(), measurement.cudnn(tf32=False, search=False):
            found, faults = measurement.medians(runs, clock, rounds, limit_s)
        rows.append(
            {
                **{"op": case.op, "order": order, "shape": "x".join(map(str, x.shape))},
                **{"dtype": NAMES[y.dtype], "layout": LAYOUTS[layout(x)]},
                **_figures(case, order, y, found, 2 * larger.nbytes / found["copy"] / 1e9),
                "fault": "; ".join(f"{name}: {fault}" for name, fault in faults.items()) or None,
            }
        )
    return rows


def _figures(case: Case, order: str, y: Tensor, found: dict[str, float], copied: float) -> Row:
    """Milliseconds, rates and ratios; `copied` is the copy's GB/s."""
    row: Row = {f"{name}_ms": seconds * 1000 for name, seconds in found.items() if name != "copy"}
    fused = found.get("fused")
    if fused is None:
        return row
    if case.flops is None:
        rate = case.bytes_moved(order, y) / fused / 1e9
        row |= {"gb_per_s": rate, "copy_gb_per_s": copied, "share_of_copy": rate / copied}
    else:
        row["gflop_per_s"] = case.flops * (1 if order == "forward" else 2) / fused / 1e9
    others = {name: found[name] / fused for name in ("reference", "compiled") if name in found}
    return row | {f"times_{name}": ratio for name, ratio in others.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures all cases, prints the table, writes the file after every case."""
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only proves that it runs")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=on_cuda)
    parser.add_argument("--seconds", type=float, default=120.0, help="no case begins after them")
    given = parser.parse_args(arguments)

    clock, started = Clock(device(), isolated=True), time.monotonic()
    notes = ["x plain, x compiled: their time over the fused op's"]
    if not on_cuda:
        notes.append("fused kernels need CUDA: here 'fused' is the registered op in plain PyTorch")
    result: Row = {
        "benchmark": "ops",
        **measurement.facts(clock.device),
        "notes": notes,
        "rows": [],
    }
    torch.manual_seed(0)
    for case in cases(on_cuda, given.quick):
        seconds = time.monotonic() - started
        if seconds > given.seconds:
            notes.append(f"stopped before '{case.op}' after {seconds:.0f} s")
            break
        compiling = given.compile and seconds < COMPILE_SHARE * given.seconds
        rounds, limit_s = (2, 0.0) if given.quick else (15, 0.3 if on_cuda else 0.6)
        try:
            result["rows"] += measure(case, clock, compiling, rounds, limit_s)
        except Exception as error:  # one fault must not lose the other figures
            fault = measurement.reason(error)
            result["rows"].append({"op": case.op, "fault": fault})
        result["seconds"] = time.monotonic() - started
        measurement.write(given.json, result)
    print(f"{result['device']}, {result['threads']} threads, torch {result['torch']}")
    print(measurement.table(result["rows"], COLUMNS), *notes, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What the benchmarks share: a clock, the facts that a figure belongs to, tables and files.

Figures of one comparison are taken in one run, in turn and round by round, so that a slow moment of
the computer falls on all of them alike; of every figure the median counts.
"""

import datetime
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]
Run = Callable[[], object]
CLOCK_HZ = 2e9  # about a GPU's; only the length of a pause depends on it
CACHE_BYTES = 2**28  # more than a GPU's cache holds
SLOW_S = 2.0  # a call that takes longer counts as it is


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def facts(of: torch.device) -> Row:
    """The device's name, the date and the versions that a figure belongs to."""
    on_cuda = of.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(of) if on_cuda else processor(),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_cuda else None,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The CPU's name."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


class Clock:
    """Times calls: by events on CUDA, by the computer's clock on a CPU.

    Attributes:
        isolated: Whether a call is timed alone: the GPU's cache is overwritten before it, and the
            GPU pauses until the host has queued all of its kernels, so that neither a warm cache
            nor a gap between launches is in the figure. Otherwise calls follow one another as in
            training.
    """

    def __init__(self, of: torch.device, *, isolated: bool) -> None:
        self.device, self.isolated = of, isolated
        self.on_cuda = of.type == "cuda"
        if isolated and self.on_cuda:
            self.cache = torch.empty(CACHE_BYTES, dtype=torch.uint8, device=of)

    def wait(self) -> None:
        """Waits until the device has done all of its work."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def queue_s(self, run: Run) -> float:
        """How long the host takes to queue a call, or on a CPU to do it."""
        self.wait()
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def whole_s(self, run: Run) -> float:
        """How long a call takes, from an idle device to an idle device."""
        self.wait()
        started = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - started

    def start(self, run: Run, pause_s: float) -> Callable[[], float]:
        """Calls; the returned function gives the seconds, once the device has done the work."""
        if not self.on_cuda:
            seconds = self.whole_s(run)
            return lambda: seconds
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if self.isolated:
            self.cache.zero_()
            torch.cuda._sleep(int(pause_s * CLOCK_HZ))
        before.record()
        run()
        after.record()
        return lambda: before.elapsed_time(after) / 1000


def medians(
    runs: Mapping[str, Run], clock: Clock, rounds: int, limit_s: float
) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of every run, all of them timed in turn.

    Args:
        runs: What to time; each is called once or twice before.
        clock: See there.
        rounds: Most measurements of each.
        limit_s: No round but the first begins after this time.

    Returns:
        The seconds of those that ran, and why the others did not.
    """
    found, faults, pauses = {}, {}, {}
    for name, run in runs.items():
        try:
            seconds = clock.whole_s(run)
            if seconds > SLOW_S:
                seconds = clock.whole_s(run)  # the first call may have searched or compiled
            found[name] = seconds
            if seconds <= SLOW_S:
                pauses[name] = min(0.05, 4 * clock.queue_s(run)) + 0.001
        except Exception as error:  # one fault must not lose the other figures
            faults[name] = reason(error)
    reads: dict[str, list[Callable[[], float]]] = {name: [] for name in pauses}
    started = time.monotonic()
    for number in range(rounds):
        clock.wait()
        if number and time.monotonic() - started > limit_s:
            break
        for name, read in reads.items():
            read.append(clock.start(runs[name], pauses[name]))
    clock.wait()
    timed = {name: statistics.median(get() for get in read) for name, read in reads.items()}
    return {**found, **timed}, faults


@contextmanager
def cudnn(*, tf32: bool, search: bool) -> Iterator[None]:
    """Lets float32 work be rounded to tf32, or cuDNN try its algorithms, in the block alone."""
    backends, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = backends.allow_tf32, matmul.allow_tf32, backends.benchmark
    try:
        backends.allow_tf32, matmul.allow_tf32, backends.benchmark = tf32, tf32, search
        yield
    finally:
        backends.allow_tf32, matmul.allow_tf32, backends.benchmark = before


def release() -> None:
    """Gives back what the last figure held: compiled code and the GPU's memory."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """The first line of what an error says, for a row that has no figure."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def write(path: Path | None, content: Row) -> None:
    """Writes results, a row a line; the file is whole or not there, so it can be written often."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(_text(_short(content), depth=0) + "\n")
    partial.replace(path)


def _text(value: Any, depth: int) -> str:  # noqa: ANN401  any value of JSON
    indent = " " * (depth + 1)
    if isinstance(value, dict) and depth < 2:
        lines = [f"{json.dumps(key)}: {_text(part, depth + 1)}" for key, part in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        lines = [json.dumps(row) for row in value]
    else:
        return json.dumps(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{indent}" + f",\n{indent}".join(lines) + f"\n{indent[1:]}{closing}"


def _short(value: Any) -> Any:  # noqa: ANN401  any value of JSON
    """The value with four digits, which is more than is measured."""
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_short(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """Rows as text, numbers with three digits.

    Args:
        rows: What to show; a missing value shows as "-".
        columns: Key of every column and its head; a column without any value is left out.
    """
    shown = {
        key: head for key, head in columns.items() if any(r.get(key) is not None for r in rows)
    }
    lines = [list(shown.values()), *([_cell(row.get(key)) for key in shown] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""All that there is to learn of one GPU, in one command: build, CUDA tests, benchmarks.

    python -m benchmarks.gpu [--json PATH] [--minutes M]

Every part runs in a process of its own, so that neither its fault nor its end takes the others
along; what it found is in the file at once. It needs no Hydra and no network. Exit code 0: all
that ran went well; 1: a CUDA test or a part failed; 2: there is no GPU.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measurement import Row, facts, table, write

ROOT = Path(__file__).resolve().parents[1]
# Aims on one H100.
SHARE_OF_COPY, TIMES_COMPILED, SECONDS_PER_KIMG, PENALTY_RATIO = 0.8, 1.0, 2.5, 2.0
MARGIN_S = 15.0  # in which a part that stops by itself ends
BUILD = """
import json, sys, time
from stylex.ops import build
planned = build.plan()
found = {"was_built_before": planned.library.is_file(), "architectures": planned.architectures}
started = time.monotonic()
build.load()
found["build_s"] = time.monotonic() - started
json.dump(found, open(sys.argv[1], "w"))
"""


@dataclass(frozen=True)
class Part:
    """One of the things to do.

    Attributes:
        name: Its name.
        command: What to run, of its file and the seconds it has.
        read: Its results, from its file.
        least_s: Time below which it is not begun.
        most_s: Time after which it is ended.
    """

    name: str
    command: Callable[[Path, float], list[str]]
    read: Callable[[Path], Row]
    least_s: float
    most_s: float


def parts() -> list[Part]:
    """In the order in which they run; the last one has all the time that is left."""
    listed = [
        Part("build", lambda file, _: [sys.executable, "-c", BUILD, str(file)], results, 20, 180),
        Part("tests", test_command, read_report, 30, 200),
        Part("ops", benchmark("ops", limited=True), results, 60, 110),
    ]
    if importlib.util.find_spec("benchmarks.search"):
        listed.append(Part("search", benchmark("search", limited=False), results, 60, 120))
    return [*listed, Part("training", benchmark("training", limited=True), results, 90, 3600)]


def benchmark(name: str, *, limited: bool) -> Callable[[Path, float], list[str]]:
    """The command of a benchmark, which may be able to end in time by itself."""

    def command(file: Path, seconds: float) -> list[str]:
        limit = ["--seconds", f"{max(1.0, seconds - MARGIN_S):.0f}"] if limited else []
        return [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *limit]

    return command


def test_command(file: Path, seconds: float) -> list[str]:
    """Runs the files with CUDA tests alone: others may need what is not installed here."""
    marked = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if marks_cuda(p)]
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-W", "default", "-q", "-m", "cuda"]
    names = [str(path.relative_to(ROOT)) for path in marked]
    return [sys.executable, "-m", "pytest", *options, f"--junitxml={file}", *names]


def marks_cuda(path: Path) -> bool:
    """Whether a test file has tests for CUDA."""
    return "pytest.mark.cuda" in path.read_text()


def results(file: Path) -> Row:
    """What a benchmark wrote."""
    return json.loads(file.read_text())


def read_report(file: Path) -> Row:
    """Counts of pytest's report, and the names of the tests that failed."""
    report = ElementTree.parse(file).getroot()
    cases = list(report.iter("testcase"))
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(bad) - skipped,
        "failed": len(bad),
        "skipped": skipped,
        "names_of_failed": [case.get("name") for case in bad],
    }


def run(part: Part, seconds: float) -> Row:
    """Runs a part for so long at most; gives its results, also those of one that was ended."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results"
        command = part.command(file, seconds)
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait(seconds)
            status = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            status = f"ended after {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        row: Row = {"status": status, "took_s": time.monotonic() - started}
        try:
            return row | part.read(file)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            return row | {"fault": f"no results: {error}"}


def run_all(listed: Sequence[Part], minutes: float, content: Row, path: Path) -> None:
    """Runs the parts while there is time, and writes the file after each."""
    deadline = time.monotonic() + 60 * minutes
    for number, part in enumerate(listed):
        later = sum(other.least_s for other in listed[number + 1 :])
        seconds = min(part.most_s, deadline - time.monotonic() - later)
        print(f"\n== {part.name} ==", flush=True)
        if seconds < part.least_s:
            content[part.name] = {"status": f"skipped: {max(0.0, seconds):.0f} s were left for it"}
            print(content[part.name]["status"])
        else:
            content[part.name] = run(part, seconds)
        content["aims"] = aims(content)
        write(path, content)


def aims(content: Row) -> list[Row]:
    """Each aim with what was found, and whether that meets it; none where nothing was found."""
    rows = [row for row in content.get("ops", {}).get("rows", []) if "order" in row]
    near_copy = [row for row in rows if row["op"].startswith(("epilogue", "modulate"))]
    orders = dict.fromkeys(row["order"] for row in near_copy) or ("forward",)
    found = [
        *(
            lowest(
                f"epilogue, modulate, {order}: of a copy's GB/s",
                [row for row in near_copy if row["order"] == order],
                "share_of_copy",
                SHARE_OF_COPY,
            )
            for order in orders
        ),
        lowest("fused ops: times as fast as compiled ones", rows, "times_compiled", TIMES_COMPILED),
    ]
    trained = content.get("training", {}).get("rows", [])
    auto = [row for row in trained if (row["recipe"], row["name"]) == ("stylegan2", "auto")]
    row = auto[0] if auto else {}
    found.append(most("s/kimg without augmentation", SECONDS_PER_KIMG, row.get("seconds_per_kimg")))
    for name, ratio in row.get("penalty_ratios", {}).items():
        found.append(most(f"{name}: of a main phase's time per image", PENALTY_RATIO, ratio))
    tests = content.get("tests", {})
    return [most("CUDA tests that fail", 0, tests.get("failed")), *found]


def most(name: str, bound: float, found: float | None) -> Row:
    """An aim that a figure must not exceed."""
    met = None if found is None else found <= bound
    return {"aim": f"{name}: at most {bound}", "found": found, "met": met}


def lowest(name: str, rows: Sequence[Row], key: str, bound: float) -> Row:
    """An aim that no row must fall below; tells the worst one."""
    known = [row for row in rows if row.get(key) is not None]
    aim = f"{name}: at least {bound}"
    if not known:
        return {"aim": aim, "found": None, "met": None}
    worst = min(known, key=lambda row: row[key])
    reached = sum(row[key] >= bound for row in known)
    where = [str(worst.get(part)) for part in ("op", "order", "shape", "dtype", "layout")]
    text = f"{worst[key]:.3g} ({', '.join(where)}); {reached} of {len(known)} reach it"
    return {"aim": aim, "found": text, "met": reached == len(known)}


def failed(content: Row) -> bool:
    """Whether a test or a part failed."""
    found = [value for value in content.values() if isinstance(value, dict)]
    return any(part.get("failed") or part["status"].startswith("failed") for part in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything; prints what was found beside the aims."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument(
        "--json", type=Path, help="default: benchmarks/results/gpu-DEVICE-DATE.json"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(
            "error: benchmarks.gpu needs a GPU that torch can use, got none; on a CPU run "
            "'python -m benchmarks.ops' and 'python -m benchmarks.training'",
            file=sys.stderr,
        )
        return 2
    content: Row = {"benchmark": "gpu", **facts(torch.device("cuda"))}
    name = content["device"].replace(" ", "-").lower()
    folder = ROOT / "benchmarks" / "results"
    path = (given.json or folder / f"gpu-{name}-{content['date']}.json").absolute()
    run_all(parts(), given.minutes, content, path)
    words = {True: "met", False: "missed", None: "not measured"}
    rows = [row | {"verdict": words[row["met"]]} for row in content["aims"]]
    print(f"\n== {content['device']}, torch {content['torch']} ==")
    states = [{"part": k, "status": v["status"]} for k, v in content.items() if isinstance(v, dict)]
    print(table(states, {"part": "part", "status": "status"}), "", sep="\n")
    print(
        table(rows, {"aim": "aim", "verdict": "", "found": "found"}), f"results: {path}", sep="\n"
    )
    return int(failed(content))


if __name__ == "__main__":
    raise SystemExit(main())

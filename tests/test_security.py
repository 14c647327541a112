"""Nothing read runs; names are data everywhere; known vulnerabilities fail the checks."""

import ast
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import ROOT, script

from stylex.artifacts import harmless

SOURCES = [
    *(ROOT / "stylex").rglob("*.py"),
    *(ROOT / "benchmarks").rglob("*.py"),
    *(ROOT / name for name in ("train.py", "search.py")),
]
FORBIDDEN = {  # calls that run what they are given
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load"),
    *("pickle.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "marshal.loads"),
    *("shelve.open", "joblib.load", "torch.hub.load", "runpy.run_path", "pickle.Unpickler"),
    *("os.execv", "os.execvp", "os.spawnv"),
}
PROGRAMS = {  # files that start a program: which, none of it a text from a file
    "stylex/ops/toolkit.py": "the compiler and what it depends on",
    "stylex/ops/checkup.py": "nvidia-smi and the compiler",
    "stylex/ops/build.py": "ninja",
    "stylex/training/departure.py": "scontrol requeue, with the job's number",
    "benchmarks/gpu.py": "this package's own benchmarks",
}
IMPORTS = {  # files that import by name: what they may import
    "stylex/attribution/extras.py": "the wing's own packages",
    "stylex/report/animations/codec.py": "imageio_ffmpeg",
    "stylex/classifier/libraries.py": "timm, transformers, onnx2torch",
    "stylex/classifier/networks.py": "what classifier.network names, on the user's word",
}
TORCHSCRIPT = {"stylex/classifier/networks.py": "a file that classifier.network names"}
NAMES = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x")',
    "../../etc/passwd",
    "a/b",
    "con",
    "a\nb",
    "\u202egnp",
    "x" * 300,
    "\u00e4" * 300,
    "..",
    "a\\b",
    "a\0b",
)


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT).as_posix(), ast.unparse(node.func), node


CALLS = list(calls())


def test_nothing_is_called_that_runs_a_text_or_a_pickle() -> None:
    assert len(CALLS) > 5000
    found = [(file, name) for file, name, _ in CALLS if name in FORBIDDEN and name != "re.compile"]
    assert found == []


def test_states_are_read_as_tensors_alone() -> None:
    loads = [node for _, name, node in CALLS if name == "torch.load"]
    assert len(loads) >= 4
    for node in loads:
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert given.get("weights_only") == "True", ast.unparse(node)
    arrays = [node for _, name, node in CALLS if name in ("np.load", "numpy.load")]
    for node in arrays:
        assert "allow_pickle=True" not in ast.unparse(node)


def test_programs_are_started_without_a_shell_and_only_where_that_is_meant() -> None:
    started = [(file, node) for file, name, node in CALLS if name.startswith("subprocess.")]
    assert {file for file, _ in started} == set(PROGRAMS)
    assert not any("shell=True" in ast.unparse(node) for _, node in started)


def test_modules_are_imported_by_name_only_where_that_is_meant() -> None:
    found = {file for file, name, _ in CALLS if name.rpartition(".")[2] == "import_module"}
    assert found == set(IMPORTS)
    assert {file for file, name, _ in CALLS if name == "torch.jit.load"} == set(TORCHSCRIPT)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_is_never_a_path(name: str, tmp_path: Path) -> None:
    search = script("search")
    config = {
        "image": None,
        "source": name,
        "target": name,
        "selector": "joint",
        "compare": None,
        "checkpoint": "model",
        "seed": 0,
        "randomised_layers": 0,
    }
    folder = tmp_path / search.default_folder(config)
    assert folder.parent == tmp_path / "results" / "model"
    assert ".." not in folder.parts
    folder.mkdir(parents=True)
    other = search.default_folder({**config, "target": f"{name}!"})
    assert other != str(folder.relative_to(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_a_formula(name: str, tmp_path: Path) -> None:
    for cell in (name, f"={name}", f"+{name}", f"-{name}", f"@{name}", f"\t{name}"):
        written = harmless(cell)
        assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert written.endswith(cell)
        with (tmp_path / "a.csv").open("w", newline="") as file:
            csv.writer(file).writerow([written])
        with (tmp_path / "a.csv").open(newline="") as file:
            assert next(csv.reader(file)) == [written]


def test_every_writer_of_names_into_csv_makes_them_harmless() -> None:
    writers = {file for file, name, _ in CALLS if name in ("csv.writer", "csv.DictWriter")}
    own = {"stylex/training/records.py", "stylex/training/watch.py"}  # numbers; our own sentences
    for file in writers - own:
        assert "harmless(" in (text := (ROOT / file).read_text()) or "map(harmless" in text, file


# Vulnerabilities


def audit(folder: Path, answer: str, code: int) -> subprocess.CompletedProcess[str]:
    """The audit with a stand-in for pip-audit that gives this answer."""
    (folder / "answer").write_text(answer)
    stand_in = folder / "pip-audit"
    stand_in.write_text(f"#!/bin/sh\ncat '{folder}/answer'\necho words >&2\nexit {code}\n")
    stand_in.chmod(0o755)
    return subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "audit")],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_known_vulnerability_fails_the_audit_and_is_named(tmp_path: Path) -> None:
    bad = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    good = {"name": "b", "version": "1", "vulns": []}
    done = audit(tmp_path, json.dumps({"dependencies": [bad, good]}), 1)
    assert done.returncode == 1
    assert "a 1: CVE-1, fixed in 2" in done.stderr
    done = audit(
        tmp_path, json.dumps({"dependencies": [good, {"name": "c", "skip_reason": "x"}]}), 0
    )
    assert done.returncode == 0
    assert done.stdout == "audit: 0 of 1 packages vulnerable, 1 unknown to the index\n"


@pytest.mark.parametrize(
    "answer", ["", "{", '{"dependencies": [{"name": "a", "skip_reason": "x"}]}']
)
def test_an_audit_without_advisory_data_is_skipped_and_says_why(
    answer: str, tmp_path: Path
) -> None:
    done = audit(tmp_path, answer, 1)
    assert done.returncode == 0
    assert done.stdout.startswith("audit skipped: ")

"""The benchmarks run, say what they promise, and the GPU's one outlives the faults of its parts."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from doors import compose
from drawings import FEW, write_model

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # the benchmarks are not installed

from benchmarks import arena, gpu, loading, measurement, ops, page, search, training  # noqa: E402
from benchmarks.gpu import Part, aims, results, run, run_all  # noqa: E402
from stylex.artifacts import write_tensors  # noqa: E402
from stylex.data.drawn import DrawnSet  # noqa: E402
from stylex.door import image_set  # noqa: E402
from stylex.evaluation.readers import Course, train_reader  # noqa: E402
from stylex.imaging import to_uint8  # noqa: E402
from stylex.model import StylEx  # noqa: E402
from stylex.progress import quiet  # noqa: E402
from stylex.types import Images  # noqa: E402

FACTS = {"device", "date", "torch", "cuda", "threads", "benchmark", "notes", "rows", "seconds"}


@pytest.fixture(autouse=True)
def _on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_the_ops_benchmark_times_each_op_three_times_over_and_writes_what_it_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ops.main(["--quick", "--json", str(tmp_path / "new" / "ops.json")]) == 0

    found = read(tmp_path / "new" / "ops.json")
    assert set(found) == FACTS
    assert found["threads"] == torch.get_num_threads()
    assert any("fused kernels need CUDA" in note for note in found["notes"])
    rows = found["rows"]
    assert [row["order"] for row in rows] == list(ops.ORDERS) * (len(rows) // 3)
    assert {row["op"].split()[0] for row in rows} == {
        *("epilogue", "modulate", "upsample2d", "downsample2d", "blur", "convolution")
    }
    for row in rows:
        assert row["fault"] is None
        ratio = row["reference_ms"] / row["fused_ms"]  # of figures rounded to four digits, thrice
        assert row["times_reference"] == pytest.approx(ratio, rel=1.5e-3)
        rate = "gflop_per_s" if row["op"].startswith("convolution") else "gb_per_s"
        assert row[rate] > 0
    printed = capsys.readouterr().out
    assert found["device"] in printed
    assert all(row["op"] in printed for row in rows)


def test_all_forms_of_an_op_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    for case in ops.pointwise((2, 8, 4, 4), torch.float32, ops.NCHW):
        gy = torch.randn_like(case.call(*case.inputs, impl="reference"))

        forms = []
        for impl in ("compiled", "reference", "fused"):
            torch.manual_seed(1)  # of the directions
            compiled = impl == "compiled"
            forms.append(ops.compiled(case, gy) if compiled else ops.eager(case, impl, gy))

        for order in ops.ORDERS:
            with torch.no_grad():
                expected, *others = (as_tuple(form[order]()) for form in forms)
            for found in others:
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def as_tuple(found: Any) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def test_bytes_are_those_of_the_tensors_that_the_maths_needs() -> None:
    cases = {case.op: case for case in ops.pointwise((2, 8, 4, 4), torch.bfloat16, ops.NHWC)}
    activation, noise = 2 * 2 * 8 * 16, 4 * 2 * 16

    def moved(op: str) -> list[int]:
        y = cases[op].call(*cases[op].inputs, impl="reference")
        return [cases[op].bytes_moved(order, y) for order in ops.ORDERS]

    # x, y; the gradients of y and x, and y; a direction of x, the gradient of y, and y.
    assert moved("epilogue") == [2 * activation, 3 * activation, 3 * activation]
    # Noise is read twice, x is needed for the factor's gradient, and then x has one, too.
    synthesis = [2 * activation + noise, 4 * activation + noise, 6 * activation]
    assert moved("epilogue of synthesis") == synthesis
    # Here x has twice the bytes of y.
    assert moved("modulate from float32") == [3 * activation, 5 * activation, 8 * activation]
    assert moved("upsample2d") == [activation // 4 + activation] * 3


def test_the_loading_benchmark_times_files_against_the_cache_and_says_whose_need_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loading.main(["--quick", "--json", str(tmp_path / "loading.json")]) == 0

    found = read(tmp_path / "loading.json")
    assert set(found) >= FACTS
    rows = [(row["form"], row["num_workers"]) for row in found["rows"]]
    assert rows == [("files", 0), ("cache", 0), ("files", 1), ("cache", 1)]
    for row in found["rows"]:
        ratio = row["images_per_s"] / found["need_images_per_s"]
        assert row["times_need"] == pytest.approx(ratio, rel=1e-3)
    assert found["cache"]["bytes"] == 40 * (3 * 256**2 + 4)  # pixels and a checksum a row
    assert "an estimate from its peak" in capsys.readouterr().out

    results = tmp_path / "results"
    measured = {"recipe": "stylex", "resolution_px": 256, "seconds_per_kimg": 5.0}
    other = {**measured, "resolution_px": 64, "seconds_per_kimg": 1.0}
    results.mkdir()
    content = json.dumps({"device": "a GPU", "rows": [other, measured]})
    (results / "training-gpu.json").write_text(content)
    monkeypatch.setattr(loading, "RESULTS", results)
    assert loading.need("a GPU") == (200.0, "training-gpu.json, stylex")
    assert loading.need("another")[0] == 250.0


def test_the_training_benchmark_gives_every_phase_and_says_which_row_has_augmentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training.main(["--quick", "--json", str(tmp_path / "training.json")]) == 0

    found = read(tmp_path / "training.json")
    assert set(found) == FACTS
    names = [(row["recipe"], row["name"]) for row in found["rows"]]
    assert names[0] == ("stylegan2", "auto")
    assert names[-1] == ("stylegan2", "auto, again")
    assert {("stylex", "auto"), ("stylegan2, augmented", "auto")} < set(names)
    for row in found["rows"]:
        assert "fault" not in row
        augmented = row["recipe"] == "stylegan2, augmented"
        assert row["note"] == ("with augmentation" if augmented else "without augmentation")
        assert row["ops"]["impl"] in ("auto", "reference")
        assert row["seconds_per_kimg"] > 0
    plain, styled = found["rows"][0], found["rows"][names.index(("stylex", "auto"))]
    phases = ["generator", "path length", "discriminator", "R1", "average"]
    assert list(plain["phases_ms"]) == phases
    assert list(styled["phases_ms"]) == ["noise step", "encoder step", "path length", "R1"]
    assert "without augmentation" in capsys.readouterr().out


@pytest.mark.slow
def test_the_search_benchmark_gives_its_ratios_and_how_far_screened_and_exhaustive_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(ROOT / "pretrained" / "fashion-32")
    given = ["--quick", "--checkpoint", checkpoint, "--json", str(tmp_path / "search.json")]
    assert search.main(given) == 0
    found = read(tmp_path / "search.json")
    wanted = {"passes_ratio", "seconds_ratio_exhaustive", "seconds_ratio_official"}
    for name in (*wanted, "top10_agreement", "engine_efficiency"):
        assert found[name] > 0
    assert found["top10_agreement"] <= 1
    assert found["coordinates"] == 160
    (row,) = found["questions"]
    assert row["searches"] == 10
    assert "a sample, extrapolated" in capsys.readouterr().out


def untrained(folder: Path, family: str, seed: int) -> Path:
    """A model of drawings with a reader that saw one batch."""
    data = image_set(compose("train", [f"data={family}", FEW]).data, "train")
    assert isinstance(data, DrawnSet)
    course = Course(1, 8, 0.01, width=2, noise=0.1, brightness=0.03, num_scored=20, seed=0)
    train_reader(data, course, quiet).save(folder / "reader.safetensors")
    return write_model(folder, family, seed)


def invent(
    model: StylEx,
    images: Images,
    *,
    target: str,
    k: int,
    seed: int,
    rankers: list[str],
    **asked: Any,
) -> None:
    """Leaves edits as a search does, of pixels drawn at random."""
    random = torch.Generator().manual_seed(seed)
    some = to_uint8(images[:6])
    tensors = {"positions": torch.arange(6), "images": some, "reconstructions": some}
    facts = {"source": "", "target": target, "strength": "1"}
    facts |= {"class_names": json.dumps(model.class_names), "names": json.dumps(["an edit"] * k)}
    for method in ("stylex", *rankers):
        drawn = torch.randint(256, (k, *some.shape), generator=random, dtype=torch.uint8)
        path = asked["output_dir"] / "edits" / f"{method}.safetensors"
        write_tensors(path, {**tensors, "edited": drawn, "together": drawn}, facts)


FEWER = {"num_images": 16, "picks_per_round": 8, "audit_images": 2}


@pytest.mark.parametrize(
    "explain",
    [
        pytest.param(invent, id="invented"),
        pytest.param(partial(arena.explain, **FEWER), id="searched", marks=pytest.mark.slow),
    ],
)
def test_the_arena_s_benchmark_scores_every_method_on_settings_fixed_in_the_config(
    explain: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = yaml.safe_load((ROOT / arena.SCORES).read_text())
    assert fixed["num_directions"] == 8
    (tmp_path / "scores.yaml").write_text(yaml.safe_dump({**fixed, "num_drawings": 8}))
    models = {name: untrained(tmp_path / name, "faces", i) for i, name in enumerate(arena.MODELS)}
    for name, value in {
        "MODELS": models,
        "SHORTCUT": untrained(tmp_path / "shortcut", "faces-shortcut", 4),
        "SCORES": tmp_path / "scores.yaml",
        "IMAGES_PER_SEED": 30,
        "NUM_MAPS": 2,
        "explain": explain,
    }.items():
        monkeypatch.setattr(arena, name, value)
    monkeypatch.setattr("stylex.search.rankers.GANALYZE_STEPS", 2)

    assert arena.main(["--seeds", "2", "--json", str(tmp_path / "arena.json")]) == 1  # no aim met

    found = read(tmp_path / "arena.json")
    names = ("recovery_at_8", "purity", "distractor_rate", "rank_agreement")
    assert set(found["methods"]) == {*models, "wu", "ganalyze", "svd", "random"}
    for row in found["methods"].values():
        assert row["num_seeds"] == 2
        assert all(row[name] is None or isinstance(row[name], int | float) for name in names)
        assert row["recovery_at_8"] is not None
    assert len(found["shortcut"]["ranks"]) == 2
    assert {f"reliance_{name}" for name in ("Alder", "Birch")} <= set(found)
    assert "Methods side by side" in capsys.readouterr().out


def test_seconds_per_kimg_count_each_penalty_once_per_interval_and_its_own_batch_per_image() -> (
    None
):
    settings = training.Setting("stylegan2", "auto", training.QUICK, {})
    recipe = training.build(settings, torch.device("cpu"), on_cuda=False)
    names = ("generator", "path length", "discriminator", "R1", "average")
    seconds = dict(zip(names, (1.0, 2.0, 3.0, 16.0, 0.5), strict=True))

    # (1 + 2/4 + 3 + 16/16 + 0.5) seconds for 4 images; half a batch for the path length.
    assert recipe.seconds_per_kimg(seconds) == pytest.approx(6.0 / 4 * 1000)
    assert recipe.penalty_ratios(seconds) == pytest.approx({"path length": 4.0, "R1": 16 / 3})


def test_a_step_of_stylex_counts_as_often_as_it_comes() -> None:
    settings = training.Setting("stylex", "auto", training.QUICK, {})
    recipe = training.build(settings, torch.device("cpu"), on_cuda=False)
    seconds = {
        "encoder": 1.0,
        "noise": 2.0,
        "noise, path length": 3.0,
        "noise, path length, R1": 5.0,
    }

    assert recipe.seconds_per_kimg(seconds) == pytest.approx((8 + 8 + 9 + 5) / 16 / 4 * 1000)
    assert recipe.phases(seconds) == pytest.approx(
        {"noise step": 2.0, "encoder step": 1.0, "path length": 1.0, "R1": 2.0}
    )


def test_a_run_that_fails_has_its_reason_and_the_others_have_their_figures() -> None:
    def fail() -> None:
        raise RuntimeError("no memory\nand more")

    clock = measurement.Clock(torch.device("cpu"), isolated=True)
    runs = {"bad": fail, "good": lambda: time.sleep(0.002)}
    found, faults = measurement.medians(runs, clock, rounds=3, limit_s=1.0)

    assert set(found) == {"good"}
    assert 0.002 <= found["good"] < 0.1
    assert faults == {"bad": "RuntimeError: no memory"}


def test_without_a_gpu_the_gpu_benchmark_says_so_in_one_sentence_and_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: benchmarks.gpu needs a GPU that torch can use, got none; ")
    assert "'python -m benchmarks.ops' and 'python -m benchmarks.training'" in line


def part(name: str, code: str, *, least_s: float = 0.0, most_s: float = 60.0) -> Part:
    """A part that runs some Python with its file as the only argument."""
    command = [
        sys.executable,
        "-c",
        f"import json, sys, time; file = open(sys.argv[1], 'w'); {code}",
    ]
    return Part(name, lambda file, _: [*command, str(file)], results, least_s, most_s)


def test_a_part_that_fails_or_is_ended_keeps_what_it_wrote_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    written = "print(json.dumps({'rows': []}), file=file, flush=True)"
    listed = [
        part("broken", "sys.exit(3)"),
        part("endless", f"{written}; time.sleep(60)", most_s=1.0),
        part("long", written, least_s=1000.0, most_s=2000.0),
        part("good", written),
    ]
    content: dict[str, Any] = {"benchmark": "gpu"}

    run_all(listed[:2], 1.0, content, tmp_path / "gpu.json")
    run_all(listed[2:], 1.0, content, tmp_path / "gpu.json")

    found = read(tmp_path / "gpu.json")
    assert found["broken"]["status"] == "failed with exit code 3"
    assert found["broken"]["fault"].startswith("no results: ")
    assert found["endless"]["status"] == "ended after 1 s"
    assert found["endless"]["rows"] == []
    assert found["long"]["status"].startswith("skipped: ")
    assert found["good"]["status"] == "done"
    assert gpu.failed(content)
    assert not gpu.failed({"good": found["good"], "endless": found["endless"]})


def test_a_failed_cuda_test_is_counted_and_named_and_fails_the_run(tmp_path: Path) -> None:
    body = (
        "import pytest\n\n\n@pytest.mark.cuda\ndef test_wrong() -> None:\n    assert False\n\n\n"
        "@pytest.mark.cuda\ndef test_right() -> None:\n    pass\n\n\n"
        "@pytest.mark.cuda\ndef test_absent() -> None:\n    pytest.skip('no')\n"
    )
    (tmp_path / "test_it.py").write_text(body)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider"]

    def of(file: Path, seconds: float) -> list[str]:
        return [*command, f"--junitxml={file}", str(tmp_path / "test_it.py")]

    found = run(Part("tests", of, gpu.read_report, 0.0, 60.0), 60.0)

    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 1)
    assert found["names_of_failed"] == ["test_wrong"]
    assert gpu.failed({"tests": found})


def test_the_cuda_tests_are_found_and_selected() -> None:
    command = gpu.test_command(Path("report"), 1.0)

    assert command[command.index("-m", 3) + 1] == "cuda"
    files = [argument for argument in command if argument.startswith("tests")]
    assert "tests/ops/test_cuda.py" in files
    assert "tests/test_door.py" not in files


def op_row(op: str, share: float, times: float | None) -> Mapping[str, Any]:
    row = {"op": op, "order": "forward", "shape": "1x1", "dtype": "float32", "layout": "NHWC"}
    return {**row, "share_of_copy": share, "times_compiled": times}


def test_aims_are_met_or_missed_by_the_worst_row_and_unmeasured_without_one() -> None:
    trained = {"recipe": "stylegan2", "name": "auto", "seconds_per_kimg": 2.0}
    trained["penalty_ratios"] = {"path length": 1.5, "R1": 2.5}
    rows = [op_row("epilogue", 0.9, 1.2), op_row("modulate", 0.7, None), op_row("blur", 0.1, 1.0)]
    content = {"tests": {"failed": 0}, "ops": {"rows": rows}, "training": {"rows": [trained]}}

    found = {row["aim"].partition(":")[0]: row for row in aims(content)}

    assert {name: row["met"] for name, row in found.items()} == {
        "CUDA tests that fail": True,
        "epilogue, modulate, forward": False,
        "fused ops": True,
        "s/kimg without augmentation": True,
        "path length": True,
        "R1": False,
    }
    assert found["epilogue, modulate, forward"]["found"].startswith("0.7 (modulate, forward, 1x1")
    assert found["epilogue, modulate, forward"]["found"].endswith("1 of 2 reach it")
    assert {row["met"] for row in aims({})} == {None}


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromedriver is not installed")
def test_the_page_s_benchmark_counts_its_bytes_and_waits_for_its_first_paint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index.html").write_text("<p>painted</p>")
    assert page.main([str(tmp_path), "--rounds", "1", "--json", str(tmp_path / "page.json")]) == 0
    found = read(tmp_path / "page.json")["page"]
    assert found["bytes"] == 14
    assert 0 < found["first_paint_ms"] <= found["slowest_paint_ms"]
    monkeypatch.setattr(page, "MOST_BYTES", 13)
    assert page.main([str(tmp_path), "--rounds", "1"]) == 1


def test_the_page_s_benchmark_asks_for_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        page.main([str(tmp_path)])
    assert "run python search.py first" in capsys.readouterr().err

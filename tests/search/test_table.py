"""The table on disk: shared, stopped, damaged, too large for memory; and what is read from it."""

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from torch import Tensor

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.search import table as table_module
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.scores import Logit, LogProbability, Rise, Score
from stylex.search.selection import Gain, Pick
from stylex.search.statistics import Statistics
from stylex.search.table import EffectTable, fill

ROWS, COORDINATES, CLASSES = [2, 0, 5, 7, 1], [54, 3, 40, 17, 4, 30], [2, 0]


class Counting(Engine):
    """An engine that knows which images it was asked for, and may fail."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.asked: list[int] = []
        self.fails_at = -1

    def measure(self, edits: Edits, *rest: Any) -> Tensor:
        self.asked.append(int(edits.images[0]))
        if len(self.asked) - 1 == self.fails_at:
            raise RuntimeError("another fault")
        return super().measure(edits, *rest)


@pytest.fixture
def engine(tiny_model: StylEx, statistics: Statistics) -> Counting:
    """Of the statistics' images."""
    study = (statistics.styles, statistics.base_logits, statistics.extremes)
    return Counting(tiny_model, *study, batch_size=16)


def filled(path: Path, engine: Any, **changes: Any) -> None:
    given = {
        "rows": ROWS,
        "coordinates": COORDINATES,
        "classes": CLASSES,
        "strength": 1.0,
        "made_by": {"classifier": "a"},
        "progress": quiet,
        **changes,
    }
    fill(path, engine, given.pop("rows"), given.pop("coordinates"), given.pop("classes"), **given)


def stored(path: Path) -> Tensor:
    return torch.from_numpy(zarr.open_group(path, mode="r")["effects"][:])


@pytest.fixture
def whole(engine: Counting, tmp_path: Path) -> Tensor:
    """What one process leaves, unbroken."""
    filled(tmp_path / "whole.zarr", engine)
    engine.asked.clear()
    return stored(tmp_path / "whole.zarr")


def stopping_after(count: int) -> Callable[[Iterable[Any], str], Iterator[Any]]:
    def progress(items: Iterable[Any], _what: str) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == count:
                raise KeyboardInterrupt
            yield item

    return progress


# Filling


def test_the_table_holds_the_engines_changes_of_the_classes_asked_for(
    engine: Counting, whole: Tensor
) -> None:
    edits = Edits.grid(torch.tensor(ROWS), torch.tensor(COORDINATES), 1.0)
    expected = engine.measure(edits)[:, CLASSES].reshape(5, 2, 6, 2)
    assert whole.dtype == torch.float16
    torch.testing.assert_close(whole.float(), expected, atol=1e-4, rtol=1e-3)


def test_a_stopped_run_goes_on_with_the_images_left_and_ends_the_same(
    engine: Counting, whole: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    with pytest.raises(KeyboardInterrupt):
        filled(path, engine, progress=stopping_after(2))
    assert engine.asked == ROWS[:2]
    filled(path, engine)
    assert engine.asked == ROWS
    assert torch.equal(stored(path), whole)
    filled(path, engine)
    assert engine.asked == ROWS  # a finished one is left alone


def test_a_fault_in_the_middle_of_an_image_leaves_it_to_the_next_run(
    engine: Counting, whole: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    engine.fails_at = 3
    with pytest.raises(RuntimeError, match="another fault"):
        filled(path, engine)
    filled(path, engine)
    assert engine.asked == [*ROWS[:4], *ROWS[3:]]
    assert torch.equal(stored(path), whole)


def test_an_effect_beyond_float16_is_refused(tmp_path: Path, engine: Counting) -> None:
    engine.base_logits = engine.base_logits - 70000
    message = r"effects must be at most 65504 .* float16, got \d.* on image 2; divide"
    with pytest.raises(InputError, match=message):
        filled(tmp_path / "effects.zarr", engine)
    engine.base_logits = engine.base_logits * float("nan")
    with pytest.raises(InputError, match="float16, got nan on image 2"):
        filled(tmp_path / "effects.zarr", engine)


def test_filling_keeps_no_states(tmp_path: Path, engine: Counting) -> None:
    filled(tmp_path / "effects.zarr", engine)
    passes = engine.passes
    engine.measure(Edits.grid(torch.tensor(ROWS[-1:]), torch.tensor(COORDINATES), 1.0))
    assert engine.passes == passes + 12 + 1


# Several processes


def test_processes_one_after_the_other_leave_the_bits_of_one(
    engine: Counting, whole: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    filled(path, engine, world_size=2)
    assert engine.asked == ROWS[0::2]
    with pytest.raises(InputError, match="must be those of all 5 images, got 3 in"):
        EffectTable.read(path)
    filled(path, engine, rank=1, world_size=2)
    assert engine.asked == ROWS[0::2] + ROWS[1::2]
    assert torch.equal(stored(path), whole)


def test_one_process_goes_on_where_any_of_several_stopped(
    engine: Counting, whole: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    filled(path, engine, world_size=3)
    with pytest.raises(KeyboardInterrupt):
        filled(path, engine, rank=1, world_size=3, progress=stopping_after(1))
    filled(path, engine)
    assert sorted(engine.asked) == sorted(ROWS)
    assert torch.equal(stored(path), whole)


PROGRAM = """
import os, signal, sys
from pathlib import Path
import stylex
from stylex.search.engine import Engine
from stylex.search.statistics import Statistics
from stylex.search.table import fill

model, found = stylex.load(sys.argv[1]), Statistics.read(Path(sys.argv[2]))
rank, killed_at = int(sys.argv[4]), int(sys.argv[5])
engine = Engine(model, found.styles, found.base_logits, found.extremes, batch_size=16)

def progress(items, what):
    for i, item in enumerate(items):
        if i == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

fill(
    Path(sys.argv[3]), engine, {rows}, {coordinates}, {classes}, strength=1.0,
    made_by={{"classifier": "a"}}, progress=progress, rank=rank, world_size=2,
)
"""


def test_processes_at_one_time_of_which_one_is_killed_leave_the_bits_of_one(
    engine: Counting, whole: Tensor, statistics: Statistics, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    statistics.save(tmp_path / "statistics.safetensors", {})
    program = PROGRAM.format(rows=ROWS, coordinates=COORDINATES, classes=CLASSES)
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    fixed = [sys.executable, "-c", program, tiny_checkpoint, tmp_path / "statistics.safetensors"]
    running = [
        subprocess.Popen([*fixed, path, str(rank), str(killed_at)], env={**os.environ, **threads})
        for rank, killed_at in ((1, 1), (0, -1))
    ]
    assert [process.wait(timeout=120) for process in running] == [-signal.SIGKILL, 0]
    filled(path, engine)
    assert engine.asked == ROWS[3:4]  # the second image of rank 1
    assert torch.equal(stored(path), whole)


def test_a_process_waits_for_the_group_no_longer_than_its_patience(
    engine: Counting, tmp_path: Path
) -> None:
    message = r"the process of rank 0 must make '.*effects.zarr' within 0.05 s, got nothing"
    with pytest.raises(InputError, match=message):
        filled(tmp_path / "effects.zarr", engine, rank=1, world_size=2, patience_s=0.05)
    assert engine.asked == []


def test_a_process_refuses_the_group_of_another_search_at_once(
    engine: Counting, tmp_path: Path
) -> None:
    path = tmp_path / "effects.zarr"
    filled(path, engine)
    with pytest.raises(InputError, match="got another 'strength'"):
        filled(path, engine, strength=2.0, rank=1, world_size=2)


# Another search's, or damaged


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("classifier", {"made_by": {"classifier": "b"}}),
        ("strength", {"strength": 2.0}),
        ("rows", {"rows": [2, 0, 5, 3, 7]}),
        ("rows", {"rows": [2, 0, 5, 7]}),
        ("coordinates", {"coordinates": list(range(6))}),
        ("classes", {"classes": [0, 2]}),
    ],
)
def test_effects_of_another_search_are_refused_and_left_as_they_were(
    engine: Counting, whole: Tensor, tmp_path: Path, fact: str, changes: dict[str, Any]
) -> None:
    path = tmp_path / "whole.zarr"
    message = (
        f"output_dir must be new or hold the same search, got another '{fact}' in '{tmp_path}'; "
        "give another output_dir"
    )
    with pytest.raises(InputError, match=message):
        filled(path, engine, **changes)
    assert torch.equal(stored(path), whole)


@pytest.mark.parametrize("name", ["zarr.json", "effects/zarr.json", "done/zarr.json"])
def test_a_group_with_a_truncated_description_is_refused(
    engine: Counting, whole: Tensor, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "whole.zarr"
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])
    for use in (lambda: filled(path, engine), lambda: EffectTable.read(path)):
        with pytest.raises(InputError, match=r"must be a readable zarr group, got a broken one at"):
            use()


@pytest.mark.parametrize("array", ["effects", "done"])
def test_an_image_with_a_truncated_chunk_is_measured_again(
    engine: Counting, whole: Tensor, tmp_path: Path, array: str
) -> None:
    path = tmp_path / "whole.zarr"
    chunk = sorted(file for file in (path / array / "c").rglob("*") if file.is_file())[3]
    chunk.write_bytes(chunk.read_bytes()[:3])
    filled(path, engine)
    assert engine.asked == ROWS[3:4]
    assert torch.equal(stored(path), whole)


@pytest.mark.parametrize("missing", ["zarr.json", "effects", "done"])
def test_a_group_stopped_while_it_was_made_begins_again(
    engine: Counting, whole: Tensor, tmp_path: Path, missing: str
) -> None:
    path = tmp_path / "whole.zarr"
    if missing == "zarr.json":
        (path / missing).write_text('{"zarr_format": 3, "node_type": "group"}')
    else:
        shutil.rmtree(path / missing)
    filled(path, engine)
    assert engine.asked == ROWS
    assert torch.equal(stored(path), whole)
    assert [entry.name for entry in tmp_path.iterdir()] == ["whole.zarr"]  # nothing left beside


# Reading


@pytest.fixture
def effects() -> Tensor:
    """Of nine images, in both directions, at four coordinates, on three classes."""
    return torch.randn(9, 2, 4, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["tensor", "zarr"])
def table(
    request: pytest.FixtureRequest,
    effects: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> EffectTable:
    """The same effects, in memory and on disk, read by pieces of two images."""
    monkeypatch.setattr(table_module, "PIECE_BYTES", 2 * effects[0].nbytes + 1)
    if request.param == "tensor":
        return EffectTable(effects, range(4), range(3))
    effects.copy_(effects.half())
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(9, 2, 4, 3), chunks=(1, 2, 4, 3), dtype="f2"
    )
    array[:] = effects.half().numpy()
    return EffectTable(array, range(4), range(3))


AMONG = torch.tensor([0, 1, 0, 0, 0, 1, 1, 1, 0], dtype=torch.bool)
EVERYTHING, NOTHING = torch.ones(9, dtype=torch.bool), torch.zeros(9, dtype=torch.bool)
ALL_FREE = torch.ones(2, 4, dtype=torch.bool)


def gain_of(score: Score) -> Gain:
    """On images whose own logits are known."""
    return Gain(score, torch.randn(9, 3, generator=torch.Generator().manual_seed(2)))


def slow_mean(gain: Gain, effects: Tensor, pick: Pick, among: Tensor) -> float:
    """One image at a time."""
    rows = among.nonzero()[:, 0].tolist()
    logits = gain.logits.double()
    changes = [effects[i, pick.direction, pick.coordinate].double() for i in rows]
    gains = [gain.score.change(logits[i], change) for i, change in zip(rows, changes, strict=True)]
    return float(sum(gains)) / len(rows)


@pytest.mark.parametrize("score", [Logit(1), Rise(1), LogProbability(1)])
@pytest.mark.parametrize("among", [AMONG, EVERYTHING])
def test_a_mean_is_that_of_the_gains_of_the_images_that_count(
    table: EffectTable, effects: Tensor, score: Score, among: Tensor
) -> None:
    gain = gain_of(score)
    found = table.means(gain, among)
    assert found.shape == (2, 4)
    for d in (0, 1):
        for s in range(4):
            expected = slow_mean(gain, effects, Pick(s, d), among)
            assert float(found[d, s]) == pytest.approx(expected, abs=1e-6)


def test_a_mean_of_no_image_is_refused(table: EffectTable) -> None:
    with pytest.raises(InputError, match="a mean of effects needs at least one image, got none"):
        table.means(gain_of(Logit(0)), NOTHING)


@pytest.mark.parametrize("among", [AMONG, EVERYTHING])
def test_the_best_is_the_free_edit_with_the_highest_mean_above_0(
    table: EffectTable, effects: Tensor, among: Tensor
) -> None:
    gain, free = gain_of(LogProbability(2)), ALL_FREE.clone()
    means = {
        Pick(s, d): slow_mean(gain, effects, Pick(s, d), among) for s in range(4) for d in (0, 1)
    }
    order = sorted(means, key=lambda pick: -means[pick])
    assert means[order[-1]] < 0 < means[order[1]]
    for pick in order:
        assert table.best(gain, among, free) == (pick if means[pick] > 0 else None)
        free[pick.direction, pick.coordinate] = False
    assert table.best(gain, among, free) is None


def test_an_edit_raises_if_its_mean_is_above_0(table: EffectTable, effects: Tensor) -> None:
    gain = gain_of(Logit(0))
    found = {table.raises(Pick(s, d), gain, AMONG) for s in range(4) for d in (0, 1)}
    assert found == {True, False}
    for s in range(4):
        for d in (0, 1):
            expected = slow_mean(gain, effects, Pick(s, d), AMONG) > 0
            assert table.raises(Pick(s, d), gain, AMONG) == expected


def test_an_edit_without_effect_is_neither_best_nor_raising() -> None:
    table = EffectTable(torch.zeros(9, 2, 4, 3), range(4), range(3))
    assert table.best(gain_of(Logit(0)), EVERYTHING, ALL_FREE) is None
    assert not table.raises(Pick(0, 0), gain_of(Logit(0)), EVERYTHING)


def test_of_equal_means_the_first_is_best() -> None:
    table = EffectTable(torch.ones(9, 2, 4, 3), range(4), range(3))
    assert table.best(gain_of(Logit(0)), EVERYTHING, ALL_FREE) == Pick(0, 0)


def test_a_column_is_an_edits_effects_on_the_images_asked_for(
    table: EffectTable, effects: Tensor
) -> None:
    assert torch.equal(table.column(Pick(2, 1), EVERYTHING), effects[:, 1, 2])
    assert torch.equal(table.column(Pick(3, 0), AMONG), effects[AMONG, 0, 3])
    assert table.column(Pick(0, 0), NOTHING).shape == (0, 3)


def test_coordinates_that_are_not_kept_have_no_mean_and_are_never_best(effects: Tensor) -> None:
    table, gain = EffectTable(effects, [7, 1, 4, 2], range(3)), gain_of(Logit(1))
    whole = EffectTable(effects, range(4), range(3))
    assert table.num_coordinates == 8
    means = table.means(gain, AMONG)
    assert torch.equal(means[:, [7, 1, 4, 2]], whole.means(gain, AMONG))
    assert (means[:, [0, 3, 5, 6]] == -math.inf).all()
    best = whole.best(gain, AMONG, ALL_FREE)
    expected = Pick((7, 1, 4, 2)[best.coordinate], best.direction)
    assert table.best(gain, AMONG, torch.ones(2, 8, dtype=torch.bool)) == expected
    none_kept = torch.zeros(2, 9, dtype=torch.bool)
    none_kept[:, [0, 3, 8]] = True
    assert table.best(gain, AMONG, none_kept) is None
    assert torch.equal(table.column(Pick(4, 1), AMONG), effects[AMONG, 1, 2])


def test_a_table_measured_now_holds_the_engines_changes_of_all_classes(engine: Counting) -> None:
    found = EffectTable.measured(engine.measure, torch.tensor(ROWS), COORDINATES, 2.0)
    edits = Edits.grid(torch.tensor(ROWS), torch.tensor(COORDINATES), 2.0)
    assert torch.equal(found.effects, engine.measure(edits).view(5, 2, 6, 3))
    assert (found.coordinates, found.classes) == (tuple(COORDINATES), (0, 1, 2))


def test_an_image_is_stable_up_to_the_given_share_of_large_entries() -> None:
    effects = torch.zeros(4, 2, 3, 2)
    effects[0] = 2.0  # at the limit: not large
    effects[1, 0, 0, 0], effects[1, 1, 2, 1] = 2.1, -2.1  # two large ones of twelve
    effects[2, 0, 0, 0], effects[2, 1, 2, 1], effects[2, 0, 1, 0] = 2.1, -2.1, 3.0
    table = EffectTable(effects, range(3), range(2))
    assert table.stable(2.0, 2.5 / 12).tolist() == [True, True, False, True]
    assert table.stable(2.0, 1.5 / 12).tolist() == [True, False, False, True]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_stable_images_have_few_entries_beyond_the_change(
    table: EffectTable, effects: Tensor, share: float
) -> None:
    expected = [(image.abs() > 0.9).sum() <= share * 24 for image in effects]
    assert table.stable(0.9, share).tolist() == expected


def test_a_table_knows_its_axes(table: EffectTable, whole: Tensor, tmp_path: Path) -> None:
    assert table.num_images == 9
    found = EffectTable.read(tmp_path / "whole.zarr")
    assert (found.coordinates, found.classes) == (tuple(COORDINATES), tuple(CLASSES))
    for position, coordinate in enumerate(COORDINATES):
        column = found.column(Pick(coordinate, 1), torch.ones(5, dtype=torch.bool))
        assert torch.equal(column, whole[:, 1, position].float())
    with pytest.raises(InputError, match=r"the shape \(9, 2, 5, 3\) of their .*, got \(9, 2, 4, 3"):
        EffectTable(table.effects, range(5), range(3))


def test_reading_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be an existing zarr group, got '.*none.zarr'"):
        EffectTable.read(tmp_path / "none.zarr")


def test_quiet_gives_the_items_as_they_are() -> None:
    assert list(quiet([3, 1, 2], "anything")) == [3, 1, 2]


# Memory

LARGE = """
import resource, sys
from pathlib import Path
import torch
from stylex.search import table as module
from stylex.progress import quiet
from stylex.search.scores import Logit
from stylex.search.selection import Gain, Pick
from stylex.search.table import EffectTable, fill

module.PIECE_BYTES = 2**23

class Random:
    changes = torch.randn(2048, 256)

    def measure(self, edits):
        return self.changes

    def forget(self):
        pass

n, path = int(sys.argv[1]), Path(sys.argv[2])
random = Random()
fill(path, random, range(n), range(1024), range(256), strength=1.0, made_by={}, progress=quiet)
table = EffectTable.read(path)
everything = torch.ones(n, dtype=torch.bool)
table.means(Gain(Logit(0), torch.zeros(n, 256)), everything)
table.column(Pick(5, 0), everything)
table.stable(1.0, 0.1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


# glibc's settings under which what is freed goes back at once, so that peaks repeat.
EXACT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    peaks = []
    for n in (15, 40):  # of 2 MiB in float32
        arguments = [sys.executable, "-c", LARGE, str(n), tmp_path / f"{n}.zarr"]
        environment = {**os.environ, **EXACT}
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=True, env=environment
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.02 * peaks[0]

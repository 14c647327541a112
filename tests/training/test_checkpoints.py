"""The state that a run goes on from: whole, the last ones and the best, whatever happens."""

import errno
import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from plain_trainer import loader, trainer
from torch import Tensor

from stylex.artifacts import _Checked, write_checked_state
from stylex.errors import InputError
from stylex.training.callbacks import Validation
from stylex.training.checkpoints import (
    BEST,
    BEST_FILE,
    EARLIER_STATE,
    Checkpoint,
    Keeper,
    stored_state,
    take_over,
)
from stylex.training.module import StylExModule
from stylex.types import Images

MakeModule = Callable[..., StylExModule]
Batch = tuple[Images, Tensor]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # in Lightning
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),  # classifier
]


class Terms(Callback):
    """Keeps every step's terms; raises at one step, as if the run were stopped."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.found: list[dict[str, float]] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keeps the terms."""
        self.found.append({name: float(value) for name, value in outputs.items()})
        if int(pl_module.step) == self.stop_at:
            raise RuntimeError("stopped")


def quiet_checkpoint(folder: Path, state: dict[str, Any] | None, every_steps: int) -> Checkpoint:
    return Checkpoint(folder, every_steps, state, {"seed": 0}, lambda _: None)


def assert_same_state(found: Any, expected: Any) -> None:  # noqa: ANN401  any nesting
    """Bit for bit, through dictionaries and lists."""
    assert type(found) is type(expected)
    if isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for key in expected:
            assert_same_state(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same_state(a, b)
    elif isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_a_stopped_run_goes_on_bit_for_bit_as_if_it_had_never_stopped(
    make_module: MakeModule, batches: list[Batch], tmp_path: Path
) -> None:
    lazy = {"path_length_interval": 2, "r1_interval": 3}
    whole_terms, first_terms, second_terms = Terms(), Terms(stop_at=5), Terms()
    whole = make_module(**lazy)
    trainer(tmp_path, whole_terms).fit(whole, loader(batches[:6]))

    stopped = make_module(**lazy)
    saver = quiet_checkpoint(tmp_path, None, every_steps=3)
    with pytest.raises(RuntimeError, match="stopped"):
        trainer(tmp_path, saver, first_terms).fit(stopped, loader(batches[:6]))
    state = stored_state(tmp_path)
    resumed = make_module(init_seed=7, **lazy)  # all that counts comes from the state
    saver = quiet_checkpoint(tmp_path, state, every_steps=100)
    trainer(tmp_path, saver, second_terms).fit(resumed, loader(batches[3:6]))

    assert state["step"] == 3
    assert first_terms.found == whole_terms.found[:5]
    assert second_terms.found == whole_terms.found[3:]
    assert stored_state(tmp_path)["step"] == 6
    saved = {name: stored_state(tmp_path)[name] for name in ("step", "networks", "optimisers")}
    assert_same_state(saved, resumed.training_state())
    assert_same_state(resumed.training_state(), whole.training_state())


def test_a_state_is_saved_with_its_facts_and_the_model_every_few_steps_and_at_the_end(
    make_trainee: MakeModule, tmp_path: Path
) -> None:
    module, exports = make_trainee(), []
    callback = Checkpoint(tmp_path, 3, None, {"seed": 5, "data": {"x": [1]}}, exports.append)
    training = trainer(tmp_path)

    saved_at = []
    for step in range(1, 8):
        module.step = step
        callback.on_train_batch_end(training, module, {}, None, step - 1)
        state = stored_state(tmp_path)
        saved_at.append(state and state["step"])
    callback.on_train_end(training, module)

    assert saved_at == [None, None, 3, 3, 3, 6, 6]
    assert exports == [tmp_path] * 3
    state = stored_state(tmp_path)
    assert (state["step"], state["facts"]) == (7, {"seed": 5, "data": {"x": [1]}})


def test_a_state_holds_no_classifier(make_trainee: MakeModule) -> None:
    networks = make_trainee().training_state()["networks"]

    assert networks
    assert not [name for name in networks if "classifier" in name]


# States ------------------------------------------------------------------------------------------


def keeper(folder: Path, keep_last: int = 2, **best: float) -> Keeper:
    def export(target: Path) -> None:
        (target / "model").write_text(str(len(list(folder.glob("*.ckpt")))))

    folder.mkdir(exist_ok=True)
    return Keeper(folder, {"seed": 0}, export, None, keep_last=keep_last, best=best)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weight": torch.full((100,), float(step)), "sums": {}}


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.glob("*.ckpt"))


@pytest.mark.parametrize("keep_last", [1, 2, 3])
def test_the_last_states_are_kept_and_no_others(tmp_path: Path, keep_last: int) -> None:
    keep = keeper(tmp_path, keep_last)

    for step in (5, 10, 15, 20):
        keep.keep(state(step))

    assert names(tmp_path) == ["0000005", "0000010", "0000015", "0000020"][-keep_last:]
    assert stored_state(tmp_path)["step"] == 20


def test_no_state_at_all_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training.keep_last must be at least 1, got 0"):
        keeper(tmp_path, 0)


def test_a_states_name_has_the_checksum_of_its_content(tmp_path: Path) -> None:
    one, same, other = (
        write_checked_state(tmp_path / name, "1", state(step))
        for name, step in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.name == same.name != other.name


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "nothing left": b"",
            "cut off": content[:middle],
            "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "wrong magic": b"XX" + content[2:],
            "random": os.urandom(len(content)),
            "longer": content + b"\0",
            "pickle": pickle.dumps({"step": 1}),
        }[how]
    )


SPOILT = ("nothing left", "cut off", "one bit", "wrong magic", "random", "longer", "pickle")


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_newest_state_is_passed_over_for_the_one_before_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    keep = keeper(tmp_path)
    for step in (5, 10):
        keep.keep(state(step))
    newest = sorted(tmp_path.glob("*.ckpt"))[-1]
    spoil(newest, how)

    found = stored_state(tmp_path)

    assert found["step"] == 5
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert newest.name in said
    assert "goes on with the one before it, of step 5" in said


@pytest.mark.parametrize("how", SPOILT)
def test_a_run_without_a_whole_state_ends_in_one_sentence(tmp_path: Path, how: str) -> None:
    keep = keeper(tmp_path)
    for step in (5, 10):
        keep.keep(state(step))
    for path in tmp_path.glob("*.ckpt"):
        spoil(path, how)

    with pytest.raises(InputError, match="from a whole state, got 2 in .* and none of them whole"):
        stored_state(tmp_path)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_inside_a_state_is_not_run_though_its_checksum_is_right(tmp_path: Path) -> None:
    fuse = tmp_path / "exploded"
    write_checked_state(tmp_path, "0000005", {**state(5), "facts": {}, "bad": Bomb(fuse)})

    with pytest.raises(InputError, match="none of them whole .*UnpicklingError"):
        stored_state(tmp_path)

    assert not fuse.exists()


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(2)}, {"step": "5", "facts": {}, "sums": {}}]
)
def test_a_whole_file_of_something_else_is_no_state(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    write_checked_state(tmp_path, "0000005", content)

    with pytest.raises(InputError, match="none of them whole"):
        stored_state(tmp_path)


def test_a_state_of_other_shapes_or_names_is_one_sentence(
    make_trainee: MakeModule, tmp_path: Path
) -> None:
    module = make_trainee()
    whole = module.training_state()
    networks = dict(whole["networks"])
    name = next(iter(networks))
    for changed in (
        {**whole, "networks": {**networks, name: torch.zeros(7, 7)}},
        {**whole, "networks": {}},
        {**whole, "optimisers": []},
        {**whole, "optimisers": [{}, {}, {}]},
        {"step": 3},
    ):
        with pytest.raises(InputError, match="state must be of the model that goes on, got other"):
            take_over(module.load_training_state, changed)


def test_states_of_an_abandoned_future_go_with_the_first_saving(tmp_path: Path) -> None:
    keep = keeper(tmp_path)
    for step in (5, 10):
        keep.keep(state(step))
    spoil(sorted(tmp_path.glob("*.ckpt"))[-1], "cut off")

    keep.keep(state(8))

    assert names(tmp_path) == ["0000005", "0000008"]


def test_a_state_of_an_earlier_version_is_refused_and_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / EARLIER_STATE).write_bytes(b"a state")

    with pytest.raises(InputError, match="earlier version; give another output_dir"):
        stored_state(tmp_path)


def test_a_folder_without_a_state_has_none(tmp_path: Path) -> None:
    (tmp_path / "other.ckpt").write_bytes(b"mine")

    assert stored_state(tmp_path) is None


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_disk_that_fails_leaves_the_last_state_whole_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    keep = keeper(tmp_path)
    keep.keep(state(5))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if failing == "write":
            file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
            patched.setattr("stylex.artifacts._Checked", lambda _: _Checked(file))
        else:
            patched.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space left"):
            keep.keep(state(10))
        if failing == "write":
            file.close()

    assert stored_state(tmp_path)["step"] == 5
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".ckpt") == ["model"]
    assert names(tmp_path) == ["0000005"]


# The best ----------------------------------------------------------------------------------------


def test_the_best_model_is_that_of_the_lowest_weighted_sum(tmp_path: Path) -> None:
    keep = keeper(tmp_path, kl=1.0, l1=2.0)

    for step, kl, l1 in ((1, 1.0, 1.0), (2, 2.0, 0.25), (3, 0.25, 2.0), (4, 2.0, 0.25)):
        keep.keep(state(step))
        keep.consider(step, {"kl": kl, "l1": l1, "more": 9.0})

    found = json.loads((tmp_path / BEST / BEST_FILE).read_text())
    assert (found["step"], found["value"]) == (2, 2.5)
    assert found["weights"] == {"kl": 1.0, "l1": 2.0}
    assert (tmp_path / BEST / "model").is_file()


def test_what_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    keep = keeper(tmp_path, kl=1.0)

    for step, kl in ((1, float("nan")), (2, float("-inf")), (3, 7.0), (4, float("nan"))):
        keep.consider(step, {"kl": kl})

    assert json.loads((tmp_path / BEST / BEST_FILE).read_text())["step"] == 3


def test_an_unknown_metric_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"validation's metrics \(kl, l1\), got 'accuracy'"):
        keeper(tmp_path, accuracy=-1.0).consider(1, {"kl": 1.0, "l1": 1.0})


def test_without_weights_there_is_no_best(tmp_path: Path) -> None:
    keeper(tmp_path).consider(1, {"kl": 1.0})

    assert not (tmp_path / BEST).exists()


def test_a_run_that_goes_on_knows_its_best(tmp_path: Path) -> None:
    first = keeper(tmp_path, kl=1.0)
    first.consider(1, {"kl": 0.5})
    first.keep(state(1))

    second = Keeper(
        tmp_path, {}, lambda _: None, stored_state(tmp_path), keep_last=2, best={"kl": 1.0}
    )
    second.consider(2, {"kl": 0.6})
    assert json.loads((tmp_path / BEST / BEST_FILE).read_text())["step"] == 1
    second.consider(3, {"kl": 0.4})

    assert json.loads((tmp_path / BEST / BEST_FILE).read_text())["step"] == 3


def test_validation_decides_on_the_best_in_the_step_in_which_it_was_measured(
    make_trainee: MakeModule, tmp_path: Path
) -> None:
    module, training = make_trainee(), trainer(tmp_path)
    values = iter([3.0, 1.0, 2.0])
    measuring = Validation(2, lambda: {"kl": next(values)})
    saver = Checkpoint(tmp_path, 100, None, {}, lambda _: None, best={"kl": 1.0})
    training.callbacks = [measuring, saver]  # type: ignore[attr-defined]

    for step in range(1, 5):
        module.step = step
        for callback in (measuring, saver):
            callback.on_train_batch_end(training, module, {}, None, step - 1)

    found = json.loads((tmp_path / BEST / BEST_FILE).read_text())
    assert (found["step"], found["metrics"]) == (2, {"kl": 1.0})

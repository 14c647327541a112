"""What is typed, however odd: taken, or refused in one sentence before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
import test_fuzz_archives
import test_fuzz_images
import test_fuzz_models
import test_fuzz_numbers
import test_fuzz_tables
from doors import code_of
from fuzzing import Entrance, assert_lawful, assert_whole, cases
from hypothesis import given, settings
from hypothesis import strategies as st

from stylex.errors import InputError
from stylex.overrides import check_overrides, sorted_out

TYPED = (
    *("=", "==", "=3", "seed", "seed=", "seed==3", "seed=3=4", "seed=[3", "seed=3]", "seed={3"),
    *("seed='3", 'seed="3', "seed=\\", "seed=$", "seed=${", "seed=${seed}x", "seed=${nothing}"),
    *(
        "+seed=3",
        "++seed=x",
        "~seed",
        "~seed=4",
        "~nothing",
        "+",
        "~",
        "++",
        "seed=a,b",
        "seed=1,2",
    ),
    *("seed=range(3)", "seed=choice(1,2)", "seed=glob(*)", "seed=shuffle(1)", "seed=tag(a,1)"),
    *(
        "seed=\u0663",
        "s\u00e9ed=3",
        "\u202eseed=3",
        "seed=\u202e3",
        "seed=\x00",
        "\x00=3",
        "seed=\n",
    ),
    *(
        "seed=1e",
        "seed=0x10",
        "seed=1_000",
        "seed=true",
        "seed=null",
        "seed=''",
        "seed=[]",
        "seed={}",
    ),
    *("data=", "data=../../etc", "data=/etc/passwd", "data=[folder,fashion]", "data={a:1}"),
    *("data=null", "data=Folder", "classifier=", "task=", "task=[stylex]", "task=null", "model="),
    *("training.weights=3", "training.weights=null", "training.weights=[]", "training=null"),
    *("training.=3", ".training=3", "training..num_steps=3", "training.num_steps.x=3"),
    *("training.stages=x", "training.stages=[x]", "training.stages=[{from_step: x}]"),
    *("training.stages=[{}]", "training.stages=[null]", "training.stages={a: 1}"),
    *("training.betas=3", "training.betas=[0.5]", "training.betas=[a,b]", "training.betas=[]"),
    *("training.best=x", "training.best=[]", "training.best={a: b}", "training.best={}"),
    *("data.root=", "hydra.run.dir=/nowhere/x", "hydra=x", "hydra.verbose=x", "hydra/help=x"),
    *("x" * 5000, f"{'x' * 5000}=1", f"seed={'9' * 5000}", f"output_dir={'x/' * 5000}"),
    *(
        f"output_dir={'x' * 300}",
        "output_dir=null",
        "output_dir=",
        "output_dir=[a]",
        "output_dir={}",
    ),
)
CHANGED: dict[str, dict[str, Any]] = {
    f"{key}={value!r}"[:60]: {key.replace(".", "__"): value}
    for key, values in {
        "task": ("", "x", None, 3, ["stylex"]),
        "output_dir": ("x" * 300, "a\0b", "/proc/x", "/dev/null/x"),
        "data.root": (
            "",
            "\0",
            "x" * 5000,
            "/dev/zero",
            "/proc/self/mem",
            3,
            None,
            ["a"],
            {"a": 1},
        ),
        "data.labels": ("", "\0", "x" * 5000, "/dev/null", 3, ["a"], {"a": 1}),
        "data.classes": (3, "", "cat", [], ["circle"], ["circle", "circle"], [1, 2], {}, {"a": 1})
        + ({"a": "*", "b": "*"}, ["*", "["], {"": "*"}, {"a": ["["]}),
        "data.columns": (3, "x", [], {"x": 1}, {"file": None}, {"file": 3}),
        "data.splits": (3, "x", [], {}, {"x": "y"}, {"train": None}, {"train": "["}),
        "data.cache": ("/dev/null/x", "\0", "x" * 5000),
        "data.on_error": ("", None, 3, "SKIP"),
        "data.augmentation": ("nowhere", "\0", "/dev/null", 3),
        "classifier.network": ("", "x", ":", "a:b", "os:system", "stylex:nothing", "..:x", 3, None),
        "classifier.arguments": ({}, {"x": 1}, {"width": "x"}, {"width": None}),
        "classifier.weights": ("", "\0", "/dev/null", "/", "x" * 5000, 3),
        "classifier.input_range": ([], [1], [1, 0], [0, 0], ["a", "b"], [0, 1, 2], "x", 3, None),
        "classifier.mean": ([], [[1]], "x", 3, None, ["a"], [1, 2]),
        "classifier.std": ([], [0], [-1], "x", 3, None, ["a"]),
        "classifier.feature_layers": ("x", 3, None, [""], ["x"], [3], [None]),
        "model.appended": ("", None, 3),
        "model.init_from": ("", "\0", "/", "/dev/null", "x" * 5000),
        "trainer.accelerator": ("x", None, "gpu", "tpu", 3),
        "trainer.devices": ("x", None, [], [7], "0,1", -1),
        "trainer.precision": ("x", None, 3, "64"),
        "ops.impl": ("x", None, 3),
        "ops.precision": ("x", None, 3),
        "ops.channels_last": ("x", None, 3),
        "ops.compile": ("x", 3),
        "training.perceptual": ("x", None, 3),
        "training.augment.mode": ("x", None, 3),
        "training.hidden_by": ("x", None, 3),
    }.items()
    for value in values
}


def distinct() -> set[str]:
    """All inputs of these files, each with what it is given to."""
    found = {f"typed {text}" for text in TYPED} | {f"changed {name}" for name in CHANGED}
    found |= {f"number {name} {key} {value}" for name, key, value in test_fuzz_numbers.REFUSED}
    images = {**test_fuzz_images.corpus(), **test_fuzz_images.not_files()}
    found |= {f"image {name}" for name in images}
    found |= {f"archive {name}" for name in test_fuzz_archives.corpus()}
    for part in ("labels", "studies", "groups", "names"):
        found |= {f"{part} {name}" for name in getattr(test_fuzz_tables, part)()}
    for part in ("weights", "configurations", "states"):
        found |= {f"{part} {name}" for name in getattr(test_fuzz_models, part)()}
    return found


def test_there_are_at_least_300_inputs_that_are_files_or_typed_and_as_many_numbers() -> None:
    found = distinct()
    assert len([name for name in found if not name.startswith("number")]) >= 300
    assert len([name for name in found if name.startswith("number")]) >= 300


@pytest.mark.parametrize("changed", cases(CHANGED))
def test_an_odd_setting_is_taken_or_refused_in_a_sentence(
    changed: dict[str, Any],
    entrances: dict[str, Entrance],
    home: Path,
    monkeypatch: Any,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = entrances["train"].enter(**changed)
    assert_lawful(code, said, (0, 2))
    assert_whole(home / "output")


@pytest.mark.parametrize("text", TYPED)
def test_odd_words_are_taken_or_refused_in_a_sentence(text: str) -> None:
    try:
        check_overrides("train", [text])
    except InputError as error:
        assert str(error).strip()


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=60)
def test_any_word_is_taken_or_refused(key: str, value: str) -> None:
    try:
        sorted_out([f"{key}={value}"], False)
    except InputError as error:
        assert str(error).strip()


@pytest.mark.slow
@pytest.mark.parametrize("text", TYPED)
def test_the_whole_door_refuses_odd_words(
    text: str, entrances: dict[str, Entrance], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed = [text, f"data.root={tmp_path}", "data=folder", "data.resolution=32"]
    code = code_of("train", entrances["train"].do, typed)
    assert_lawful(code, capsys.readouterr().err)

"""Numbers that no setting means are refused in one sentence before any work begins."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from doors import compose
from fuzzing import Entrance, assert_lawful, assert_whole, numbers
from omegaconf import OmegaConf

from stylex.errors import InputError
from stylex.overrides import check_kind

NONSENSE: tuple[Any, ...] = (float("nan"), float("inf"), -float("inf"))
LARGE = (10**30, 1e30)
ODD = (0, 1.5, 10**6)
NEGATIVE = (  # what may be below 0
    *("training.best.", "classifier.mean.", "classifier.input_range.0", "data.rule."),
    *("search.least_rise", "training.augment.target"),
)
LIMITLESS = ("classifier.input_range.", "classifier.mean.", "classifier.std.", "layer")
TASKS = {
    "train": ("train", ["data=folder"]),
    "classifier": ("train", ["task=classifier", "data=folder"]),
    "embedding": ("train", ["task=embedding", "data=folder"]),
    "search": ("search", ["data=folder"]),
    "check": ("check", []),
    "doctor": ("doctor", ["data=folder", "classifier=small_cnn"]),
    "scores": ("evaluation", []),
    "augment": ("evaluation", ["task=augment"]),
    "reader": ("evaluation", ["task=reader", "data=faces"]),
    "report": ("report", []),
    "attribution": ("attribution", []),
}
ELSEWHERE = (  # a method's own laws
    *("layer", "layers", "content_layers", "style_layers"),
    *("style", "style_weights", "randomised"),
)


@cache
def keys(name: str) -> tuple[str, ...]:
    """Of all numbers in a door's configuration."""
    config, typed = TASKS[name]
    given = [*typed, "data.root=x", "data.resolution=32"] if "data=folder" in typed else typed
    given = [*given, "data.root=x"] if name == "check" else given
    plain = OmegaConf.to_container(compose(config, given), resolve=True)
    assert isinstance(plain, dict)
    return tuple(key for key in numbers(plain) if not key.startswith("hydra"))


PAIRS = [(name, key) for name in TASKS for key in keys(name)]


def own(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what another door has told already, and what a method judges by itself."""
    seen: set[str] = set()
    found = []
    for name, key in pairs:
        parts = key.split(".")
        if key not in seen and not set(parts) & set(ELSEWHERE):
            found.append((name, key))
        seen.add(key)
    return found


OWN = own(PAIRS)
REFUSED = [(name, key, value) for name, key in OWN for value in (*NONSENSE, *LARGE, -1)]


def must_be_refused(key: str, value: float) -> bool:
    if value == -1:
        return not key.startswith(NEGATIVE)
    return value in NONSENSE or value != value or not key.startswith(LIMITLESS)  # noqa: PLR0124


FAST = [pair for pair in OWN if pair[0] != "attribution"]  # whose configuration is a long one
SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in OWN if pair not in FAST]


@pytest.mark.parametrize(("name", "key"), [*FAST, *SLOW])
def test_what_no_setting_means_is_refused(
    name: str, key: str, entrances: dict[str, Entrance], home: Path
) -> None:
    for value in (*NONSENSE, *LARGE, -1):
        if must_be_refused(key, value):
            code, said = entrances[name].enter(**{key.replace(".", "__"): value})
            assert_lawful(code, said)
            assert key.rpartition(".")[2].strip("0123456789") in said, said
    assert_whole(home / "output")


@pytest.mark.parametrize(("name", "key"), OWN)
def test_a_text_is_no_number(name: str, key: str, entrances: dict[str, Entrance]) -> None:
    default = OmegaConf.select(entrances[name].config, key)
    if default is None:
        pytest.skip("null by default")
    with pytest.raises(InputError, match=f"{key} must be a number, got 'much'"):
        check_kind(key, default, "much")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), FAST)
def test_an_odd_number_is_refused_or_taken_but_never_a_traceback(
    name: str, key: str, entrances: dict[str, Entrance], home: Path
) -> None:
    for value in ODD:
        if name == "doctor" and value == 10**6:
            continue  # it would look at that many
        code, said = entrances[name].enter(**{key.replace(".", "__"): value})
        assert_lawful(code, said, (0, 1, 2))
    assert_whole(home / "output")

"""The photographs of other packages."""

import importlib.util

import pytest

from stylex.data import photographs
from stylex.errors import InputError


def test_each_photograph_is_there_with_its_class() -> None:
    data = photographs.Photographs(split="test", resolution=64, channels=3)
    images, labels = data.batch(range(len(data)))
    assert images.shape == (10, 3, 64, 64)
    assert len(data.class_names) == 1000
    assert data.class_names[labels[1]] == "espresso"
    assert images.flatten(1).std(dim=1).min() > 0.1  # none is empty


def test_there_is_no_training_split() -> None:
    with pytest.raises(InputError, match="a test split alone, got train"):
        photographs.Photographs(split="train", resolution=64, channels=3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"need scikit-image, got none; pip install 'stylex\[attr"):
        photographs.Photographs(split="test", resolution=64, channels=3)
    assert importlib.util.find_spec("skimage")

"""The short public API, as the package's docstring shows it."""

from pathlib import Path

import pytest
import torch

import stylex
from stylex.model import StylEx
from stylex.types import Images


def test_a_stored_model_explains_images_in_two_calls(
    tiny_checkpoint: Path, tiny_model: StylEx, tiny_images: Images
) -> None:
    model = stylex.load(tiny_checkpoint)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    result = stylex.explain(model, tiny_images, image=2, k=3)
    assert 1 <= len(result.attributes) <= 3
    expected = stylex.explain(tiny_model, tiny_images, image=2, k=3)
    assert [a.as_json() for a in result.attributes] == [a.as_json() for a in expected.attributes]
    assert torch.equal(result.effects, expected.effects)


def test_the_names_of_the_package_are_those_it_declares() -> None:
    from stylex.model import load
    from stylex.search.explanation import explain

    assert stylex.__all__ == ["explain", "load"]
    assert stylex.load is load
    assert stylex.explain is explain
    with pytest.raises(AttributeError, match="module 'stylex' has no attribute 'explane'"):
        stylex.explane  # noqa: B018

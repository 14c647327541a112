"""StylEx training at 16 px: the shipped settings, a module of them, steps without a Trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from stylex.classifier.frozen import FrozenClassifier
from stylex.model import build_discriminator, build_model
from stylex.training.module import StylExModule
from stylex.types import Images

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MakeModule = Callable[..., StylExModule]
Batch = tuple[Images, Tensor]


@pytest.fixture
def settings() -> dict[str, Any]:
    """The shipped settings, with those that the tests speak of fixed.

    The average forgets faster, so that a step moves it visibly.
    """
    shipped = yaml.safe_load((CONFIGS / "training" / "stylex.yaml").read_text())
    fixed = {
        "accumulation": 1,
        "learning_rate": 0.002,
        "noise_path": True,
        "hidden_share": 0.5,
        "hidden_by": "others",
        "perceptual": "classifier",
        "r1_interval": 16,
        "path_length_interval": 4,
        "path_length_shrink": 2,
        "average_half_life_kimg": 0.01,
        "average_ramp": 100.0,
    }
    assert set(fixed) <= set(shipped)
    return {
        **shipped,
        **fixed,
        "batch_size": 16,
        "weights": {**shipped["weights"], "style_deviation": 0.0},
    }


@pytest.fixture
def make_module(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier, settings: dict[str, Any]
) -> MakeModule:
    """Builds a module from the settings and changes to them; `weights` are changed one by one."""

    def make(*, init_seed: int = 0, seed: int = 0, **changes: object) -> StylExModule:
        weights = {**settings["weights"], **changes.pop("weights", {})}
        torch.manual_seed(init_seed)
        model = build_model(tiny_config["model"], tiny_classifier)
        discriminator = build_discriminator(tiny_config["model"], tiny_classifier.num_classes)
        merged = {**settings, **changes, "weights": weights}
        ops = yaml.safe_load((CONFIGS / "ops" / "default.yaml").read_text())
        return StylExModule(model, discriminator, merged, ops, seed)

    return make


@pytest.fixture
def make_trainee(make_module: MakeModule) -> MakeModule:
    """Builds a module that can be stepped by hand: it has its optimisers, and no Trainer."""

    def make(**changes: object) -> StylExModule:
        module = make_module(**changes)
        optimisers = module.configure_optimizers()
        module.optimizers = lambda use_pl_optimizer: optimisers
        module.manual_backward = lambda loss: loss.backward()
        return module

    return make


@pytest.fixture
def batches(tiny_images: Images) -> list[Batch]:
    """Twenty batches of four images, with labels that nobody reads."""
    generator = torch.Generator().manual_seed(4)
    chosen = [torch.randperm(len(tiny_images), generator=generator)[:4] for _ in range(20)]
    return [(tiny_images[rows], torch.zeros(4, dtype=torch.int64)) for rows in chosen]

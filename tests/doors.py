"""Doors opened inside this process, since a new one needs seconds to import torch."""

import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from stylex import door

ROOT = Path(__file__).parents[1]


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration that a door gets."""
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides))


def script(name: str) -> ModuleType:
    """One of the scripts beside the package."""
    spec = importlib.util.spec_from_file_location(f"door_{name}", ROOT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *overrides: str) -> None:
    """Runs one of the scripts; what it raises comes out."""
    module, config = script(name), compose(name, overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        getattr(module, name)(OmegaConf.to_container(config, resolve=True), config)


def code_of(name: str, do: Callable[..., None], typed: Sequence[str]) -> Any:  # noqa: ANN401
    """The exit code of a door that is opened as by a command line."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        patched.setattr(sys, "argv", [name, *typed])
        try:
            door.open_door(name, do)
        except SystemExit as left:
            return left.code
        finally:
            logging.captureWarnings(False)
    return 0

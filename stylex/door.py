"""How every door opens: a user's mistake becomes one sentence and exit code 2."""

import difflib
import importlib.metadata
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stylex.errors import InputError

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SUBMITTER = "hydra-submitit-launcher"


def open_door(config_name: str, run: Callable[[dict[str, Any], DictConfig], None]) -> None:
    """Runs a door with the command line's configuration, then leaves the process.

    Args:
        config_name: File in configs/ without its ending.
        run: Gets the resolved configuration as plain dictionaries, and as Hydra's own for
            `instantiate`.
    """
    try:
        several = bool({"-m", "--multirun", "launcher=slurm"} & set(sys.argv[1:]))
        _check_overrides(config_name, [a for a in sys.argv[1:] if not a.startswith("-")], several)
    except InputError as error:
        _refuse(error)

    def task(config: DictConfig) -> None:
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
        warnings.simplefilter("default")
        try:
            plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            assert isinstance(plain, dict)
            with _shown_log():
                run(plain, config)  # type: ignore[arg-type]
        except InputError as error:
            _refuse(error)
        except InstantiationException as error:
            if isinstance(error.__cause__, InputError):
                _refuse(error.__cause__)
            raise
        except OmegaConfBaseException as error:
            key = getattr(error, "full_key", None) or "a key"
            _refuse(InputError(f"{key} must be given, got nothing; add {key}=VALUE to the command"))

    hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(task)()


def image_set(data: DictConfig, split: str) -> "ImageSet":
    """The configured images of a split, as they are: `augmentation` is for training alone.

    Args:
        data: The configuration's `data`.
        split: "train", "validation" or "test".
    """
    from hydra.utils import instantiate

    own = {key: data[key] for key in data if key != "augmentation"}
    return instantiate(own, split=split, _convert_="all")


def training_set(data: DictConfig) -> "ImageSet":
    """The images to train on: the train split, joined by those of `augmentation` if it is given."""
    from stylex.data.augmentation import AugmentedSet

    images, added = image_set(data, "train"), data.get("augmentation")
    return images if added is None else AugmentedSet(images, Path(str(added)))


@contextmanager
def _shown_log() -> Iterator[None]:
    """Prints what the package logs."""
    log, handler = logging.getLogger("stylex"), logging.StreamHandler(sys.stdout)
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _refuse(error: InputError) -> None:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(2)


def _check_overrides(config_name: str, overrides: list[str], several: bool = False) -> None:
    """Composes once ahead of Hydra, so that a typing mistake is one sentence with the nearest key.

    Args:
        config_name: File in configs/ without its ending.
        overrides: What was typed.
        several: Whether a value may be several, one for each of as many runs.

    Raises:
        InputError: If a key or a group's option does not exist, or a value cannot be read.
    """
    groups, values, swept = _sorted_out(overrides, several)
    if "launcher=slurm" in groups:
        _check_slurm()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            config = hydra.compose(config_name, overrides=groups)
            known = _keys(config)
            for name in (*swept, *(name for _, name in values)):
                if name not in known:
                    raise InputError(_unknown(name, known))
            given = hydra.compose(config_name, overrides=[*groups, *(text for text, _ in values)])
            for _, name in values:
                _check_kind(name, OmegaConf.select(config, name), OmegaConf.select(given, name))
        except HydraException as error:
            raise InputError(f"the configuration must be sound, got: {error}") from error


def _sorted_out(
    overrides: list[str], several: bool
) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Options of groups, values with their keys, and keys that get several values."""
    parser = OverridesParser.create()
    groups, values, swept = [], [], []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise InputError(
                f"an argument must read key=value, got '{text}'; quote special characters"
            ) from error
        name = override.get_key_element().lstrip("+~")
        if not name:
            raise InputError(
                f"an argument must read key=value, got '{text}'; quote special characters"
            )
        is_group = (CONFIGS / name).is_dir()
        if several and override.is_sweep_override():
            swept += [] if is_group else [name]
        elif is_group:
            groups.append(f"{name}={_check_option(name, override.value())}")
        elif override.is_sweep_override():
            got = text.partition("=")[2]
            raise InputError(
                f"{name} must be one value, got '{got}'; give '{name}=[{got}]' for a list, or add "
                "--multirun for a run of each"
            )
        elif not name.startswith("hydra") and not override.is_add():
            values.append((text, name))
    return groups, values, swept


def _check_slurm() -> None:
    try:
        importlib.metadata.version(SUBMITTER)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"launcher=slurm needs the package {SUBMITTER}, got none; pip install -e '.[slurm]'"
        ) from error
    if shutil.which("srun") is None:
        raise InputError(
            "launcher=slurm needs Slurm's srun, got none on this computer; give the command on one "
            "of the cluster, or leave launcher out"
        )


def _check_option(group: str, value: Any) -> str:  # noqa: ANN401  whatever was typed
    options = sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))
    names = [str(name) for name in (value if isinstance(value, list) else [value])]
    for name in names:
        if value is not None and name not in options:
            near = difflib.get_close_matches(name, options, 1, 0.0)
            raise InputError(
                f"{group} must be one of {', '.join(options)}, got '{name}'; did you mean "
                f"{group}={near[0]}?"
            )
    if isinstance(value, list):
        return f"[{','.join(names)}]"
    return "null" if value is None else names[0]


def _check_kind(name: str, default: Any, given: Any) -> None:  # noqa: ANN401  any values
    """A number stays a number, a switch a switch, and settings with names settings with names."""
    if isinstance(default, bool):
        if not isinstance(given, bool):
            raise InputError(f"{name} must be true or false, got '{given}'")
    elif isinstance(default, int | float) and (
        isinstance(given, bool) or not isinstance(given, int | float)
    ):
        raise InputError(f"{name} must be a number, got '{given}'")
    elif isinstance(default, DictConfig) and not isinstance(given, DictConfig):
        raise InputError(
            f"{name} must be settings, got '{given}'; give some of {', '.join(map(str, default))}"
        )


def _keys(config: Any, prefix: str = "") -> list[str]:  # noqa: ANN401  any node
    found = []
    for key in config:
        name = f"{prefix}{key}"
        found.append(name)
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            found.extend(_keys(config[key], f"{name}."))
    return found


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.0)
    if not difflib.get_close_matches(name, known, 1, 0.6):
        tails = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
        near = tails or near
    return f"a key must be known, got '{name}'; the nearest one is '{near[0]}'"

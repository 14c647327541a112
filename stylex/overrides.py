"""What was typed behind a door's name: read and checked ahead of Hydra.

A typing mistake is one sentence with the nearest key, before anything is composed, imported or run.
"""

import difflib
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stylex.errors import InputError, shown

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PLUGINS = {
    "launcher=slurm": ("hydra-submitit-launcher", "slurm"),
    "sweeper=optuna": ("hydra-optuna-sweeper", "optuna"),
}
LONGEST_KEY = 200  # letters


def check_overrides(config_name: str, overrides: list[str], several: bool = False) -> list[str]:
    """Composes once ahead of Hydra, so that a typing mistake is one sentence with the nearest key.

    Args:
        config_name: File in configs/ without its ending.
        overrides: What was typed.
        several: Whether a value may be several, one for each of as many runs.

    Returns:
        Keys and groups that get several values.

    Raises:
        InputError: If a key or a group's option does not exist, or a value cannot be read.
    """
    groups, values, swept = sorted_out(overrides, several)
    named = [(text, name) for text, name in values if name]
    for asked in PLUGINS:
        if asked in groups:
            _check_plugin(asked)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            config = hydra.compose(config_name, overrides=groups)
            known = _keys(config)
            for name in (*swept, *(name for _, name in named)):
                if name not in known and not (CONFIGS / name).is_dir():
                    raise InputError(_unknown(name, known))
            given = hydra.compose(config_name, overrides=[*groups, *(text for text, _ in values)])
            for name in (name for text, name in named if "${hydra:" not in text):
                check_kind(name, _settled(config, name), _settled(given, name))
            for name, choices in swept.items():
                for choice in choices:
                    check_kind(name, _settled(config, name), choice)
        except (HydraException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the configuration must be sound, got: {error}") from error
    return list(swept)


def sorted_out(
    overrides: list[str], several: bool
) -> tuple[list[str], list[tuple[str, str]], dict[str, list[Any]]]:
    """Options of groups, values with their keys, and what gets several values.

    The several values of a key are there as far as they can be known ahead: not what a study
    draws from an interval, and not what hangs on another key.

    What is Hydra's own or added has no key here: Hydra alone knows what it may be.
    """
    parser = OverridesParser.create()
    groups: list[str] = []
    values: list[tuple[str, str]] = []
    swept: dict[str, list[Any]] = {}
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, ValueError) as error:
            raise InputError(
                f"an argument must read key=value, got '{shown(text)}'; quote special characters"
            ) from error
        name = override.get_key_element().lstrip("+~")
        if not name or len(name) > LONGEST_KEY:
            raise InputError(
                f"an argument must read key=value, got '{shown(text)}'; quote special characters"
            )
        is_group = (CONFIGS / name).is_dir()
        if several and override.is_sweep_override():
            swept[name] = [] if is_group else _choices(override)
            if is_group and override.is_choice_sweep():
                for choice in override.sweep_iterator():
                    _check_option(name, choice)
        elif is_group:
            groups.append(f"{name}={_check_option(name, override.value())}")
        elif override.is_sweep_override():
            got = text.partition("=")[2]
            raise InputError(
                f"{name} must be one value, got '{got}'; give '{name}=[{got}]' for a list, or add "
                "--multirun for a run of each"
            )
        else:
            own = name.startswith("hydra") or override.is_add()
            values.append((text, "" if own else name))
    return groups, values, swept


def _choices(override: Override) -> list[Any]:
    if not (override.is_choice_sweep() or override.is_range_sweep()):
        return []
    found = (v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator())
    settled = [value for value in found if not (isinstance(value, str) and "${" in value)]
    return [OmegaConf.create(value) if isinstance(value, dict) else value for value in settled]


def _check_plugin(asked: str) -> None:
    package, extra = PLUGINS[asked]
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"{asked} needs the package {package}, got none; pip install -e '.[{extra}]'"
        ) from error
    if extra == "slurm" and shutil.which("srun") is None:
        raise InputError(
            "launcher=slurm needs Slurm's srun, got none on this computer; give the command on one "
            "of the cluster, or leave launcher out"
        )


def _check_option(group: str, value: Any) -> str:  # noqa: ANN401  whatever was typed
    if group == "experiment" and isinstance(value, list):
        raise InputError(
            f"experiment must be one, since a second would change parts of the first, got {value}; "
            "give one"
        )
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


def _settled(config: DictConfig, name: str) -> Any:  # noqa: ANN401  any value
    """A key's value; none where it hangs on a key that is not given yet."""
    try:
        return OmegaConf.select(config, name)
    except OmegaConfBaseException:
        return None


def check_kind(name: str, default: Any, given: Any) -> None:  # noqa: ANN401  any values
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
    parent, _, own = name.rpartition(".")
    if parent.endswith("arguments") and parent in known:  # whose keys are the user's own
        return (
            f"a key must be known, got '{name}'; to give another argument, write "
            f"+{parent}.{own}=VALUE with a plus sign"
        )
    near = difflib.get_close_matches(name, known, 1, 0.0)
    if not difflib.get_close_matches(name, known, 1, 0.6):
        tails = [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
        near = tails or near
    return f"a key must be known, got '{name}'; the nearest one is '{near[0]}'"

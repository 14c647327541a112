"""How every door opens: a user's mistake becomes one sentence and exit code 2."""

import difflib
import errno
import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stylex.errors import InputError, shown
from stylex.progress import shown_log
from stylex.ranges import SHARED, TEXTS, check_finite, check_ranges, check_texts

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PLUGINS = {
    "launcher=slurm": ("hydra-submitit-launcher", "slurm"),
    "sweeper=optuna": ("hydra-optuna-sweeper", "optuna"),
}
LONGEST_KEY = 200  # letters
UNREACHABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR)
Run = Callable[[dict[str, Any], DictConfig], float | None]
LOADING = ("augmentation", "batch_size", "num_workers")  # of `data`: how training reads images


def open_door(config_name: str, run: Run) -> None:
    """Runs a door with the command line's configuration, then leaves the process.

    Of several runs each gets an output_dir of its own, and a mistake in one ends that one alone;
    the exit code is 2 all the same.

    Args:
        config_name: File in configs/ without its ending.
        run: Gets the resolved configuration as plain dictionaries, and as Hydra's own for
            `instantiate`; what it returns is what a study lowers.
    """
    several = bool({"-m", "--multirun", *PLUGINS} & set(sys.argv[1:]))
    try:
        typed = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        swept = _check_overrides(config_name, typed, several)
    except InputError as error:
        _refuse(error)
    refused: list[str] = []
    folders: dict[str, str] = {}

    def task(config: DictConfig) -> float | None:
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
        warnings.simplefilter("default")
        try:
            if several:
                _part(config, swept, folders)
            return _value(run, config)
        except (InputError, InstantiationException, OmegaConfBaseException, OSError) as error:
            mistake = _mistake(error)
            if not several:
                _refuse(mistake)
            refused.append(_say(mistake))
            raise mistake from None

    if several:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # its own way ends in a traceback
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(task)()
    except InputError as error:
        if not refused:  # in another process, whose log has it, too
            refused.append(_say(error))
    if refused:
        raise SystemExit(2)


def _value(run: Run, config: DictConfig) -> float | None:
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    check_finite(plain)
    check_ranges(plain, SHARED)  # type: ignore[arg-type]  # keys of a configuration are texts
    check_texts(plain, TEXTS)  # type: ignore[arg-type]
    try:
        with shown_log():
            value = run(plain, config)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what is whole", file=sys.stderr)
        raise SystemExit(130) from None
    if value is None and "sweeper=optuna" in sys.argv:
        raise InputError(
            "sweeper=optuna lowers the best validation value, got none; give training.best"
        )
    return value


def _part(config: DictConfig, swept: list[str], folders: dict[str, str]) -> None:
    """Gives a run among several a folder below output_dir that is named after its own values.

    Args:
        config: Of this run; `output_dir` is changed unless it is given for each run.
        swept: Keys and groups that get several values.
        folders: Of the runs before, with their values; this one is added.

    Raises:
        InputError: If a run with other values has the same folder.
    """
    if config.get("output_dir") is None:
        return
    job = HydraConfig.get()
    names = {*swept, *(job.sweeper.get("params") or {})}
    given = [str(text).lstrip("+") for text in job.overrides.task]
    values = ",".join(sorted(text for text in given if text.partition("=")[0] in names))
    whole = OmegaConf.to_container(config, resolve=False)
    assert isinstance(whole, dict)
    if values and "output_dir" not in names and "${hydra:" not in str(whole["output_dir"]):
        name = re.sub(r"[^\w.=,+-]", "-", values)
        if len(name) > 150:
            name = f"{name[:100]}-{hashlib.sha256(values.encode()).hexdigest()[:12]}"
        config.output_dir = f"{config.output_dir}/{name}"
    folder = str(config.output_dir)
    if folders.setdefault(folder, values) != values:
        raise InputError(f"runs must have an output_dir each, got '{folder}' twice; leave it out")


def image_set(data: DictConfig, split: str) -> "ImageSet":
    """The configured images of a split, as they are: without what is for training alone.

    Args:
        data: The configuration's `data`.
        split: "train", "validation" or "test".
    """
    from hydra.utils import instantiate

    own = {key: data[key] for key in data if key not in LOADING}
    return instantiate(own, split=split, _convert_="all")


def training_set(data: DictConfig) -> "ImageSet":
    """The images to train on: the train split, joined by those of `augmentation` if it is given."""
    from stylex.data.augmentation import AugmentedSet

    images, added = image_set(data, "train"), data.get("augmentation")
    if added is None:
        return images
    cache = data.get("cache")
    return AugmentedSet(images, Path(str(added)), None if cache is None else Path(str(cache)))


def _refuse(error: InputError) -> NoReturn:
    _say(error)
    raise SystemExit(2)


def _say(error: InputError) -> str:
    text = f"error: {' '.join(str(error).split())}"
    print(text, file=sys.stderr, flush=True)
    return text


def _mistake(error: Exception) -> InputError:
    """The user's mistake behind an error; raises what is none."""
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        if isinstance(cause, TypeError | AttributeError | ValueError) and not isinstance(
            cause, InputError
        ):
            key = getattr(error, "full_key", None) or str(error).partition("'")[2].partition("'")[0]
            reason = (str(cause).strip().splitlines() or ["nothing"])[0]
            return InputError(
                f"settings must be of the kind that {key} takes, got {type(cause).__name__} "
                f"({shown(reason)}); look at the option in configs/"
            )
        if not isinstance(cause, InputError | OSError):
            raise error
        return _mistake(cause)
    if isinstance(error, OSError):
        if error.errno not in UNREACHABLE or error.filename is None:
            raise error
        return InputError(
            f"a path must be one that can be read, got '{shown(str(error.filename)[:300])}' "
            f"({error.strerror}); correct it, or its rights"
        )
    if isinstance(error, OmegaConfBaseException):
        missing = re.search(r"Missing mandatory value: ([\w.]+)", str(error))
        key = getattr(error, "full_key", None) or "a key"
        if missing and "." in missing[1]:  # what the key itself hangs on
            key = missing[1]
        return InputError(f"{key} must be given, got nothing; add {key}=VALUE to the command")
    assert isinstance(error, InputError)
    return error


def _check_overrides(config_name: str, overrides: list[str], several: bool = False) -> list[str]:
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
    groups, values, swept = _sorted_out(overrides, several)
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
                _check_kind(name, _settled(config, name), _settled(given, name))
        except (HydraException, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the configuration must be sound, got: {error}") from error
    return swept


def _sorted_out(
    overrides: list[str], several: bool
) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Options of groups, values with their keys, and what gets several values.

    What is Hydra's own or added has no key here: Hydra alone knows what it may be.
    """
    parser = OverridesParser.create()
    groups, values, swept = [], [], []
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
            swept.append(name)
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

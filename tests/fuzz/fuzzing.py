"""Broken inputs given to doors inside this process, and the law of how that must end."""

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from doors import compose
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import safe_open

from stylex import door
from stylex.artifacts import PARTIAL
from stylex.errors import InputError
from stylex.folders import ASIDE

Do = Callable[..., None]


class StartedError(Exception):
    """The input was legal: what would take long has begun."""


def stop(*_: Any, **__: Any) -> None:
    raise StartedError


class Entrance:
    """A door with what is always typed; composed once, since that takes longer than a refusal."""

    def __init__(self, name: str, do: Do, typed: Sequence[str]) -> None:
        self.do, self.config = do, compose(name, typed)

    def enter(self, **given: Any) -> tuple[int, str]:
        """The exit code of the door with some keys changed, and what it says on stderr.

        Args:
            given: Values by key, whose dots are double underscores.
        """
        config = self.config.copy()
        for key, value in given.items():
            change(config, key.replace("__", "."), value)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = self._code(config)
        return code, said.getvalue()

    def _code(self, config: DictConfig) -> int:
        """As `door.open_door` ends with one run; anything else comes out."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a door logs them
                door._value(self.do, config)
        except SystemExit as left:
            assert isinstance(left.code, int)
            return left.code
        except StartedError:
            return 0
        except (InputError, InstantiationException, OmegaConfBaseException, OSError) as error:
            door._say(door._mistake(error))
            return 2
        finally:
            logging.captureWarnings(False)
        return 0


def change(config: DictConfig, key: str, value: Any) -> None:
    """Sets a key; a number in it is a position in a list."""
    above, _, last = key.rpartition(".")
    node = OmegaConf.select(config, above) if above else config
    OmegaConf.set_struct(config, False)
    node[int(last) if last.isdigit() else last] = value


def numbers(node: Mapping[str, Any] | Sequence[Any], above: str = "") -> Iterator[str]:
    """Keys of all numbers."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, value in pairs:
        name = f"{above}{key}"
        if isinstance(value, dict | list):
            yield from numbers(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name


def assert_lawful(code: int, said: str, allowed: Sequence[int] = (2,)) -> None:
    """One sentence with code 2; nothing like a traceback with any other."""
    assert code in allowed, f"{code}: {said}"
    assert "Traceback" not in said
    if code == 2:
        assert said.startswith("error: "), said
        assert said.count("\n") == 1, said
        assert said.endswith("\n"), said
        assert len(said) < 3000, said[:300]


def assert_whole(folder: Path) -> None:
    """Nothing is half written: each file is there for good and can be read, no model is made."""
    for path in folder.rglob("*") if folder.exists() else ():
        assert PARTIAL not in path.name, path
        assert ASIDE not in path.name, path
        assert path.name not in ("model.safetensors", "classifier.safetensors"), path
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            list(csv.reader(io.StringIO(path.read_text()), strict=True))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass


def listing(folder: Path) -> dict[str, str]:
    """Of everything in a folder its content: files' digests, where links point."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            if path.is_symlink():
                found[str(path)] = f"to {path.readlink()}"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = "folder"
    return found


def spoilt(content: bytes, seed: int, share: float = 0.01) -> bytes:
    """Some bytes turned over; the seed says which."""
    changed = bytearray(content)
    digest = hashlib.sha256(str(seed).encode()).digest()
    for i in range(max(1, int(len(content) * share))):
        place = int.from_bytes(hashlib.sha256(digest + bytes([i % 256])).digest()[:4], "big")
        changed[place % len(content)] ^= 1 + digest[i % 32] % 255
    return bytes(changed)


def corrupted(content: bytes, flips: int = 6) -> dict[str, bytes]:
    """A file cut, emptied, overwritten, with another beginning, with bytes turned over."""
    size = len(content)
    cuts = {f"cut at {int(100 * s)} %": content[: int(size * s)] for s in (0.02, 0.2, 0.5, 0.9)}
    ends = {f"without its last {n}": content[:-n] for n in (1, 12)}
    holes = {
        "empty": b"",
        "zeros": bytes(size),
        "one byte": b"\0",
        "another beginning": b"\x7fELF" + content[4:],
        "a hole": content[: size // 3] + bytes(size // 3) + content[size // 3 * 2 :],
        "text": b"not this\n" * 20,
        "a page": b"<html><body>404</body></html>",
        "twice": content + content,
        "something behind it": content + b"\0" * 999,
        "backwards": content[::-1],
    }
    turned = {f"turned over {i}": spoilt(content, i) for i in range(flips)}
    return {**cuts, **ends, **holes, **turned}


Input = tuple[str, Any]


def cases(found: Mapping[str, Any]) -> list[Any]:
    """Parameters of a test, named."""
    return [pytest.param(value, id=name) for name, value in found.items()]

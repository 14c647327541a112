"""TensorFlow's variables in an npz: read, found by the end of a name, turned to PyTorch's axes.

The file is made where TensorFlow 2 is, from SavedModels; each variable's name follows its model's:

    arrays = {}
    for model in ("generator", "encoder", "discriminator", "mobilenet"):
        loaded = tensorflow.saved_model.load(f"{model}.savedmodel")
        arrays |= {f"{model}/{v.name}": v.numpy() for v in loaded.variables}
    numpy.savez("age.npz", **arrays)
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stylex.errors import InputError

Variables = Mapping[str, np.ndarray]


class Entry(NamedTuple):
    """A variable's name after its scopes (`*` for any text), and how its array becomes ours."""

    variable: str
    turn: Callable[[np.ndarray], np.ndarray]


Table = Mapping[str, Entry]


def convolution(weight: np.ndarray) -> np.ndarray:
    """[h w i o] → [o i h w]."""
    return weight.transpose(3, 2, 0, 1)


def depthwise(weight: np.ndarray) -> np.ndarray:
    """[h w c 1] → [c 1 h w]."""
    return weight.transpose(2, 3, 0, 1)


def dense(weight: np.ndarray) -> np.ndarray:
    """[i o] → [o i]."""
    return weight.transpose(1, 0)


def vector(values: np.ndarray) -> np.ndarray:
    """A bias of one value per channel, without the axes it is broadcast over."""
    return values.reshape(-1)


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Reads an npz of plain arrays; a name's last `:0` is dropped.

    Raises:
        InputError: If the file is missing, truncated or no npz, or holds Python objects, which
            could run code and are never loaded.
    """
    if not path.is_file():
        raise InputError(f"the variables must be an existing npz, got '{path}'; save them first")
    rule = f"the variables must be an npz of whole, plain arrays, got '{path}'"
    if not zipfile.is_zipfile(path):
        raise InputError(f"{rule}; save them with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {re.sub(r":\d+$", "", name): file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{rule} ({error}); save each variable's numpy()") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{rule} with the file '{name}'; save them with numpy.savez")
    return found


def find_variable(variables: Variables, model: str, ending: str) -> tuple[str, np.ndarray]:
    """A model's variable by the end of its name, whatever scopes stand before.

    Raises:
        InputError: If there is none, or more than one.
    """
    names = [
        name
        for name in variables
        if fnmatchcase(name, f"{model}/{ending}") or fnmatchcase(name, f"{model}/*/{ending}")
    ]
    if len(names) != 1:
        raise InputError(
            f"the npz must have one variable '{model}/.../{ending}', got "
            f"{', '.join(names) or 'none'}; save the {model}'s own variables, all of them"
        )
    return names[0], variables[names[0]]


def size_of(variables: Variables, model: str, ending: str, axes: str, axis: str) -> int:
    """Length of an axis of a variable.

    Args:
        variables: All variables.
        model: First part of the name.
        ending: Last part of the name.
        axes: One letter per axis of the array, such as `hwio`.
        axis: One of them.

    Raises:
        InputError: If there is no such variable, or it has other axes.
    """
    name, array = find_variable(variables, model, ending)
    if array.ndim != len(axes):
        raise InputError(
            f"the npz's '{name}' must have the axes {' '.join(axes)}, got the shape {array.shape}; "
            "save the released model's variables as they are"
        )
    return array.shape[axes.index(axis)]


def highest_number(variables: Variables, model: str, pattern: str) -> int:
    """The highest number that stands in a model's names where `pattern` has its group.

    Raises:
        InputError: If no name fits.
    """
    found = [
        int(match.group(1))
        for name in variables
        if name.startswith(f"{model}/") and (match := re.search(pattern, name))
    ]
    if not found:
        raise InputError(
            f"the npz must have variables '{model}/...' that fit '{pattern}', got none; save the "
            f"{model}'s variables, each name after '{model}/'"
        )
    return max(found)


def convert_variables(
    variables: Variables, model: str, table: Table, network: nn.Module
) -> dict[str, Tensor]:
    """A network's state from a model's variables; variables that the table lacks are not read.

    Args:
        variables: All variables.
        model: First part of their names.
        table: For every parameter and buffer of the network, the variable that it comes from.
        network: Tells the shapes that its state must have.

    Raises:
        InputError: If a variable is missing or has another shape.
    """
    expected = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert expected.keys() == table.keys()
    state = {}
    for ours, entry in table.items():
        theirs, array = find_variable(variables, model, entry.variable)
        value = _turned(array, entry)
        if value is None or value.shape != expected[ours]:
            raise InputError(
                f"the npz's '{theirs}' must have the shape that makes {ours} "
                f"{expected[ours]}, got {array.shape}; save the released model's variables as "
                "they are"
            )
        state[ours] = torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
    return state


def _turned(array: np.ndarray, entry: Entry) -> np.ndarray | None:
    """The array in our form, or none if it has too few or too many axes for that."""
    try:
        return entry.turn(array)
    except ValueError:
        return None

"""Published StyleGAN2 weights, read and written under the names of our networks.

A conversion is renaming, by the tables of `stylex.gan.layouts`. Nothing inside a file is run.
Source: Karras et al. 2020 (arXiv:1912.04958).
"""

import argparse
import re
import warnings
from collections.abc import Iterable
from collections.abc import Mapping as Spec
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.artifacts import read_tensors, write_state, write_tensors
from stylex.errors import InputError
from stylex.gan.layers import resampling_taps
from stylex.gan.layouts import LAYOUTS, OURS, Depth, Layout, LayoutName, Network, Place, count
from stylex.gan.mapping import Mapping

Tensors = dict[str, Tensor]
MEAN_SAMPLES = 10_000  # deviates behind the mean latent of an export


@dataclass(frozen=True)
class Weights:
    """StyleGAN2 weights under the names of our networks' state_dicts.

    Attributes:
        generator: Of `Generator`; empty if there is none, as the other two.
        mapping: Of `Mapping`.
        discriminator: Of `Discriminator`.
        mean_latent: Mean of the mapping's outputs, for truncation; it has no place in our networks.
    """

    generator: Tensors
    mapping: Tensors
    discriminator: Tensors
    mean_latent: Float[Tensor, " d"] | None


# Files -------------------------------------------------------------------------------------------


def read(path: Path) -> tuple[Weights, LayoutName]:
    """Reads a file of either layout: state_dicts of generator, discriminator or both.

    Args:
        path: safetensors with prefixes (`G_ema.`, `D.`; `g_ema.`, `d.`) or without, or the same as
            dictionaries from `torch.save`. Averaged weights come before the others.

    Raises:
        InputError: If it is missing, broken, needs code, or holds no StyleGAN2 that fits StylEx.
    """
    if not path.is_file():
        raise InputError(f"published weights must be an existing file, got '{path}'")
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path, "published weights")
    else:
        tensors = _flat(_load(path))
    for name, table in LAYOUTS.items():
        starts = ((i, start) for i in (0, 1) for start in _starts(table, i))
        if any(start + table.marks[i] in tensors for i, start in starts):
            return from_layout(tensors, name), name
    raise _unknown(tensors)


def write(path: Path, weights: Weights, layout: LayoutName) -> None:
    """Writes weights for programs of a layout: `.safetensors` with prefixes, `.pt` as dictionaries.

    Raises:
        InputError: If the file's name has another ending.
    """
    tensors = to_layout(weights, layout)
    if path.suffix == ".safetensors":
        write_tensors(path, tensors)
    elif path.suffix == ".pt":
        nested: dict[str, Any] = {}
        for name, value in tensors.items():
            section, _, rest = name.partition(".")
            if rest:
                nested.setdefault(section, {})[rest] = value
            else:
                nested[name] = value
        write_state(path, nested)
    else:
        raise InputError(f"published weights must end in .safetensors or .pt, got '{path}'")


def _load(path: Path) -> object:
    try:
        # rosinality's training leaves its arguments, plain values, beside the weights.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of pickle protocols, before the refusal
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a bad file
        if isinstance(error, UnpicklingError) and _is_pickle(path):
            raise InputError(
                f"published weights must be tensors alone, got '{path}', a pickle that needs code; "
                "load it in its own repository and there torch.save({'G_ema': "
                "G_ema.state_dict(), 'D': D.state_dict()}, 'weights.pt')"
            ) from error
        raise InputError(
            "published weights must be a whole file of state_dicts, safetensors or torch.save, got "
            f"'{path}' ({type(error).__name__}); copy it again"
        ) from error


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as `torch.save`, in a zip or not, or `pickle.dump` begins one."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def _flat(content: object, start: str = "") -> Tensors:
    """The tensors of nested dictionaries, with the keys on the way joined by points."""
    if isinstance(content, Tensor):
        return {start.removesuffix("."): content}
    if not isinstance(content, dict):
        return {}
    return {
        k: v for key, below in content.items() for k, v in _flat(below, f"{start}{key}.").items()
    }


# Names -------------------------------------------------------------------------------------------


def from_layout(tensors: Spec[str, Tensor], layout: LayoutName) -> Weights:
    """Renames a published state to ours.

    Args:
        tensors: Of a generator (with its mapping), a discriminator, or both, with or without
            prefixes.
        layout: Whose names these are.

    Raises:
        InputError: If these are not the tensors of a StyleGAN2 that fits StylEx.
    """
    table = LAYOUTS[layout]
    generator, discriminator = (_section(tensors, table, i) for i in (0, 1))
    name = table.mean_latent.removeprefix(f"{table.sections[0][0]}.")
    mean = generator.pop(name, tensors.get(name))
    found: dict[Network, Tensors] = {"generator": {}, "mapping": {}, "discriminator": {}}
    for theirs in (generator, discriminator):
        depth = count(table.counted, theirs)
        no_other = {"discriminator": 0} if theirs is generator else {"mapping": 0, "generator": 0}
        for place in _places(theirs, table, depth._replace(**no_other)):
            value = theirs[place.theirs]
            shape = [n for axis, n in enumerate(value.shape) if n != 1 or axis not in place.axes]
            found[place.network][place.ours] = value.reshape(shape)
    return Weights(found["generator"], found["mapping"], found["discriminator"], mean)


def to_layout(weights: Weights, layout: LayoutName) -> Tensors:
    """Renames our state to a published layout's, with prefixes, filters and the mean latent.

    A generator without noise gets noise of strength 0; a mean latent that is not known is taken
    over seeded deviates.
    """
    table = LAYOUTS[layout]
    (generator, *_), (discriminator, *_) = table.sections
    ours: dict[Network, Tensors] = {
        "generator": _with_noise(weights.generator),
        "mapping": weights.mapping,
        "discriminator": weights.discriminator,
    }
    start = {"generator": generator, "mapping": generator, "discriminator": discriminator}
    depth = count(OURS, (name for state in ours.values() for name in state))
    found = {}
    for network, name, theirs, axes in table.places(depth):
        value = ours[network][name]
        for axis in axes:
            value = value.unsqueeze(axis)
        found[f"{start[network]}.{theirs}"] = value
    taps = resampling_taps()
    for network, theirs, gain in table.stored_filters(depth):
        found[f"{start[network]}.{theirs}"] = torch.outer(taps, taps) * gain
    mean = weights.mean_latent
    if weights.mapping:
        found[table.mean_latent] = _mean_latent(weights.mapping) if mean is None else mean
    return found


def _section(tensors: Spec[str, Tensor], table: Layout, which: int) -> Tensors:
    """The generator's or the discriminator's tensors without prefix; nothing if there are none.

    Raises:
        InputError: If its section is there, but of another network.
    """
    starts = _starts(table, which)
    for start in starts:
        if start + table.marks[which] in tensors:
            return {
                name.removeprefix(start): value
                for name, value in tensors.items()
                if name.startswith(start)
            }
    others = [name for name in tensors if name.startswith(starts[:-1])]
    if others:
        raise _unknown(others)
    return {}


def _starts(table: Layout, which: int) -> tuple[str, ...]:
    """What the names of a generator or of a discriminator may begin with."""
    return (*(f"{section}." for section in table.sections[which]), "")


def _places(theirs: Tensors, table: Layout, depth: Depth) -> list[Place]:
    """The tensors of networks of this depth, without noise if there is none.

    Raises:
        InputError: If one is missing, or another is there.
    """
    for pattern, rule in table.unfit.items():
        for name in theirs:
            if re.fullmatch(pattern, name):
                raise InputError(f"published weights must {rule}, got '{name}'")
    places = list(table.places(depth))
    if not any("noise" in place.ours and place.theirs in theirs for place in places):
        places = [place for place in places if "noise" not in place.ours]
    expected = {place.theirs for place in places}
    missing = sorted(expected - theirs.keys())
    if missing:
        raise InputError(
            f"published weights must be whole, got none for '{missing[0]}'; give a StyleGAN2 of "
            "the default architecture"
        )
    taps = resampling_taps()
    for name, value in theirs.items():
        if name.endswith(table.filter_name):
            unit = value.float() / value.sum()
            if unit.shape != (4, 4) or not unit.allclose(torch.outer(taps, taps)):
                raise InputError(
                    f"published weights must resample with the filter [1, 3, 3, 1], got '{name}' "
                    f"of {value.tolist()}"
                )
        elif name not in expected:
            raise InputError(
                "published weights must be of a StyleGAN2 of the default architecture, got "
                f"'{name}'"
            )
    return places


def _unknown(names: Iterable[str]) -> InputError:
    first = ", ".join(list(names)[:3]) or "no tensors"
    return InputError(
        "published weights must be a StyleGAN2 with the names of NVlabs or of rosinality, got "
        f"{first}; other layouts cannot be read"
    )


def _with_noise(generator: Tensors) -> Tensors:
    """The same generator; where it has no noise, with noise 0."""
    filled = dict(generator)
    for i in range(2 * count(OURS, generator).generator - 1):
        resolution = 4 << (i + 1) // 2
        filled.setdefault(f"convolutions.{i}.noise_strength", torch.zeros(()))
        filled.setdefault(f"convolutions.{i}.noise_const", torch.zeros(resolution, resolution))
    return filled


def _mean_latent(state: Tensors) -> Float[Tensor, " d"]:
    network = Mapping(len(state["layers.0.bias"]), count(OURS, state).mapping)
    network.load_state_dict(state)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return network(torch.randn(MEAN_SAMPLES, network.latent_dim, generator=source)).mean(dim=0)

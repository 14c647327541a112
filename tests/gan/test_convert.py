"""Published layouts: images and logits of their own forward passes, round trips, refusals."""

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published
import pytest
import torch
from published import SIZES, State
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylex.errors import InputError
from stylex.gan.convert import Weights, from_layout, read, to_layout, write
from stylex.gan.generator import Generator
from stylex.gan.layouts import LAYOUTS, LayoutName
from stylex.gan.mapping import Mapping
from stylex.gan.residual import Discriminator

NAMES: tuple[LayoutName, ...] = ("nvlabs", "rosinality")
BOTH = pytest.mark.parametrize("layout", NAMES)
G, D = {"nvlabs": "G_ema", "rosinality": "g_ema"}, {"nvlabs": "D", "rosinality": "d"}


def theirs(layout: LayoutName) -> dict[str, Any]:
    """A whole published file as nested dictionaries."""
    if layout == "nvlabs":
        return {"G_ema": published.nvlabs_generator(), "D": published.nvlabs_discriminator()}
    return {
        "g_ema": published.rosinality_generator(),
        "d": published.rosinality_discriminator(),
        "latent_avg": torch.randn(published.WIDTH),
    }


def flat(nested: dict[str, Any]) -> State:
    """The same with prefixes."""
    found = {}
    for section, value in nested.items():
        if isinstance(value, dict):
            found |= {f"{section}.{name}": tensor for name, tensor in value.items()}
        else:
            found[section] = value
    return found


def saved(content: Any, path: Path) -> Path:  # noqa: ANN401
    torch.save(content, path)
    return path


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def ours(noise: bool = True) -> Weights:
    """Of networks with random biases and noise strengths."""
    networks = (
        Generator(32, 3, 10, **SIZES, noise=noise),
        Mapping(10, 3),
        Discriminator(32, 3, **SIZES, num_classes=1, minibatch_group=2),
    )
    states = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    for state in states:
        for name in state:
            if name.endswith(("bias", "noise_strength")):
                state[name] += 0.3 * torch.randn(state[name].shape)
    return Weights(*states, mean_latent=torch.randn(10))


def built(weights: Weights) -> tuple[Generator, Mapping, Discriminator]:
    """Our networks with these weights, in float64."""
    generator = Generator(32, 3, 10, **SIZES, noise=True)
    mapping = Mapping(10, 3)
    discriminator = Discriminator(32, 3, **SIZES, num_classes=1, minibatch_group=2)
    generator.load_state_dict(weights.generator)
    mapping.load_state_dict(weights.mapping)
    discriminator.load_state_dict(weights.discriminator)
    return generator.double(), mapping.double(), discriminator.double()


def double(state: State) -> State:
    return {name: value.double() for name, value in state.items()}


# The published forward passes --------------------------------------------------------------------


@BOTH
def test_an_imported_generator_makes_the_images_of_the_published_one(layout: LayoutName) -> None:
    state = theirs(layout)
    g = double(state[G[layout]])
    generator, mapping, _ = built(from_layout(flat(state), layout))
    z = torch.randn(3, 10).double()

    latents = getattr(published, f"{layout}_latents")(g, z)
    images = getattr(published, f"{layout}_images")(g, latents[:, None].expand(-1, 8, -1))

    assert float(images.std()) > 0.5
    torch.testing.assert_close(mapping(z), latents)
    torch.testing.assert_close(generator(mapping(z)), images, atol=1e-4, rtol=0)


@BOTH
def test_every_layer_of_an_imported_generator_takes_the_latent_of_the_published_one(
    layout: LayoutName,
) -> None:
    state = theirs(layout)
    generator, _, _ = built(from_layout(flat(state), layout))
    latents = torch.randn(2, 8, 10).double()

    images = getattr(published, f"{layout}_images")(double(state[G[layout]]), latents)

    torch.testing.assert_close(generator(latents), images, atol=1e-4, rtol=0)


@BOTH
def test_an_imported_discriminator_gives_the_logits_of_the_published_one(
    layout: LayoutName,
) -> None:
    state = theirs(layout)
    _, _, discriminator = built(from_layout(flat(state), layout))
    images = 3 * torch.randn(4, 3, 4, 4).double().repeat_interleave(8, 2).repeat_interleave(8, 3)

    logits = getattr(published, f"{layout}_logits")(double(state[D[layout]]), images, 2)

    assert float(logits.std()) > 0.1
    found = discriminator(images, torch.ones(4, 1).double())
    torch.testing.assert_close(found, logits[:, 0], atol=1e-4, rtol=0)


@BOTH
def test_an_exported_generator_and_discriminator_are_ours_with_the_filters_that_they_store(
    layout: LayoutName,
) -> None:
    weights = ours()
    generator, mapping, discriminator = built(weights)
    exported = double(to_layout(weights, layout))
    g, d = (
        {k.removeprefix(f"{s}."): v for k, v in exported.items() if k.startswith(f"{s}.")}
        for s in (G[layout], D[layout])
    )
    latents = torch.randn(2, 8, 10).double()

    images = getattr(published, f"{layout}_images")(g, latents)

    torch.testing.assert_close(generator(latents), images, atol=1e-4, rtol=0)
    logits = getattr(published, f"{layout}_logits")(d, images, 2)[:, 0]
    found = discriminator(images, torch.ones(2, 1).double())
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=0)


@BOTH
def test_a_generator_without_noise_is_exported_with_noise_of_strength_0(layout: LayoutName) -> None:
    weights = ours(noise=False)
    generator = Generator(32, 3, 10, **SIZES, noise=False)
    generator.load_state_dict(weights.generator)
    exported = to_layout(weights, layout)

    latents = torch.randn(2, 8, 10).double()
    g = {k.removeprefix(f"{G[layout]}."): v for k, v in double(exported).items()}
    images = getattr(published, f"{layout}_images")(g, latents)

    torch.testing.assert_close(generator.double()(latents), images, atol=1e-4, rtol=0)
    assert {k: v.shape for k, v in exported.items()} == {
        k: v.shape for k, v in flat(theirs(layout)).items()
    }


@BOTH
def test_the_mean_latent_of_an_export_is_that_of_many_samples_if_none_is_known(
    layout: LayoutName,
) -> None:
    known = ours()
    unknown = Weights(known.generator, known.mapping, known.discriminator, None)
    mapping = Mapping(10, 3)
    mapping.load_state_dict(known.mapping)

    name = LAYOUTS[layout].mean_latent
    found = to_layout(unknown, layout)[name]

    assert to_layout(known, layout)[name].equal(known.mean_latent)
    assert found.equal(to_layout(unknown, layout)[name])
    latents = mapping(torch.randn(40_000, 10)).detach()
    error = latents.std(dim=0) / 100  # of a mean of 10,000
    assert bool(((found - latents.mean(dim=0)).abs() < 6 * error).all())


# Round trips -------------------------------------------------------------------------------------


@BOTH
def test_ours_to_theirs_to_ours_changes_no_bit(layout: LayoutName) -> None:
    weights = ours()

    found = from_layout(to_layout(weights, layout), layout)

    assert same(found.generator, weights.generator)
    assert same(found.mapping, weights.mapping)
    assert same(found.discriminator, weights.discriminator)
    assert found.mean_latent.equal(weights.mean_latent)


@BOTH
def test_theirs_to_ours_to_theirs_changes_no_bit_and_keeps_every_name(layout: LayoutName) -> None:
    state = flat(theirs(layout))

    assert same(to_layout(from_layout(state, layout), layout), state)


def test_a_generator_goes_from_one_layout_to_the_other_and_back() -> None:
    state = flat(theirs("nvlabs"))

    there = to_layout(from_layout(state, "nvlabs"), "rosinality")

    assert same(to_layout(from_layout(there, "rosinality"), "nvlabs"), state)


@BOTH
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_written_file_is_read_as_what_was_written(
    layout: LayoutName, ending: str, tmp_path: Path
) -> None:
    weights, path = ours(), tmp_path / f"weights.{ending}"

    write(path, weights, layout)
    found, name = read(path)

    assert name == layout
    assert same(found.generator, weights.generator)
    assert same(found.mapping, weights.mapping)
    assert same(found.discriminator, weights.discriminator)
    assert found.mean_latent.equal(weights.mean_latent)


@BOTH
def test_a_written_file_is_laid_out_as_the_published_ones(
    layout: LayoutName, tmp_path: Path
) -> None:
    state = theirs(layout)
    weights = from_layout(flat(state), layout)

    write(tmp_path / "a.pt", weights, layout)
    write(tmp_path / "a.safetensors", weights, layout)

    nested = torch.load(tmp_path / "a.pt", weights_only=True)
    assert nested.keys() == state.keys()
    assert same(flat(nested), flat(state))
    assert same(load_file(tmp_path / "a.safetensors"), flat(state))


# What a file may hold ----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("of_names", [flat, dict], ids=["flat", "nested"])
def test_a_torch_file_may_be_flat_or_nested(
    layout: LayoutName, of_names: Callable[[Any], Any], tmp_path: Path
) -> None:
    state = theirs(layout)

    found, name = read(saved(of_names(state), tmp_path / "weights.pt"))

    assert name == layout
    assert same(to_layout(found, layout), flat(state))


@BOTH
def test_one_networks_state_dict_alone_is_read(layout: LayoutName, tmp_path: Path) -> None:
    state = theirs(layout)
    whole = from_layout(flat(state), layout)

    generator, _ = read(saved(state[G[layout]], tmp_path / "g.pt"))
    save_file(state[D[layout]], tmp_path / "d.safetensors")
    discriminator, _ = read(tmp_path / "d.safetensors")

    assert same(generator.generator, whole.generator)
    assert same(generator.mapping, whole.mapping)
    assert generator.discriminator == {}
    assert same(discriminator.discriminator, whole.discriminator)
    assert discriminator.generator == discriminator.mapping == {}
    assert discriminator.mean_latent is None


@pytest.mark.parametrize(("layout", "key"), [("nvlabs", "G"), ("rosinality", "g")])
def test_the_averaged_generator_comes_before_the_last_one(
    layout: LayoutName, key: str, tmp_path: Path
) -> None:
    average, last = theirs(layout), theirs(layout)[G[layout]]

    both, _ = read(saved({key: last, **average}, tmp_path / "both.pt"))
    del average[G[layout]]
    only_last, _ = read(saved({key: last, **average}, tmp_path / "last.pt"))

    assert not same(both.generator, only_last.generator)
    assert same(only_last.generator, from_layout(last, layout).generator)


def test_what_a_training_of_rosinality_leaves_beside_the_weights_is_passed_over(
    tmp_path: Path,
) -> None:
    state = theirs("rosinality")
    beside = {
        "args": argparse.Namespace(lr=0.002, path="data"),
        "g_optim": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "ada_aug_p": 0.5,
    }

    found, _ = read(saved({**beside, **state}, tmp_path / "010000.pt"))

    assert same(to_layout(found, "rosinality"), flat(state))


def test_a_published_generator_without_noise_and_mean_latent_is_read_without() -> None:
    state = published.nvlabs_generator()
    quiet = {k: v for k, v in state.items() if "noise" not in k and k != "mapping.w_avg"}

    found = from_layout(quiet, "nvlabs")

    expected = from_layout(state, "nvlabs").generator
    assert same(found.generator, {k: v for k, v in expected.items() if "noise" not in k})
    assert found.mean_latent is None


# Refusals ----------------------------------------------------------------------------------------


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:  # noqa: D105
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4, None])
def test_a_pickle_that_needs_code_is_refused_with_how_to_export_it_and_not_run(
    tmp_path: Path, protocol: int | None
) -> None:
    path, trap = tmp_path / "network.pkl", tmp_path / "trap"
    content = {"G_ema": Code(trap), "D": published.nvlabs_discriminator()}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol))

    with pytest.raises(InputError, match="must be tensors alone.*needs code; load it in") as caught:
        read(path)

    how = "torch.save({'G_ema': G_ema.state_dict(), 'D': D.state_dict()}, 'weights.pt')"
    assert how in str(caught.value)
    assert not trap.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_torch_file_is_refused(tmp_path: Path, kept: float, legacy: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(theirs("nvlabs"), path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])

    with pytest.raises(InputError, match="published weights must be (a whole file|tensors alone)"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"weights", bytes(range(256))])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(content)

    with pytest.raises(InputError, match="must be a whole file of state_dicts, .*; copy it again"):
        read(tmp_path / "weights.pt")


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(flat(theirs("nvlabs")), path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(InputError, match="published weights must be a whole safetensors file"):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="published weights must be an existing file, got '.*gone"):
        read(tmp_path / "gone.pt")


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ({"GAN": {"G.initial_block": torch.zeros(2)}, "version": "1"}, "GAN.G.initial_block"),
        ({"G_ema": {"synthesis.input.freqs": torch.zeros(2)}}, "G_ema.synthesis.input.freqs"),
        ({}, "no tensors"),
        (torch.zeros(3), "no tensors"),
        ([torch.zeros(3)], "no tensors"),
    ],
)
def test_an_unknown_layout_is_refused(tmp_path: Path, content: object, first: str) -> None:
    path = saved(content, tmp_path / "weights.pt")

    with pytest.raises(InputError, match=f"names of NVlabs or of rosinality, got {first}"):
        read(path)


def test_another_generator_beside_a_discriminator_that_fits_is_refused() -> None:
    state = {"G_ema.synthesis.input.freqs": torch.zeros(2), **flat(theirs("nvlabs"))}
    state = {k: v for k, v in state.items() if "b4.const" not in k}

    with pytest.raises(InputError, match="names of NVlabs or of rosinality, got G_ema.synthesis.i"):
        from_layout(state, "nvlabs")


@pytest.mark.parametrize("section", ["G_ema", "D"])
def test_a_network_with_labels_is_refused(section: str) -> None:
    state = {f"{section}.mapping.embed.weight": torch.zeros(10, 3), **flat(theirs("nvlabs"))}

    with pytest.raises(InputError, match=r"without labels, .*, got 'mapping.embed.weight'"):
        from_layout(state, "nvlabs")


def test_a_residual_generator_is_refused() -> None:
    state = {"G.synthesis.b8.skip.weight": torch.zeros(12, 12, 1, 1)}
    state |= {f"G.{name}": value for name, value in published.nvlabs_generator().items()}

    with pytest.raises(InputError, match="architecture 'skip', got 'synthesis.b8.skip.weight'"):
        from_layout(state, "nvlabs")


@BOTH
def test_no_tensor_may_be_missing(layout: LayoutName) -> None:
    state, table = flat(theirs(layout)), LAYOUTS[layout]
    optional = (table.filter_name, table.mean_latent)
    refusals = ("must be whole, got none for", "must be of a StyleGAN2", "names of NVlabs or of ro")

    for name in state:
        if not name.endswith(optional):
            rest = {other: value for other, value in state.items() if other != name}
            with pytest.raises(InputError, match="|".join(refusals)):
                from_layout(rest, layout)


@BOTH
def test_the_stored_filters_may_be_missing(layout: LayoutName) -> None:
    state = flat(theirs(layout))
    rest = {k: v for k, v in state.items() if not k.endswith(LAYOUTS[layout].filter_name)}

    assert len(rest) < len(state)
    assert same(to_layout(from_layout(rest, layout), layout), state)


@BOTH
def test_a_tensor_that_stylegan2_has_not_is_refused(layout: LayoutName) -> None:
    state = {f"{D[layout]}.extra.weight": torch.zeros(3), **flat(theirs(layout))}

    with pytest.raises(InputError, match="default architecture, got 'extra.weight'"):
        from_layout(state, layout)


@BOTH
def test_another_resampling_filter_is_refused(layout: LayoutName) -> None:
    state = flat(theirs(layout))
    name = next(name for name in state if name.endswith(LAYOUTS[layout].filter_name))
    state[name] = torch.ones(4, 4)

    with pytest.raises(InputError, match=r"must resample with the filter \[1, 3, 3, 1\], got '"):
        from_layout(state, layout)


def test_an_export_with_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must end in .safetensors or .pt, got '.*weights.pkl'"):
        write(tmp_path / "weights.pkl", ours(), "nvlabs")


@BOTH
def test_tensors_of_absurd_shapes_are_renamed_and_not_judged_here(layout: LayoutName) -> None:
    state: dict[str, Tensor] = {
        name: value if name.endswith(LAYOUTS[layout].filter_name) else torch.zeros(7)
        for name, value in flat(theirs(layout)).items()
    }

    assert from_layout(state, layout).generator["const"].shape == (7,)

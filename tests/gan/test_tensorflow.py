"""The released networks from TensorFlow's variables, against TensorFlow's arithmetic in float64."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import released
import torch
from released import Arrays, Variables, random_arrays
from torch import nn
from torch.nn import functional

from stylex.errors import InputError
from stylex.gan.generator import Generator
from stylex.gan.mapping import Mapping
from stylex.gan.residual import Discriminator, Encoder
from stylex.gan.tensorflow import (
    discriminator_table,
    encoder_table,
    generator_table,
    mapping_table,
    released_spec,
)
from stylex.variables import Table, convert_variables, read_variables

GENERATOR = released.generator_shapes(32, 256, 16, 6, 2)
ENCODER = released.residual_shapes("encoder", 32, 192, 12, 6, deviation=False)
DISCRIMINATOR = released.residual_shapes("discriminator", 32, 160, 10, 2, deviation=True)
# As published: 256 px, config F, latent of 512 and 2 probabilities.
FULL = {
    **released.generator_shapes(256, 32768, 512, 512, 8),
    **released.residual_shapes("encoder", 256, 32768, 512, 512, deviation=False),
    **released.residual_shapes("discriminator", 256, 32768, 512, 2, deviation=True),
}


@pytest.fixture
def arrays() -> Arrays:
    return random_arrays({**GENERATOR, **ENCODER, **DISCRIMINATOR}, seed=3)


def fill(network: nn.Module, arrays: Arrays, model: str, table: Table) -> None:
    network.load_state_dict(convert_variables(arrays, model, table, network))
    network.eval().requires_grad_(False)


def images_of(seed: int) -> torch.Tensor:
    """Coarse, so that they still differ at 4 px."""
    coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return functional.interpolate(coarse, (32, 32), mode="bilinear")


# Networks ----------------------------------------------------------------------------------------


def test_the_generator_draws_what_tensorflow_draws(arrays: Arrays) -> None:
    generator = Generator(32, 3, 6 + 2, 256, 16, noise=True)
    fill(generator, arrays, "generator", generator_table(32))
    latents = torch.randn(3, 6 + 2)

    expected = released.generate(Variables(arrays, "generator"), latents.double(), 32)

    torch.testing.assert_close(generator(latents).double(), expected, atol=1e-4, rtol=0)


def test_a_generator_whose_upsampling_kernels_were_not_mirrored_would_be_seen(
    arrays: Arrays,
) -> None:
    generator = Generator(32, 3, 6 + 2, 256, 16, noise=True)
    fill(generator, arrays, "generator", generator_table(32))
    latents = torch.randn(3, 6 + 2)
    images = generator(latents)

    generator.convolutions[1].weight.copy_(generator.convolutions[1].weight.flip(2, 3))

    assert (generator(latents) - images).abs().max() > 0.01


def test_the_mapping_gives_the_latents_that_tensorflow_gives(arrays: Arrays) -> None:
    mapping = Mapping(6, 2)
    fill(mapping, arrays, "generator", mapping_table(2))
    z = torch.randn(5, 6)

    expected = released.map_to_latent(Variables(arrays, "generator"), z.double())

    torch.testing.assert_close(mapping(z).double(), expected, atol=1e-5, rtol=1e-5)


def test_the_encoder_gives_the_codes_that_tensorflow_gives(arrays: Arrays) -> None:
    encoder = Encoder(32, 3, 192, 12, 6)
    fill(encoder, arrays, "encoder", encoder_table(32))
    images = images_of(2)

    variables = Variables(arrays, "encoder")
    expected = released.residual(variables, images.double(), "Encoder", "EncoderBlock", None)

    assert expected.std(dim=0).min() > 0.03
    torch.testing.assert_close(encoder(images).double(), expected, atol=1e-5, rtol=0)


def test_the_discriminator_judges_as_tensorflow_does_its_outputs_weighted_by_the_probabilities(
    arrays: Arrays,
) -> None:
    discriminator = Discriminator(32, 3, 160, 10, 2, minibatch_group=4)
    fill(discriminator, arrays, "discriminator", discriminator_table(32))
    images, probabilities = images_of(3), torch.rand(8, 2)

    variables = Variables(arrays, "discriminator")
    outputs = released.residual(variables, images.double(), "", "DiscriminatorBlock", 4)
    expected = (outputs * probabilities).sum(dim=1)

    found = discriminator(images, probabilities)
    assert outputs.std(dim=0).min() > 0.03
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


# The table ---------------------------------------------------------------------------------------


def test_at_full_size_every_variable_becomes_one_parameter_of_its_shape_and_none_is_left() -> None:
    with torch.device("meta"):
        networks = (
            (Generator(256, 3, 514, 32768, 512, noise=True), "generator", generator_table(256)),
            (Mapping(512, 8), "generator", mapping_table(8)),
            (Encoder(256, 3, 32768, 512, 512), "encoder", encoder_table(256)),
            (Discriminator(256, 3, 32768, 512, 2, 4), "discriminator", discriminator_table(256)),
        )
    left = {name: np.broadcast_to(np.float32(0), shape) for name, shape in FULL.items()}

    for network, model, table in networks:
        expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        assert table.keys() == expected.keys()
        for ours, entry in table.items():
            theirs = next(
                name
                for name in left
                if name.startswith(f"{model}/")
                and name.endswith(f"/{entry.variable.replace('dense*', dense_of(model))}")
            )
            assert entry.turn(left.pop(theirs)).shape == expected[ours], ours

    assert list(left) == ["generator/dlatent_avg"]


def dense_of(model: str) -> str:
    return "dense" if model == "encoder" else "dense_4"


def test_the_published_shapes_tell_config_f_at_256_px() -> None:
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in FULL.items()}

    config_f = {"channel_base": 32768, "channel_max": 512}
    assert released_spec(arrays) == {
        "resolution_px": 256,
        "channels": 3,
        "latent_dim": 512,
        "mapping_layers": 8,
        "appended": "softmax",
        "generator": {**config_f, "noise": True},
        "encoder": config_f,
        "discriminator": {**config_f, "minibatch_group": 4},
    }


def test_each_network_has_the_widths_of_its_own_variables(arrays: Arrays) -> None:
    spec = released_spec(arrays)

    assert (spec["resolution_px"], spec["latent_dim"], spec["mapping_layers"]) == (32, 6, 2)
    assert spec["generator"] == {"channel_base": 256, "channel_max": 16, "noise": True}
    assert spec["encoder"] == {"channel_base": 192, "channel_max": 12}
    assert spec["discriminator"]["channel_base"] == 160
    assert spec["discriminator"]["channel_max"] == 10


def test_scopes_before_a_name_do_not_matter(arrays: Arrays) -> None:
    bare = {name.replace("/discriminator_1/", "/"): value for name, value in arrays.items()}
    deep = {
        name.replace("/discriminator_1/", "/a/b/discriminator/"): value
        for name, value in arrays.items()
    }
    network = Discriminator(32, 3, 160, 10, 2, minibatch_group=4)

    states = [
        convert_variables(some, "discriminator", discriminator_table(32), network)
        for some in (arrays, bare, deep)
    ]

    for state in states[1:]:
        assert all(torch.equal(state[name], value) for name, value in states[0].items())


# What cannot be converted ------------------------------------------------------------------------


def convert_encoder(arrays: Arrays) -> None:
    convert_variables(arrays, "encoder", encoder_table(32), Encoder(32, 3, 192, 12, 6))


def test_a_missing_variable_is_named(arrays: Arrays) -> None:
    del arrays["encoder/encoder/EncoderBlock16x16/Skip/weight"]

    with pytest.raises(
        InputError, match=r"one variable 'encoder/\.\.\./EncoderBlock16x16/Skip/weight', got none"
    ):
        convert_encoder(arrays)


def test_a_variable_that_could_be_two_is_refused(arrays: Arrays) -> None:
    arrays["encoder/old/Conv4x4/weight"] = arrays["encoder/encoder/Conv4x4/weight"]

    with pytest.raises(
        InputError, match="got encoder/encoder/Conv4x4/weight, encoder/old/Conv4x4/weight; save"
    ):
        convert_encoder(arrays)


@pytest.mark.parametrize("change", [lambda x: x[:2], lambda x: x[0], lambda x: x[None]])
def test_a_variable_of_another_shape_is_named_with_both_shapes(
    arrays: Arrays, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    name = "encoder/encoder/EncoderBlock16x16/Conv0/weight"
    arrays[name] = change(arrays[name])

    with pytest.raises(
        InputError,
        match=rf"'{name}' must have the shape that makes blocks\.1\.conv0\.weight "
        rf"\(12, 12, 3, 3\), got \({', '.join(map(str, arrays[name].shape))}\)",
    ):
        convert_encoder(arrays)


def test_sizes_cannot_be_read_off_a_variable_with_other_axes(arrays: Arrays) -> None:
    name = "generator/generator_synthesis/ConstBlock4x4/Const4x4"
    arrays[name] = arrays[name][0]

    with pytest.raises(
        InputError, match=rf"'{name}' must have the axes b c h w, got the shape \(16, 4, 4\)"
    ):
        released_spec(arrays)


def test_variables_of_another_model_are_refused(arrays: Arrays) -> None:
    with pytest.raises(InputError, match=r"must have variables 'generator/\.\.\.' that fit '/ToRG"):
        released_spec({name: v for name, v in arrays.items() if name.startswith("encoder/")})


# The file ----------------------------------------------------------------------------------------


def test_names_are_read_without_tensorflows_number(tmp_path: Path) -> None:
    file = tmp_path / "age.npz"
    np.savez(file, **{"encoder/a/weight:0": np.ones(2, np.float32), "encoder/b": np.zeros(1)})

    found = read_variables(file)

    assert list(found) == ["encoder/a/weight", "encoder/b"]
    assert found["encoder/a/weight"].tolist() == [1.0, 1.0]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be an existing npz, got '.*none\.npz'; save"):
        read_variables(tmp_path / "none.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "age.npz"
    file.write_bytes(b"not a zip file")

    with pytest.raises(InputError, match=r"an npz of whole, plain arrays, got '.*age\.npz'; save"):
        read_variables(file)


def test_python_objects_are_refused_and_never_loaded(tmp_path: Path) -> None:
    file = tmp_path / "age.npz"
    np.savez(file, a=np.array([{"code": 1}], dtype=object))

    with pytest.raises(InputError, match=r"plain arrays, got .*Object arrays cannot be loaded"):
        read_variables(file)


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "age.npz"
    np.savez(file, a=np.arange(1000))
    content = bytearray(file.read_bytes())
    content[500:600] = bytes(100)
    file.write_bytes(content)

    with pytest.raises(InputError, match=r"an npz of whole, plain arrays, got .*Bad CRC"):
        read_variables(file)


def test_a_zip_of_other_files_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "generator.savedmodel.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("saved_model.pb", "x")

    with pytest.raises(InputError, match=r"plain arrays, got .* with the file 'saved_model\.pb'"):
        read_variables(file)

"""The released age model: converted as a whole, and its published attributes where files are.

The last tests need the released files. STYLEX_AGE_MODEL names a folder with what
`convert_age_model` writes and the three fields of the released `examples_1.tfrecord` as numpy
files: `effects.npy` [250 2 5760 2] (`result`, reshaped to [5760 2 2], its first two axes swapped),
`base_logits.npy` [250 2] (`base_prob`), `latents.npy` [250 514] (`dlatent`).
"""

import os
from pathlib import Path

import numpy as np
import pytest
import released
import torch
import yaml
from released import Arrays, Variables, random_arrays

import stylex
from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.gan.styles import StyleLayout
from stylex.model import CONFIG_FILE, build_discriminator, convert_age_model
from stylex.search.scores import Rise
from stylex.search.selection import Gain, Pick, merge_directions, select_notebook
from stylex.search.table import EffectTable

OLD, YOUNG = 0, 1
# Coordinates and directions that make faces old, best first. Source: a replication's run of the
# official notebook on the released data, with num_indices = 10.
PUBLISHED = [(5300, 1), (5147, 0), (3301, 1), (3199, 1), (3921, 1)]
PUBLISHED += [(1208, 1), (4519, 0), (5246, 0), (4172, 0), (4469, 1)]
FILES = os.environ.get("STYLEX_AGE_MODEL")
needs_files = pytest.mark.skipif(
    not FILES, reason="STYLEX_AGE_MODEL names no folder with the released age model"
)

# Conversion --------------------------------------------------------------------------------------


@pytest.fixture
def arrays() -> Arrays:
    """A whole model of 32 px, a latent of 6 and 2 mapping layers."""
    shapes = {
        **released.generator_shapes(32, 256, 16, 6, 2),
        **released.residual_shapes("encoder", 32, 192, 12, 6, deviation=False),
        **released.residual_shapes("discriminator", 32, 160, 10, 2, deviation=True),
        **released.mobilenet_shapes(),
    }
    return random_arrays(shapes, seed=5)


@pytest.fixture
def npz(arrays: Arrays, tmp_path: Path) -> Path:
    """As TensorFlow names variables."""
    np.savez(tmp_path / "age.npz", **{f"{name}:0": value for name, value in arrays.items()})
    return tmp_path / "age.npz"


def test_a_converted_model_loads_and_reconstructs_what_tensorflow_does(
    npz: Path, arrays: Arrays, tmp_path: Path
) -> None:
    returned = convert_age_model(npz, tmp_path / "age")
    model = stylex.load(tmp_path / "age")
    images = torch.rand(3, 3, 32, 32) * 2 - 1

    exact = images.double()
    logits = released.mobilenet(Variables(arrays, "mobilenet"), exact, 6.0)
    code = released.residual(Variables(arrays, "encoder"), exact, "Encoder", "EncoderBlock", None)
    latents = torch.cat((code, logits.softmax(dim=1)), dim=1)
    expected = released.generate(Variables(arrays, "generator"), latents, 32).clamp(-1, 1)
    changed = released.mobilenet(Variables(arrays, "mobilenet"), expected, 6.0)

    assert model.class_names == ("old", "young")
    assert (model.resolution_px, model.channels) == (32, 3)
    torch.testing.assert_close(model.encode(images).double(), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.reconstruct(images).double(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(model(images).double(), changed, atol=1e-3, rtol=1e-4)
    assert torch.equal(returned.reconstruct(images), model.reconstruct(images))


def test_a_converted_model_can_be_explained(npz: Path, tmp_path: Path) -> None:
    model = convert_age_model(str(npz), str(tmp_path / "age"))
    images = torch.rand(12, 3, 32, 32) * 2 - 1
    said = int(model(images)[0].argmax())

    result = stylex.explain(model, images, target=model.class_names[1 - said], image=0, k=2)

    assert len(result.attributes) >= 1


def test_the_discriminator_has_a_file_of_its_own_that_its_configuration_rebuilds(
    npz: Path, arrays: Arrays, tmp_path: Path
) -> None:
    convert_age_model(npz, tmp_path / "age")
    config = yaml.safe_load((tmp_path / "age" / CONFIG_FILE).read_text())
    discriminator = build_discriminator(config["model"], 2).eval()
    (file,) = (tmp_path / "age").glob("discriminator-*.safetensors")
    state, _ = read_tensors(file, "discriminator")
    discriminator.load_state_dict(state)
    images, probabilities = torch.rand(4, 3, 32, 32), torch.rand(4, 2)

    outputs = released.residual(
        Variables(arrays, "discriminator"), images.double(), "", "DiscriminatorBlock", 4
    )
    expected = (outputs * probabilities).sum(dim=1)

    found = discriminator(images, probabilities)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


def test_an_npz_without_a_model_is_refused_and_no_folder_is_left(
    arrays: Arrays, tmp_path: Path
) -> None:
    some = {name: value for name, value in arrays.items() if not name.startswith("mobilenet/")}
    np.savez(tmp_path / "age.npz", **some)

    with pytest.raises(InputError, match=r"one variable 'mobilenet/\.\.\./conv1/kernel', got none"):
        convert_age_model(tmp_path / "age.npz", tmp_path / "age")

    assert not (tmp_path / "age").exists()


# Published attributes ----------------------------------------------------------------------------


def test_the_published_coordinates_are_where_the_replications_found_them() -> None:
    layout = StyleLayout.of_generator(256, channel_base=32768, channel_max=512)

    assert [layout.name(coordinate) for coordinate, _ in PUBLISHED[:4]] == [
        "128px conv1 #180",
        "128px conv1 #27",
        "32px conv1 #229",
        "32px conv1 #127",
    ]
    assert len(layout.searched()) == 5760
    assert all(coordinate in layout.searched() for coordinate, _ in PUBLISHED)


@needs_files
def test_the_notebook_selector_finds_the_published_attributes_in_the_released_effects() -> None:
    effects, logits = stored("effects"), stored("base_logits")
    assert effects.shape == (250, 2, 5760, 2)
    stable = EffectTable(effects, range(5760), range(2)).stable(2.0, 750.5 / 23040)
    effects = effects * stable[:, None, None, None]
    said = logits.argmax(dim=1)

    def selected(source: int, target: int) -> list[Pick]:
        rows = said == source
        table = EffectTable(effects[rows], range(5760), range(2))
        return select_notebook(table, Gain(Rise(target), logits[rows]), 10, max_image_effect=1.0)

    def column(pick: Pick) -> torch.Tensor:
        return effects[:, pick.direction, pick.coordinate]

    towards, back = selected(YOUNG, OLD), selected(OLD, YOUNG)
    picks = merge_directions(column, YOUNG, OLD, towards, back, 10)

    assert picks == [Pick(*pair) for pair in PUBLISHED]


@needs_files
def test_the_converted_model_gives_the_released_logits() -> None:
    model = stylex.load(str(FILES))
    latents, expected = stored("latents")[:8], stored("base_logits")[:8]

    found = model.classifier(model.render(model.generator.styles(latents)))

    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@needs_files
def test_the_converted_model_repeats_the_released_effects_of_the_best_attributes() -> None:
    model = stylex.load(str(FILES))
    effects, latents = stored("effects"), stored("latents")
    styles = model.generator.styles(latents)
    extremes = torch.stack((styles.min(dim=0).values, styles.max(dim=0).values))
    base = model.classifier(model.render(styles[:2]))

    for coordinate, direction in PUBLISHED[:4]:
        edited = styles[:2].clone()
        edited[:, coordinate] = extremes[direction, coordinate]
        found = model.classifier(model.render(edited)) - base
        expected = effects[:2, direction, coordinate]
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def stored(name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(Path(str(FILES)) / f"{name}.npy")).float()

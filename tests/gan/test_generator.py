"""The generator: routing of latents, edits of styles, synthesis from a stored state, noise."""

import pytest
import torch
from torch import Tensor

from stylex.gan.generator import Generator

NAMES = ["4px conv1", "8px conv0", "8px conv1", "16px conv0", "16px conv1"]


def generator(image_channels: int = 3, noise: bool = True) -> Generator:
    """16 px, five convolutions, every parameter random, so that every bias and noise counts."""
    network = Generator(
        16, image_channels, latent_dim=6, channel_base=64, channel_max=8, noise=noise
    )
    for name, parameter in network.requires_grad_(False).named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return network.double()


def latents(count: int = 3) -> Tensor:
    return torch.randn(count, 6, dtype=torch.float64)


@pytest.mark.parametrize("image_channels", [1, 3])
def test_the_generator_makes_images_of_its_resolution_and_channels(image_channels: int) -> None:
    images = generator(image_channels)(latents())

    assert images.shape == (3, image_channels, 16, 16)
    assert float(images.std()) > 0.01


@pytest.mark.parametrize(("resolution_px", "count"), [(8, 4), (16, 6), (32, 8), (64, 10)])
def test_the_number_of_latents_is_twice_the_logarithm_of_the_resolution_minus_2(
    resolution_px: int, count: int
) -> None:
    network = Generator(resolution_px, 1, 6, channel_base=64, channel_max=4, noise=False)

    assert network.num_latents == count
    assert [layer.name for layer in network.layout.layers][: count - 1][-1] == (
        f"{resolution_px}px conv1"
    )


def test_synthesis_is_the_chain_of_its_layers_with_a_skip_to_the_image_after_every_block() -> None:
    network = generator()
    styles = network.styles(latents())
    by_name = dict(
        zip(
            (layer.name for layer in network.layout.layers),
            styles.split(network.layout.sizes, dim=1),
            strict=True,
        )
    )
    convolutions, torgbs = network.convolutions, network.torgbs

    x = network.const.expand(3, -1, -1, -1)
    x = convolutions[0](x, by_name["4px conv1"], None)
    image = torgbs[0](x, by_name["4px torgb"], None)
    x = convolutions[1](x, by_name["8px conv0"], None)
    x = convolutions[2](x, by_name["8px conv1"], None)
    image = torgbs[1](x, by_name["8px torgb"], image)
    x = convolutions[3](x, by_name["16px conv0"], None)
    x = convolutions[4](x, by_name["16px conv1"], None)
    image = torgbs[2](x, by_name["16px torgb"], image)

    assert [layer.up for layer in convolutions] == [False, True, False, True, False]
    torch.testing.assert_close(network.synthesis(styles), image)


def test_one_latent_for_all_layers_is_the_same_as_a_copy_of_it_for_each() -> None:
    network, w = generator(), latents()

    copies = w[:, None].expand(-1, network.num_latents, -1)

    assert torch.equal(network.styles(copies), network.styles(w))
    assert torch.equal(network(copies), network(w))


@pytest.mark.parametrize("j", range(6))
def test_a_layers_latent_moves_its_convolution_and_the_torgb_before_the_next_block(j: int) -> None:
    network = generator()
    w = torch.randn(2, 6, 6, dtype=torch.float64)
    other = w.clone()
    other[:, j] += 1.0

    before, after = (network.styles(x).split(network.layout.sizes, dim=1) for x in (w, other))
    moved = {
        layer.name
        for layer, a, b in zip(network.layout.layers, before, after, strict=True)
        if not torch.equal(a, b)
    }

    # A block's ToRGB shares the latent of the next block's first convolution; the last has its own.
    expected = {
        0: {"4px conv1"},
        1: {"8px conv0", "4px torgb"},
        2: {"8px conv1"},
        3: {"16px conv0", "8px torgb"},
        4: {"16px conv1"},
        5: {"16px torgb"},
    }
    assert moved == expected[j]


def test_styles_are_the_affine_layers_outputs_in_the_order_of_the_layout() -> None:
    network, w = generator(), latents()

    styles = network.styles(w)

    affines = [layer.affine for layer in (*network.convolutions, *network.torgbs)]
    for affine, offset, size in zip(
        affines, network.layout.offsets, network.layout.sizes, strict=True
    ):
        expected = w @ affine.weight.T / 6**0.5 + affine.bias
        torch.testing.assert_close(styles[:, offset : offset + size], expected)


@pytest.mark.parametrize("layer", range(5))
def test_an_edit_of_a_convolution_leaves_every_state_up_to_it_as_it_was_and_changes_the_image(
    layer: int,
) -> None:
    network = generator()
    styles = network.styles(latents())
    edited = styles.clone()
    edited[:, network.layout.index(layer, 1)] += 2.0

    before, after = network.states(styles), network.states(edited)

    for a, b in zip(before, after, strict=True):
        images_equal = (a.image is None and b.image is None) or (
            a.image is not None and b.image is not None and torch.equal(a.image, b.image)
        )
        assert (torch.equal(a.features, b.features) and images_equal) == (a.layer <= layer)
    changes = (network.synthesis(edited) - network.synthesis(styles)).abs().amax(dim=(1, 2, 3))
    assert float(changes.min()) > 1e-4


@pytest.mark.parametrize("block", range(3))
def test_an_edit_of_a_torgb_changes_the_image_and_no_features(block: int) -> None:
    network = generator()
    styles = network.styles(latents())
    edited = styles.clone()
    edited[:, network.layout.index(5 + block, 1)] += 2.0

    for a, b in zip(network.states(styles), network.states(edited), strict=True):
        assert torch.equal(a.features, b.features)
    assert not torch.allclose(network.synthesis(edited), network.synthesis(styles))


@pytest.mark.parametrize("layer", range(5))
def test_synthesis_from_a_stored_state_is_the_whole_synthesis(layer: int) -> None:
    network = generator()
    styles = network.styles(latents())

    state = network.states(styles)[layer]

    assert state.layer == layer
    torch.testing.assert_close(network.synthesis(styles, start=state), network.synthesis(styles))


@pytest.mark.parametrize("layer", range(5))
def test_an_edit_goes_on_from_the_state_of_the_unedited_image(layer: int) -> None:
    network = generator()
    styles = network.styles(latents())
    edited = styles.clone()
    edited[:, network.layout.index(layer, 3)] -= 1.5

    found = network.synthesis(edited, start=network.states(styles)[layer])

    torch.testing.assert_close(found, network.synthesis(edited))


def test_synthesis_from_a_state_does_not_read_the_styles_of_convolutions_before_it() -> None:
    network = generator()
    styles = network.styles(latents())
    state = network.states(styles)[3]
    unread = styles.clone()
    unread[:, : network.layout.offsets[3]] = float("nan")

    assert torch.equal(
        network.synthesis(unread, start=state), network.synthesis(styles, start=state)
    )


@pytest.mark.parametrize("layer", range(5))
def test_rows_of_a_state_can_be_chosen_in_any_order_and_many_times(layer: int) -> None:
    network = generator()
    styles = network.styles(latents())
    rows = torch.tensor([2, 0, 0, 1])

    found = network.synthesis(styles[rows], start=network.states(styles)[layer].select(rows))

    torch.testing.assert_close(found, network.synthesis(styles)[rows])


def test_an_image_does_not_depend_on_the_others_in_the_batch() -> None:
    network, w = generator(), latents(4)

    together = network(w)

    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], network(w[i : i + 1]))


def fresh(network: Generator, batch_size: int, seed: int) -> list[torch.Tensor]:
    return network.noise_maps(batch_size, torch.Generator().manual_seed(seed))


def test_stored_noise_gives_the_same_image_every_time() -> None:
    network, w = generator(), latents()

    assert torch.equal(network(w), network(w))


def test_fresh_noise_changes_the_image_and_is_repeated_by_the_same_seed() -> None:
    network, w = generator(), latents()

    first, again, other = (network(w, fresh(network, len(w), s)) for s in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first, network(w))


def test_fresh_noise_draws_nothing_from_the_global_random_numbers() -> None:
    network, w = generator(), latents()
    before = torch.get_rng_state()

    network(w, fresh(network, len(w), 1))

    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_without_noise_inputs_draws_no_noise() -> None:
    network, w = generator(noise=False), latents()

    assert torch.equal(network(w, fresh(network, len(w), 1)), network(w))
    assert not [name for name in network.state_dict() if "noise" in name]


def test_synthesis_changes_neither_network_nor_styles_nor_the_state_it_starts_from() -> None:
    network = generator()
    styles = network.styles(latents())
    states = network.states(styles)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    kept_styles = styles.clone()
    kept = [(s.features.clone(), None if s.image is None else s.image.clone()) for s in states]

    for state in states:
        network.synthesis(styles, start=state)
    network.synthesis(styles, noise=fresh(network, len(styles), 1))

    assert torch.equal(styles, kept_styles)
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    for state, (features, image) in zip(states, kept, strict=True):
        assert torch.equal(state.features, features)
        assert image is None or torch.equal(state.image, image)


def test_the_layers_fit_the_layout() -> None:
    network = generator()

    assert [layer.name for layer in network.layout.layers[:5]] == NAMES
    assert [len(layer.affine.bias) for layer in (*network.convolutions, *network.torgbs)] == (
        network.layout.sizes
    )
    assert [layer.resolution_px for layer in network.convolutions] == [4, 8, 8, 16, 16]


def test_with_few_styled_channels_the_others_are_scaled_by_1() -> None:
    few = Generator(16, 3, 6, channel_base=64, channel_max=8, noise=False, styled_channels=3)
    everything = Generator(16, 3, 6, channel_base=64, channel_max=8, noise=False)
    shared = {k: v for k, v in few.state_dict().items() if ".affine." not in k}
    everything.load_state_dict(shared, strict=False)
    styles = few.styles(torch.randn(2, 6))
    parts = styles.split(few.layout.sizes, dim=1)
    whole = [
        torch.cat((part, torch.ones(2, size - part.shape[1])), dim=1)
        for part, size in zip(parts, everything.layout.sizes, strict=True)
    ]

    torch.testing.assert_close(few.synthesis(styles), everything.synthesis(torch.cat(whole, dim=1)))


def test_few_styled_channels_leave_torgb_without_coordinates() -> None:
    layout = Generator(16, 3, 6, 64, 8, noise=False, styled_channels=3).layout

    assert layout.sizes == [3, 3, 3, 3, 3, 0, 0, 0]
    assert layout.searched() == layout.searched(torgb=True) == list(range(15))
    assert layout.name(14) == "16px conv1 #2"


def test_synthesis_from_a_stored_state_is_the_same_with_few_styled_channels() -> None:
    few = Generator(16, 3, 6, 64, 8, noise=False, styled_channels=3).double()
    styles = few.styles(latents())

    for state in few.states(styles):
        torch.testing.assert_close(few.synthesis(styles, start=state), few.synthesis(styles))

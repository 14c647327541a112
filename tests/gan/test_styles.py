"""Numbering of the style coordinates, against counts and names published elsewhere."""

import pytest

from stylex.gan.styles import Coordinate, StyleLayout

SMALL = StyleLayout.of_generator(16, channel_base=64, channel_max=8)


def num_convolution_coordinates(layout: StyleLayout) -> int:
    return sum(layer.num_channels for layer in layout.layers if layer.kind == "convolution")


def test_the_paper_model_of_256_px_has_5760_convolution_and_2944_torgb_coordinates() -> None:
    layout = StyleLayout.of_generator(256, channel_base=32768, channel_max=512)

    assert num_convolution_coordinates(layout) == 5760
    assert layout.num_coordinates == 5760 + 2944
    assert sum(layer.num_channels for layer in layout.layers if layer.kind == "torgb") == 2944


@pytest.mark.parametrize(
    ("resolution_px", "count"),
    [(32, 3584), (64, 4608), (128, 5376), (256, 5760), (512, 5952), (1024, 6048)],
)
def test_every_resolution_has_the_published_number_of_convolution_coordinates(
    resolution_px: int, count: int
) -> None:
    layout = StyleLayout.of_generator(resolution_px, channel_base=32768, channel_max=512)

    assert num_convolution_coordinates(layout) == count


@pytest.mark.parametrize(
    ("index", "name"),
    [(5300, "128px conv1 #180"), (5147, "128px conv1 #27"), (3301, "32px conv1 #229")],
)
def test_a_coordinate_has_the_number_that_the_official_notebook_gives_it(
    index: int, name: str
) -> None:
    layout = StyleLayout.of_generator(256, channel_base=32768, channel_max=512)

    assert layout.name(index) == name


def test_the_flat_order_is_convolutions_then_torgb_layers_each_from_coarse_to_fine() -> None:
    assert [(layer.name, layer.num_channels) for layer in SMALL.layers] == [
        ("4px conv1", 8),
        ("8px conv0", 8),
        ("8px conv1", 8),
        ("16px conv0", 8),
        ("16px conv1", 4),
        ("4px torgb", 8),
        ("8px torgb", 8),
        ("16px torgb", 4),
    ]
    assert [layer.kind for layer in SMALL.layers] == ["convolution"] * 5 + ["torgb"] * 3
    assert [layer.resolution_px for layer in SMALL.layers] == [4, 8, 8, 16, 16, 4, 8, 16]
    assert SMALL.sizes == [8, 8, 8, 8, 4, 8, 8, 4]
    assert SMALL.offsets == [0, 8, 16, 24, 32, 36, 44, 52]


def test_locate_and_index_are_inverse_over_all_coordinates() -> None:
    pairs = [
        Coordinate(layer, channel)
        for layer, size in enumerate(SMALL.sizes)
        for channel in range(size)
    ]

    assert [SMALL.locate(i) for i in range(SMALL.num_coordinates)] == pairs
    assert [SMALL.index(*pair) for pair in pairs] == list(range(SMALL.num_coordinates))


def test_a_search_moves_the_convolution_coordinates_and_the_torgb_ones_only_if_asked() -> None:
    assert SMALL.searched() == list(range(36))
    assert SMALL.searched(torgb=True) == list(range(56))


@pytest.mark.parametrize("index", [-1, 56])
def test_an_index_outside_is_refused(index: int) -> None:
    for look_up in (SMALL.locate, SMALL.name):
        with pytest.raises(ValueError, match=rf"index must be in \[0, 56\), got {index}"):
            look_up(index)


@pytest.mark.parametrize("layer", [-1, 8])
def test_a_layer_outside_is_refused(layer: int) -> None:
    with pytest.raises(ValueError, match=rf"layer must be in \[0, 8\), got {layer}"):
        SMALL.index(layer, 0)


@pytest.mark.parametrize("channel", [-1, 4])
def test_a_channel_outside_its_layer_is_refused(channel: int) -> None:
    with pytest.raises(ValueError, match=rf"channel must be in \[0, 4\), got {channel}"):
        SMALL.index(4, channel)

"""Sheets and figures of filters: what they say is what the layer gave."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.attribution.activations import activations, layer_figures
from stylex.attribution.exhibits import Pictures, Table
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.types import Images, Labels

SETTINGS = {
    "layers": ["0", "2"],
    "scaling": "filter",
    "most_filters": 3,
    "num_strongest": 2,
    "sheet_px": 40,
    "chunk_size": 2,
}


class Given(ImageSet):
    def __init__(self, images: Images) -> None:
        labels = torch.arange(len(images)) % 2
        size, channels = images.shape[3], images.shape[1]
        form = {"split": "test", "resolution": size, "channels": channels}
        super().__init__(class_names=("no", "yes"), labels=labels, **form)
        self.images = images

    def _images(self, positions: Labels) -> Images:
        return self.images[positions]

    def _content(self) -> bytes:
        return b""


@pytest.fixture
def data() -> Given:
    return Given(torch.rand(5, 1, 8, 8) * 2 - 1)


@pytest.fixture
def classifier() -> FrozenClassifier:
    features = (nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3), nn.ReLU())
    network = nn.Sequential(*features, nn.Flatten(), nn.Linear(80, 2))
    form = {"input_resolution_px": 8, "input_channels": 1, "input_range": (-1, 1)}
    return FrozenClassifier(network, Adapter(**form, mean=(0,), std=(1,)), ("no", "yes"), ())


def shown(classifier: FrozenClassifier, data: Given, **changed: Any) -> tuple[Any, ...]:
    settings = {**SETTINGS, **changed}
    return activations(classifier, data.images[:2], data.labels[:2], data=data, **settings)


def test_figures_are_those_of_the_whole_set_at_once(
    classifier: FrozenClassifier, data: Given
) -> None:
    values = classifier.network[:2](data.images)
    for chunk_size in (1, 2, 5):
        found = layer_figures(classifier, data, "1", chunk_size, torch.device("cpu"))
        torch.testing.assert_close(found.mean, values.double().mean((0, 2, 3)))
        torch.testing.assert_close(found.largest, values.amax((0, 2, 3)))
        torch.testing.assert_close(found.zeros, (values == 0).double().mean((0, 2, 3)))
        assert torch.equal(found.where, values.amax((2, 3)).argmax(dim=0))


def test_a_layer_is_read_before_the_next_changes_it_in_place(
    classifier: FrozenClassifier, data: Given
) -> None:
    found = layer_figures(classifier, data, "0", 5, torch.device("cpu"))
    torch.testing.assert_close(
        found.mean, classifier.network[0](data.images).double().mean((0, 2, 3))
    )
    assert float(found.zeros.sum()) == 0


def test_white_is_the_largest_value_and_black_is_zero(
    classifier: FrozenClassifier, data: Given
) -> None:
    values = classifier.network[:2](data.images[:1])[0]
    sheet = shown(classifier, data, layers=["1"], most_filters=4, sheet_px=12)[0].images[0, 0]
    cells = torch.stack([sheet[y : y + 6, x : x + 6] for y in (0, 8) for x in (0, 8)])
    expected = values / values.amax((1, 2), keepdim=True).clamp(min=1e-9) * 2 - 1
    torch.testing.assert_close(cells, expected, atol=0.005, rtol=0)


def test_one_scale_for_the_layer_keeps_filters_comparable(
    classifier: FrozenClassifier, data: Given
) -> None:
    values = classifier.network[:2](data.images[:1])[0]
    sheet = shown(classifier, data, layers=["1"], most_filters=4, sheet_px=12, scaling="layer")[
        0
    ].images[0, 0]
    cells = torch.stack([sheet[y : y + 6, x : x + 6] for y in (0, 8) for x in (0, 8)])
    torch.testing.assert_close(cells, values / values.max() * 2 - 1, atol=0.005, rtol=0)


def test_the_picture_says_its_scale_its_zeros_and_what_is_left_out(
    classifier: FrozenClassifier, data: Given
) -> None:
    signed, _, rectified, _ = shown(classifier, data, layers=["0", "1"])
    assert "grey is 0" in signed.captions[0]
    assert " 0 % of all" in signed.captions[0]
    zeros = 100 * float((classifier.network[:2](data.images[1:2]) == 0).double().mean())
    assert f" {zeros:.0f} % of all the layer's values are exactly 0" in rectified.captions[1]
    assert "3 of 4 filters, 1 more not drawn, 6 × 6 places" in rectified.captions[1]
    assert "black is 0, white is each filter's largest" in rectified.captions[1]


def test_the_table_holds_the_largest_means_in_order(
    classifier: FrozenClassifier, data: Given
) -> None:
    table = shown(classifier, data)[3]
    assert isinstance(table, Table)
    means = classifier.network[:3](data.images).double().mean((0, 2, 3))
    assert [row[0] for row in table.rows] == [f"filter {i}" for i in means.argsort().flip(0)[:2]]


def test_an_early_and_a_late_layer_are_found(classifier: FrozenClassifier, data: Given) -> None:
    captions = [e.captions[0] for e in shown(classifier, data, layers=None)[::2]]
    assert [caption.split(":")[0] for caption in captions] == ["1", "3"]


def test_an_image_has_its_sheet_whatever_stands_beside_it(
    classifier: FrozenClassifier, data: Given
) -> None:
    together = shown(classifier, data)[0]
    apart = [shown(classifier, Given(data.images[i:]), chunk_size=1)[0].images[0] for i in range(2)]
    assert torch.equal(together.images, torch.stack(apart))


def test_large_maps_are_averaged_into_their_cells(data: Given) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU())
    network[0].weight.data.fill_(1.0)
    form = {"input_resolution_px": 8, "input_channels": 1, "input_range": (-1, 1)}
    plain = FrozenClassifier(network, Adapter(**form, mean=(0,), std=(1,)), ("no", "yes"), ())
    sheet = shown(plain, data, layers=["1"], sheet_px=4)[0].images[0]
    values = data.images[0].relu()
    means = values.unflatten(2, (4, 2)).unflatten(1, (4, 2)).mean((2, 4))
    torch.testing.assert_close(sheet, means / values.max() * 2 - 1, atol=0.005, rtol=0)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"layers": ["9"]}, r"must name a layer of the network \(0, 1, 2, 3, 4, 5\), got '9'"),
        ({"layers": ["5"]}, "filters, rows and columns, got '5'"),
        ({"scaling": "own"}, "scaling must be one of filter, layer, got 'own'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(
    classifier: FrozenClassifier, data: Given, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        shown(classifier, data, **changed)


def test_memory_is_flat_over_200_calls(classifier: FrozenClassifier, data: Given) -> None:
    def held() -> int:
        shown(classifier, data)
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    before = held()
    for _ in range(199):
        shown(classifier, data)
    assert held() == before
    assert not any(m._forward_hooks for m in classifier.modules())
    assert isinstance(shown(classifier, data)[0], Pictures)

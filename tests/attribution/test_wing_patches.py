"""Patches: the strongest places, cut where the filter looks."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.attribution.patches import cut, framed, patches, strongest_places, telling_filters
from stylex.attribution.reception import Box
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.types import Images, Labels

SETTINGS = {"layer": "0", "filters": [0], "num_patches": 3, "chunk_size": 2}
CPU = torch.device("cpu")


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
def edges() -> Given:
    """Dark pictures whose right part is bright, from another column on and less bright each."""
    images = torch.full((4, 1, 9, 9), -1.0)
    for i in range(4):
        images[i, :, :, 2 + i :] = 1.0 - 0.3 * i
    return Given(images)


def adapter(size: int) -> Adapter:
    form = {"input_resolution_px": size, "input_channels": 1, "input_range": (-1, 1)}
    return Adapter(**form, mean=(0,), std=(1,))


@pytest.fixture
def classifier() -> FrozenClassifier:
    """Filter 0 finds edges from dark to bright, filter 1 the opposite."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, (1, 2), bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    network[0].weight.data = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).reshape(2, 1, 1, 2)
    return FrozenClassifier(network, adapter(9), ("no", "yes"), ())


def shown(classifier: FrozenClassifier, data: Given, **changed: Any) -> tuple[Any, Any]:
    settings = {**SETTINGS, **changed}
    return patches(classifier, data.images[:2], data.labels[:2], data=data, **settings)


def test_patches_of_an_edge_filter_are_the_edges(
    classifier: FrozenClassifier, edges: Given
) -> None:
    pictures, table = shown(classifier, edges)
    assert [row[2] for row in table.rows] == [0, 1, 2]  # the steepest first
    assert [row[5] for row in table.rows] == ["1–2", "2–3", "3–4"]
    for i, patch in enumerate(pictures.images[:3, 0]):  # 1 × 2 px, over grey to a square
        assert set(patch[0].tolist()) == {-1.0, edges.images[i].max().item()}
        assert patch[0].diff().count_nonzero() == 1
    assert [float(row[1]) for row in table.rows] == pytest.approx([2.0, 1.7, 1.4])
    assert pictures.columns == 3
    assert pictures.captions[3] == "image 0 (no)"


def test_the_strongest_are_those_of_the_whole_set_at_once(classifier: FrozenClassifier) -> None:
    data = Given(torch.rand(11, 1, 9, 9) * 2 - 1)
    values = classifier.network[0](data.images)  # [n f y x]
    order = values.amax((2, 3)).argsort(dim=0, descending=True)
    for chunk_size in (1, 4, 11):
        found = strongest_places(classifier, data, "0", [1, 0], 5, chunk_size, CPU)
        for peaks, i in zip(found, (1, 0), strict=True):
            assert [peak.image for peak in peaks] == order[:5, i].tolist()
            for peak in peaks:
                assert values[peak.image, i, peak.y, peak.x] == peak.value
                assert peak.value == values[peak.image, i].max()


def test_of_equal_places_the_first_counts(classifier: FrozenClassifier) -> None:
    found = strongest_places(classifier, Given(torch.zeros(5, 1, 9, 9)), "0", [0], 2, 2, CPU)[0]
    assert [(peak.image, peak.y, peak.x) for peak in found] == [(0, 0, 0), (1, 0, 0)]


def test_a_patch_is_what_its_value_is_computed_from(edges: Given) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3))
    deep = FrozenClassifier(network, adapter(16), ("no", "yes"), ())
    data = Given(torch.rand(3, 1, 16, 16) * 2 - 1)
    pictures, table = shown(deep, data, layer="2", num_patches=1)
    patch = pictures.images[0]  # 7 px wide, enlarged to 16 px
    at = ((torch.arange(7) + 0.5) * 16 / 7).long()
    small = patch[:, at][:, :, at]
    rows, columns = (tuple(int(v) for v in cell.split("–")) for cell in table.rows[0][4:])
    source = data.images[table.rows[0][2]][:, rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]
    kept = small[:, 7 - source.shape[1] :, 7 - source.shape[2] :]  # padding lies before alone
    assert torch.equal(kept, source)
    inner = deep.network[1](torch.nn.functional.conv2d(small, *network[0].parameters(), stride=2))
    if source.shape[1:] == (7, 7):
        assert float(network[2](inner)[0]) == pytest.approx(table.rows[0][1], abs=1e-5)


def test_what_lies_beyond_the_image_is_grey_and_the_frame_stays_within() -> None:
    image = torch.full((3, 6, 6), 0.5)
    patch = cut(image, Box(-2, 4, 5, 4))
    assert patch.shape == (3, 5, 4)
    assert torch.equal(patch[:, 2:, :2], image[:, :3, :2])
    assert patch[:, :2].abs().sum() == patch[:, :, 2:].abs().sum() == 0
    drawn = framed(image, Box(-2, 2, 5, 9))
    assert (drawn[:, 3:] == 0.5).all()
    assert (drawn[:, :, :2] == 0.5).all()
    assert (drawn[:, 2, 2:] == 1).all()
    assert (image == 0.5).all()


def test_the_telling_filter_is_the_one_whose_loss_costs_the_class_most() -> None:
    convolution, head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    plain = FrozenClassifier(network, adapter(6), ("no", "yes"), ())
    images = torch.rand(6, 1, 6, 6) * 2 - 1
    labels = torch.arange(6) % 2
    falls = head.weight[labels] * convolution(images).mean((2, 3))  # the head is linear
    expected = list(dict.fromkeys(falls.argmax(dim=1).tolist()))
    for chunk_size in (1, 4):
        assert telling_filters(plain, images, labels, "0", chunk_size) == expected
    assert not plain.network[0].weight.requires_grad


def test_the_layer_and_the_filters_are_found(classifier: FrozenClassifier, edges: Given) -> None:
    _, table = shown(classifier, edges, layer=None, filters=None)
    assert "filters of 1 see 1 × 2 px" in table.reading
    assert {row[0] for row in table.rows} <= {"filter 0", "filter 1"}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"layer": "9"}, r"patches.layer must name a layer of the network \(0, 1, 2, 3\), got '9'"),
        ({"filters": [2]}, "filters must be from 0 to 1 for layer '0', got 2"),
        ({"filters": [-1]}, "filters must be from 0 to 1 for layer '0', got -1"),
        ({"layer": "3"}, "filters, rows and columns, got '3'"),
        ({"layer": "3", "filters": None}, "filters, rows and columns, got '3'"),
        ({"num_patches": 0}, "num_patches must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(
    classifier: FrozenClassifier, edges: Given, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        shown(classifier, edges, **changed)


def test_an_image_smaller_than_the_patch_is_refused(edges: Given) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 11, padding=5), nn.ReLU())
    with pytest.raises(InputError, match=r"fit the network's input \(9×9 px\)"):
        shown(FrozenClassifier(network, adapter(9), ("no", "yes"), ()), edges)


@pytest.mark.slow
def test_memory_is_flat_over_200_calls(classifier: FrozenClassifier, edges: Given) -> None:
    def held() -> int:
        shown(classifier, edges, filters=None)
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    before = held()
    for _ in range(199):
        shown(classifier, edges, filters=None)
    assert held() == before
    assert not any(m._forward_hooks for m in classifier.modules())

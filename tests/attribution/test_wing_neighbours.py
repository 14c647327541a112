"""Laws of the nearest neighbours."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stylex.attribution.embeddings import neighbours
from stylex.classifier.embedding import build_embedding, own_embedding
from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.types import Images, Labels


class Drawn(ImageSet):
    """Images in memory."""

    def __init__(self, images: Images, channels: int = 1) -> None:
        super().__init__(
            class_names=("circle", "square", "star"),
            labels=torch.arange(len(images)) % 3,
            split="test",
            resolution=16,
            channels=channels,
        )
        self.images = images

    def _images(self, positions: Labels) -> Images:
        return self.images[positions]

    def _content(self) -> bytes:
        return b""


GIVEN: dict[str, Any] = {"embedding": None, "num_neighbours": 3, "chunk_size": 4}


@pytest.fixture
def data(tiny_images: Images) -> Drawn:
    return Drawn(torch.cat((tiny_images, tiny_images.flip(2), tiny_images.flip(3))))


def asked(images: Images) -> Labels:
    return torch.ones(len(images), dtype=torch.int64)


def test_neighbours_are_the_nearest_by_a_loop_and_never_the_image_itself(
    tiny_classifier: FrozenClassifier, tiny_images: Images, data: Drawn
) -> None:
    pictures, table = neighbours(
        tiny_classifier, tiny_images[:5], asked(tiny_images[:5]), data=data, **GIVEN
    )
    vectors = own_embedding(tiny_classifier)(data.images).double()
    rows = pictures.images.unflatten(0, (5, 4))
    for i in range(5):
        apart = (vectors - vectors[i]).norm(dim=1)
        expected = [j for j in apart.argsort().tolist() if j != i][:3]
        assert torch.equal(rows[i, 0], tiny_images[i])
        assert torch.equal(rows[i, 1:], data.images[expected])
        names = [data.class_names[j % 3] for j in expected]
        assert table.rows[i][:4] == (i + 1, "square", names[0], names.count("square") / 3)
        assert table.rows[i][4:] == pytest.approx(apart[expected][[0, -1]].tolist(), abs=1e-5)
        captions = pictures.captions[4 * i : 4 * i + 4]
        assert captions[0] == "query: square"
        assert captions[1] == f"{names[0]}\n{float(apart[expected[0]]):.3f}"
    assert pictures.columns == 4


def test_chunks_and_other_queries_change_nothing(
    tiny_classifier: FrozenClassifier, tiny_images: Images, data: Drawn
) -> None:
    whole, _ = neighbours(tiny_classifier, tiny_images, asked(tiny_images), data=data, **GIVEN)
    for chunk_size in (1, 7, 100):
        given = {**GIVEN, "chunk_size": chunk_size}
        found, _ = neighbours(tiny_classifier, tiny_images, asked(tiny_images), data=data, **given)
        assert torch.equal(found.images, whole.images)
    alone, _ = neighbours(
        tiny_classifier, tiny_images[3:4], asked(tiny_images[:1]), data=data, **GIVEN
    )
    assert torch.equal(alone.images, whole.images[12:16])


def test_a_copy_that_differs_in_one_pixel_is_the_nearest(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    changed = tiny_images[:1].clone()
    changed[0, 0, 0, 0] += 0.1
    data = Drawn(torch.cat((tiny_images, changed)))
    found, _ = neighbours(
        tiny_classifier, tiny_images[:1], asked(tiny_images[:1]), data=data, **GIVEN
    )
    assert torch.equal(found.images[1], changed[0])


def test_a_trained_embedding_takes_the_place_of_the_features(
    tiny_classifier: FrozenClassifier,
    tiny_config: dict[str, Any],
    tiny_images: Images,
    data: Drawn,
    tmp_path: Path,
) -> None:
    trained = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 6).eval()
    trained.save(tmp_path, tiny_config)
    given = {**GIVEN, "embedding": str(tmp_path)}
    found, table = neighbours(
        tiny_classifier, tiny_images[:1], asked(tiny_images[:1]), data=data, **given
    )
    vectors = trained(data.images)
    nearest = (vectors - vectors[0]).norm(dim=1).argsort()[1]
    assert torch.equal(found.images[1], data.images[nearest])
    assert str(tmp_path) in table.reading


def test_the_classifier_is_left_as_it_was_even_after_an_error(
    tiny_classifier: FrozenClassifier, tiny_images: Images, data: Drawn
) -> None:
    before = tiny_classifier(tiny_images)
    with pytest.raises(InputError, match="need 36 other images in the data, got 36 in all"):
        neighbours(
            tiny_classifier,
            tiny_images,
            asked(tiny_images),
            data=data,
            **{**GIVEN, "num_neighbours": 36},
        )
    assert torch.equal(tiny_classifier(tiny_images), before)
    assert not any(module._forward_pre_hooks for module in tiny_classifier.modules())


def test_the_file_binds_every_number_of_the_method(
    tiny_classifier: FrozenClassifier, tiny_images: Images, data: Drawn
) -> None:
    file = Path(__file__).parents[2] / "configs" / "method" / "embeddings.yaml"
    given = yaml.safe_load(file.read_text())
    assert given.pop("_target_") == f"{neighbours.__module__}.{neighbours.__qualname__}"
    assert given.pop("_partial_") is True
    found, _ = neighbours(
        tiny_classifier, tiny_images[:2], asked(tiny_images[:2]), data=data, **given
    )
    assert len(found.images) == 2 * (given["num_neighbours"] + 1)


def test_mistakes_are_one_sentence(
    tiny_classifier: FrozenClassifier, tiny_images: Images, data: Drawn
) -> None:
    for change in ({"num_neighbours": 0}, {"chunk_size": 0}):
        with pytest.raises(InputError, match="must be at least 1, got 0"):
            neighbours(
                tiny_classifier, tiny_images, asked(tiny_images), data=data, **{**GIVEN, **change}
            )
    with pytest.raises(InputError, match=r"must have the images' channels \(1\), got data of 3"):
        neighbours(
            tiny_classifier, tiny_images, asked(tiny_images), data=Drawn(tiny_images, 3), **GIVEN
        )

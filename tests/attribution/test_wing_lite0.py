"""Maps of a real network on a real photograph: the cat's face lights up."""

from pathlib import Path

import pytest
import torch
import yaml

from stylex.attribution.gradcam import gradcam
from stylex.attribution.gradients import guided_backprop, saliency
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.data.photographs import Photographs
from stylex.types import Images, Labels

LITE0 = Path(__file__).parents[2] / "configs" / "classifier" / "lite0.yaml"


@pytest.fixture(scope="module")
def cat() -> tuple[FrozenClassifier, Images, Labels]:
    data = Photographs(split="test", resolution=256, channels=3)
    classifier = build_classifier(yaml.safe_load(LITE0.read_text()), data.class_names)
    return classifier, *data.batch([0])


def test_guided_backpropagation_is_not_saliency_on_a_network_of_relu6(
    cat: tuple[FrozenClassifier, Images, Labels],
) -> None:
    guided = guided_backprop(*cat, signed=False, chunk_size=1)
    plain = saliency(*cat, signed=False, chunk_size=1)
    pair = torch.stack((guided.flatten(), plain.flatten()))
    assert float(torch.corrcoef(pair)[0, 1]) < 0.7
    # Eyes and nose, as they lie in the picture, against the picture's upper and lower edge.
    face = torch.zeros(256, 256, dtype=torch.bool)
    face[70:130, 45:120] = face[90:140, 185:230] = face[180:235, 125:190] = True
    edges = torch.zeros(256, 256, dtype=torch.bool)
    edges[:30], edges[-20:] = True, True
    assert guided[0, face].mean() > 3 * guided[0, edges].mean()


def test_grad_cam_lights_the_cats_face(cat: tuple[FrozenClassifier, Images, Labels]) -> None:
    found = gradcam(*cat, layer=None, relu=True, chunk_size=1)[0]
    assert found[70:215, 45:215].mean() > 2 * found[:, -30:].mean()

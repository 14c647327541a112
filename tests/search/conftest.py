"""Images of a study and their statistics, and a model whose every answer is known."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stylex.gan.generator import SynthesisState
from stylex.model import StylEx
from stylex.search.statistics import Statistics, collect
from stylex.types import Images, Logits, Styles


@pytest.fixture
def study_images() -> Images:
    """Ninety smooth images; the reconstructions of at least five are called each class."""
    coarse = torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return functional.interpolate(coarse, (16, 16), mode="bilinear")


@pytest.fixture
def statistics(tiny_model: StylEx, study_images: Images) -> Statistics:
    """Of twelve of them."""
    return collect(tiny_model, [study_images[:12]], list(range(12)), quantile=0.0)


class Painter(nn.Module):
    """Paints an image in one grey: the sum of its styles, which may be beyond [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.zeros(1))

    def synthesis(self, styles: Styles, start: SynthesisState | None = None) -> Images:
        """One pixel is enough."""
        return styles.sum(dim=1)[:, None, None, None]


class Judge(nn.Module):
    """Class 1 has the probability sigmoid(4 x grey)."""

    def forward(self, images: Images) -> Logits:
        """The logits."""
        logit: Tensor = 4 * images.mean(dim=(1, 2, 3))
        return torch.stack((torch.zeros_like(logit), logit), dim=1)

    def probabilities(self, images: Images) -> Logits:
        """Their softmax."""
        return self(images).softmax(dim=1)


@pytest.fixture
def grey_model() -> StylEx:
    """Styles that add up to a grey value, and a classifier that sees nothing else."""
    model = StylEx.__new__(StylEx)
    nn.Module.__init__(model)
    model.generator, model.classifier = Painter(), Judge()
    return model

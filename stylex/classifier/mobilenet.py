"""MobileNet V1 as Keras has it: the classifier of the released age model.

Source: Howard et al. 2017 (arXiv:1704.04861), table 1, width 1.0; paddings, batch normalisation and
    names as in Keras' applications.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.types import Images, Logits
from stylex.variables import Entry, Table, convolution, dense, depthwise, vector

NORM_EPSILON = 1e-3  # Keras' default
NORM_MOMENTUM = 0.01  # 1 - Keras' default of 0.99
# Output channels and stride of every depthwise-separable block.
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


class Unit(nn.Module):
    """Convolution, batch normalisation, limited ReLU.

    The padding is TensorFlow's "same" on sizes that the stride divides: with stride 2 a row below
    and a column on the right alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_px: int,
        *,
        stride: int,
        groups: int,
        relu_max: float,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_px, stride, groups=groups, bias=False
        )
        self.normalisation = nn.BatchNorm2d(out_channels, NORM_EPSILON, NORM_MOMENTUM)
        before, after = (kernel_px - stride) // 2, (kernel_px - stride + 1) // 2
        self.padding, self.relu_max = (before, after, before, after), relu_max

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Returns activations in [0, relu_max]."""
        x = self.convolution(F.pad(x, self.padding))
        return self.normalisation(x).clamp(0, self.relu_max)


class MobileNetV1(nn.Module):
    """Colour images in [-1, 1] whose size is a multiple of 32 px → logits."""

    def __init__(
        self, num_classes: int, dropout: float, relu_max: float, clamp_input: bool
    ) -> None:
        """Builds an untrained network.

        Args:
            num_classes: Number of logits.
            dropout: Share of the averaged features dropped in training (the released age model:
                0.2).
            relu_max: Upper limit of every activation (Keras: 6).
            clamp_input: Whether what lies outside [-1, 1] is cut off first, as the official
                notebook does with generated images.
        """
        super().__init__()
        self.clamp_input = clamp_input
        self.stem = Unit(3, 32, 3, stride=2, groups=1, relu_max=relu_max)
        channels = (32, *(width for width, _ in BLOCKS))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    Unit(below, below, 3, stride=stride, groups=below, relu_max=relu_max),
                    Unit(below, here, 1, stride=1, groups=1, relu_max=relu_max),
                )
                for below, (here, stride) in zip(channels[:-1], BLOCKS, strict=True)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Images) -> Logits:
        """Returns logits."""
        if self.clamp_input:
            images = images.clamp(-1, 1)
        x = self.blocks(self.stem(images)).mean(dim=(2, 3))
        return self.head(self.dropout(x))


def mobilenet_table() -> Table:
    """Where a `MobileNetV1` comes from, by Keras' names of the variables."""
    table = _unit("stem", "conv1", "conv1/kernel", depth=False)
    for i in range(len(BLOCKS)):
        wide, point = f"conv_dw_{i + 1}", f"conv_pw_{i + 1}"
        table |= _unit(f"blocks.{i}.0", wide, f"{wide}/depthwise_kernel", depth=True)
        table |= _unit(f"blocks.{i}.1", point, f"{point}/kernel", depth=False)
    return table | {
        "head.weight": Entry("conv_preds/kernel", lambda kernel: dense(kernel.squeeze((0, 1)))),
        "head.bias": Entry("conv_preds/bias", vector),
    }


def _unit(ours: str, theirs: str, kernel: str, *, depth: bool) -> dict[str, Entry]:
    norm = f"{ours}.normalisation"
    return {
        f"{ours}.convolution.weight": Entry(kernel, depthwise if depth else convolution),
        f"{norm}.weight": Entry(f"{theirs}_bn/gamma", vector),
        f"{norm}.bias": Entry(f"{theirs}_bn/beta", vector),
        f"{norm}.running_mean": Entry(f"{theirs}_bn/moving_mean", vector),
        f"{norm}.running_var": Entry(f"{theirs}_bn/moving_variance", vector),
    }

"""Networks that can be trained here as the classifier to explain."""

from torch import Tensor, nn

from stylex.types import Images, Logits


def convolution_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class SmallCNN(nn.Module):
    """Three stages of two convolutions for small images, average pooling, one linear layer.

    `stage1`, `stage2` and `stage3` are the layers whose outputs serve as features of a perceptual
    distance.
    """

    def __init__(self, channels: int, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stage1 = convolution_block(channels, width)
        self.stage2 = convolution_block(width, 2 * width)
        self.stage3 = convolution_block(2 * width, 4 * width)
        self.shrink = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Images) -> Logits:
        """Returns logits."""
        x: Tensor = self.shrink(self.stage1(images))
        x = self.shrink(self.stage2(x))
        return self.head(self.dropout(self.stage3(x).mean(dim=(2, 3))))

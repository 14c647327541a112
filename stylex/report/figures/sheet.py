"""A page of exact width on which pictures, words and charts are laid out, written as PNG or PDF.

Lengths are in pixels of the PNG, of which an inch has 300, counted from the top left. Letters are
in points of the printed page, of which an inch has 72.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font_names
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from torch import Tensor

from stylex.artifacts import replacing
from stylex.imaging import enlarge

PX_PER_INCH, PT_PER_INCH = 300, 72
WIDTH_PX = {1: 990, 2: 2070}  # 3.3 and 6.9 in: they fit one and two columns of common templates
FONT = "DejaVu Sans"  # matplotlib brings it, so that all machines draw the same letters
OTHER_FONTS = (  # for what it lacks, where they are installed
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
TEXT_PT, NOTE_PT = 7.0, 6.0
INK, MUTED, RULE = "#1a1a1a", "#666666", "#b4b4b4"
DECREASE, INCREASE = "#2166ac", "#b2182b"  # blue and red that colour-blind readers tell apart
LINE = 1.3  # height of a line of text, of the letters' size
BASELINE = 1.0  # of it above the letters' feet, of their size
HAIRLINE_PT, FRAME_PT = 0.4, 1.5
NOTE_GAP_PX, EDGE_PX = 16, 7  # above a note; beside pictures, whose frames are outside them


@contextmanager
def style() -> Iterator[None]:
    """Draws as the figures do, whatever matplotlib is set to; both building and saving need it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": families(),
                "font.size": TEXT_PT,
                "text.color": INK,
                "text.parse_math": False,
                "pdf.fonttype": 42,
                "image.composite_image": False,
                "axes.edgecolor": INK,
                "axes.labelcolor": INK,
                "axes.labelsize": NOTE_PT,
                "axes.labelpad": 2,
                "axes.linewidth": 0.5,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "xtick.color": INK,
                "ytick.color": INK,
                "xtick.labelsize": NOTE_PT,
                "ytick.labelsize": NOTE_PT,
                "xtick.major.size": 2,
                "ytick.major.size": 2,
                "xtick.major.pad": 2,
                "ytick.major.pad": 2,
                "xtick.major.width": 0.5,
                "ytick.major.width": 0.5,
            }
        )
        yield


@cache
def families() -> list[str]:
    """Our font, and those installed that have other letters."""
    installed = get_font_names()
    return [FONT, *(name for name in OTHER_FONTS if name in installed)]


def pixels(points: float) -> int:
    """Pixels of a length in points."""
    return round(points * PX_PER_INCH / PT_PER_INCH)


def line_px(size: float) -> int:
    """Height of a line of text of this size."""
    return pixels(size * LINE)


def text_px(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text."""
    font = FontProperties(family=families(), size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return width * PX_PER_INCH / PT_PER_INCH


def fit(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """A text in one line, shortened to a width with “…”; what cannot be printed is a space.

    Args:
        text: As a user wrote it.
        width: Most that it may take.
        size: Of its letters.
        bold: Whether it is bold.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if text_px(text, size, bold=bold) <= width:
        return text
    low, high = 0, len(text)  # letters that fit, letters that do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = text_px(f"{text[:middle]}…", size, bold=bold) <= width
        low, high = (middle, high) if fits else (low, middle)
    return f"{text[:low].rstrip()}…"


def wrap(text: str, width: float, size: float, most: int) -> list[str]:
    """A text in lines of a width, at most so many; the last is shortened if more is left."""
    words = text.split()
    lines: list[str] = []
    while words and len(lines) < most - 1:
        taken = 1
        while taken < len(words) and text_px(" ".join(words[: taken + 1]), size) <= width:
            taken += 1
        lines.append(fit(" ".join(words[:taken]), width, size))
        words = words[taken:]
    return [*lines, fit(" ".join(words), width, size)] if words else lines


def side_px(width: float, native: int) -> int:
    """Side of a picture in at most this width: a whole multiple of its own size if it is small."""
    width = int(width)
    return width // native * native if native <= width else width


class Sheet:
    """A page that grows downwards as it is drawn on.

    Args:
        columns: 1 or 2, of the text that it stands in.
    """

    def __init__(self, columns: int) -> None:
        self.width = WIDTH_PX[columns]
        self.height = 1
        self.description = ""
        self._resampled: list[AxesImage] = []
        self._charts: list[tuple[Axes, tuple[float, float, float, float]]] = []
        self.figure = Figure(figsize=(self.width / PX_PER_INCH, 1), dpi=PX_PER_INCH)
        FigureCanvasAgg(self.figure)
        self.page = self.figure.add_axes((0, 0, 1, 1))
        self.page.set_axis_off()
        self.page.set_autoscale_on(False)
        self.page.set_xlim(0, self.width)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size: float = TEXT_PT,
        *,
        color: str = INK,
        bold: bool = False,
        align: str = "left",
    ) -> float:
        """Writes one line with its top at `y`.

        Returns:
            Where the next line begins.
        """
        self.page.text(
            x,
            y + pixels(size * BASELINE),
            text,
            fontsize=size,
            color=color,
            weight="bold" if bold else "normal",
            ha=align,
            va="baseline",
        )
        return self._reach(y + line_px(size))

    def note(self, y: float, text: str) -> float:
        """Writes small grey lines over the whole width after a gap; returns their end."""
        y += NOTE_GAP_PX
        for line in wrap(text, self.width, NOTE_PT, 8):
            y = self.write(0, y, line, NOTE_PT, color=MUTED)
        return y

    def turned(self, x: float, y: float, height: float, text: str) -> None:
        """Writes small upright letters that begin left at `x`, in the middle of a height."""
        self.page.text(
            x,
            y + height / 2,
            fit(text, height, NOTE_PT),
            fontsize=NOTE_PT,
            color=MUTED,
            rotation=90,
            ha="left",
            va="center",
        )

    def slanted(self, x: float, y: float, text: str, *, bold: bool = False) -> None:
        """Writes small letters that rise to the right from a point."""
        self.page.text(
            x,
            y,
            text,
            fontsize=NOTE_PT,
            weight="bold" if bold else "normal",
            rotation=40,
            rotation_mode="anchor",
            ha="left",
            va="baseline",
        )

    def picture(
        self, x: float, y: float, side: int, picture: Tensor, *, faded: bool = False
    ) -> None:
        """Draws a picture [c h w] of 8-bit pixels.

        Those of a small picture are repeated, for some viewers of PDF files smooth them.
        """
        native = picture.shape[-1]
        colored = picture.expand(3, -1, -1)  # a grey colour map would round some values
        drawn = self.page.imshow(
            enlarge(colored, max(1, side // native)).permute(1, 2, 0).cpu().numpy(),
            extent=(x, x + side, y + side, y),
            aspect="auto",
            interpolation="none",
            alpha=0.2 if faded else None,
        )
        if side % native:
            self._resampled.append(drawn)
        self.frame(x, y, side, RULE, HAIRLINE_PT)
        self._reach(y + side)

    def tag(self, x: float, y: float, text: str, *, faded: bool = False) -> None:
        """Writes into a white box at the top left of a picture."""
        pad = pixels(0.9)
        width, height = text_px(text, NOTE_PT) + 2 * pad, pixels(NOTE_PT * 0.73) + 2 * pad
        self.page.add_patch(Rectangle((x, y), width, height, facecolor="white", lw=0, zorder=3))
        self.page.text(
            x + pad,
            y + height - pad,
            text,
            fontsize=NOTE_PT,
            color=RULE if faded else INK,
            ha="left",
            va="baseline",
            zorder=4,
        )

    def frame(self, x: float, y: float, side: float, color: str, size: float = FRAME_PT) -> None:
        """Draws a line around a picture, outside its pixels."""
        out = size * PX_PER_INCH / PT_PER_INCH / 2
        self.page.add_patch(
            Rectangle(
                (x - out, y - out),
                side + 2 * out,
                side + 2 * out,
                fill=False,
                edgecolor=color,
                lw=size,
                joinstyle="miter",
                zorder=2 if size == HAIRLINE_PT else 5,
                clip_on=False,
            )
        )
        self._reach(y + side + 2 * out)

    def chart(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose plot, without its labels, fills a rectangle."""
        axes = self.figure.add_axes((0, 0, 1, 1), label=f"chart {len(self._charts)}")
        self._charts.append((axes, (x, y, width, height)))
        self._reach(y + height)
        return axes

    def save(self, path: Path) -> None:
        """Writes the page as the kind of file that the path's ending says, without a date."""
        width, height = self.width, self.height
        self.figure.set_size_inches(width / PX_PER_INCH, height / PX_PER_INCH)
        self.page.set_ylim(height, 0)
        for axes, (x, y, w, h) in self._charts:
            axes.set_position((x / width, 1 - (y + h) / height, w / width, h / height))
        is_pdf = path.suffix == ".pdf"
        for drawn in self._resampled:
            drawn.set_interpolation("none" if is_pdf else "antialiased")  # a PDF keeps all pixels
        facts = (
            {"CreationDate": None, "Subject": self.description}
            if is_pdf
            else {"Software": None, "Description": self.description}
        )
        with replacing(path) as temporary:
            self.figure.savefig(temporary, format=path.suffix[1:], dpi=PX_PER_INCH, metadata=facts)

    def _reach(self, y: float) -> float:
        self.height = max(self.height, int(-(-y // 1)))
        return y

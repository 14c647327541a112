"""Films as files: GIF, WebP, APNG and MP4, which are repeated for ever or play for some seconds."""

import importlib
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylex.artifacts import replacing
from stylex.errors import InputError
from stylex.report.animation import Film
from stylex.report.palette import share_palette

ENDINGS = (".gif", ".webp", ".apng", ".mp4")
VIDEO_RATE = 50  # frames a second: 20 ms divide what films are made of
VIDEO_MS = 8000  # shortest video; a film is repeated until it is reached
VIDEO_LOSS = 12  # x264's crf: 0 loses nothing, below 18 nothing is seen


def write_film(path: Path, film: Film) -> None:
    """Writes a film in the format of the path's ending, its caption as description.

    WebP and APNG hold the frames bit by bit; so does a GIF of grey frames. A GIF of colour frames
    has one palette, and its comment says how far its colours are off. It counts hundredths of a
    second. An MP4 is H.264 that every player shows.

    Args:
        path: The file: .gif, .webp, .apng or .mp4.
        film: What to write.

    Raises:
        InputError: If the ending is another, or an MP4 is asked for without imageio-ffmpeg.
    """
    ending = path.suffix.lower()
    writers = dict(zip(ENDINGS, (_write_gif, _write_webp, _write_apng, _write_mp4), strict=True))
    if ending not in writers:
        raise InputError(
            f"an animation's ending must be one of {', '.join(ENDINGS)}, got '{path.name}'"
        )
    with replacing(path) as temporary:
        writers[ending](temporary, film)


def check_format(name: str) -> None:
    """Refuses a format that no film is written in, or whose package is missing.

    Raises:
        InputError: If it is none of gif, webp, apng and mp4, or an MP4 without imageio-ffmpeg.
    """
    if f".{name}" not in ENDINGS:
        known = ", ".join(ending[1:] for ending in ENDINGS)
        raise InputError(f"an animation's format must be one of {known}, got '{name}'")
    if name == "mp4":
        _ffmpeg()


def _ffmpeg() -> Any:  # noqa: ANN401  a module
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise InputError(
            "an MP4 animation needs imageio-ffmpeg, got none; run pip install -e '.[video]'"
        ) from error


def _write_gif(path: Path, film: Film) -> None:
    shared = share_palette(film.frames)
    comment = film.caption
    if shared.most_off:
        comment += (
            f" · {len(shared.colours)} colours, off by at most {shared.most_off} of 255, "
            f"{shared.mean_off:.1f} on average"
        )
    first, *others = shared.frames
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=others,
        palette=bytes(shared.flat),
        duration=[10 * round(ms / 10) for ms in film.durations_ms],
        loop=0,
        optimize=True,  # unchanged pixels are transparent where the palette has room
        disposal=1,
        comment=comment.encode()[:255],
    )


def _write_webp(path: Path, film: Film) -> None:
    first, *others = film.frames
    first.save(
        path,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=list(film.durations_ms),
        loop=0,
        lossless=True,
        quality=50,  # of lossless files: effort
        method=2,
        minimize_size=False,
        exif=_exif(film.caption),
    )


def _exif(caption: str) -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = caption  # ImageDescription
    return found


def _write_apng(path: Path, film: Film) -> None:
    facts = PngInfo()
    facts.add_itxt("Description", film.caption)
    first, *others = film.frames
    first.save(
        path,
        format="PNG",
        save_all=True,
        append_images=others,
        duration=list(film.durations_ms),
        loop=0,
        pnginfo=facts,
    )


def _write_mp4(path: Path, film: Film) -> None:
    ffmpeg = _ffmpeg()
    width, height = film.frames[0].size
    size = (width + width % 2, height + height % 2)  # chroma has half of them
    padded = {}
    for frame in film.frames:
        page = Image.new("RGB", size, "white")
        page.paste(frame, (0, 0))
        padded[id(frame)] = page.tobytes()
    space = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
    writer = ffmpeg.write_frames(
        path,
        size,
        fps=VIDEO_RATE,
        codec="libx264",
        pix_fmt_out="yuv420p",
        quality=None,
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=[
            *("-vf", "scale=out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int", *space),
            *("-crf", str(VIDEO_LOSS), "-preset", "medium", "-tune", "animation"),
            *("-movflags", "+faststart", "-metadata", f"comment={film.caption}"),
        ],
    )
    writer.send(None)
    rounds = -(-VIDEO_MS // sum(film.durations_ms))
    shown_ms, written = 0, 0
    for frame, ms in zip(film.frames * rounds, film.durations_ms * rounds, strict=True):
        shown_ms += ms
        until = round(shown_ms * VIDEO_RATE / 1000)
        for _ in range(until - written):
            writer.send(padded[id(frame)])
        written = until
    writer.close()

"""Films as files: GIF, WebP, APNG and MP4, which are repeated for ever or play for some seconds."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylex.artifacts import replacing
from stylex.errors import InputError
from stylex.report.animations.animation import Film
from stylex.report.animations.palette import share_palette

ENDINGS = (".gif", ".webp", ".apng", ".mp4")
VIDEO_RATE = 50  # frames a second: 20 ms divide what films are made of
VIDEO_MS = 8000  # shortest video; a film is repeated until it is reached
VIDEO_LOSS = 12  # x264's crf: 0 loses nothing, below 18 nothing is seen
VIDEO_NEED = "an MP4 animation needs imageio-ffmpeg"
VIDEO_REMEDY = "pip install -e '.[video]'"


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
        raise InputError(f"{VIDEO_NEED}, got none; {VIDEO_REMEDY}") from error


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
        comment=comment.encode(),
    )


def _for_ever(film: Film) -> dict[str, Any]:
    """What Pillow needs to write all frames with their times, to be repeated for ever."""
    others, times = list(film.frames[1:]), list(film.durations_ms)
    return {"save_all": True, "append_images": others, "duration": times, "loop": 0}


def _write_webp(path: Path, film: Film) -> None:
    film.frames[0].save(
        path,
        format="WEBP",
        **_for_ever(film),
        lossless=True,
        quality=50,  # of lossless files: effort
        method=2,
        minimize_size=False,
        xmp=_described(film.caption),
    )


def _described(caption: str) -> bytes:
    """A caption as XMP, the only place of a WebP file for it."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
        f'<rdf:li xml:lang="x-default">{escape(caption)}</rdf:li>'
        "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def _write_apng(path: Path, film: Film) -> None:
    facts = PngInfo()
    facts.add_itxt("Description", film.caption)
    film.frames[0].save(path, format="PNG", **_for_ever(film), pnginfo=facts)


def _write_mp4(path: Path, film: Film) -> None:
    ffmpeg = _ffmpeg()
    width, height = film.frames[0].size
    size = (width + width % 2, height + height % 2)  # chroma has half of them
    padded = {}
    for frame in film.frames:
        page = Image.new("RGB", size, "white")
        page.paste(frame, (0, 0))
        padded[id(frame)] = page.tobytes()
    try:
        writer = ffmpeg.write_frames(path, size, fps=VIDEO_RATE, **_coding(film.caption))
        writer.send(None)
        for frame, times in _repeated(film):
            for _ in range(times):
                writer.send(padded[id(frame)])
        writer.close()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{VIDEO_NEED}, got one that fails ({error}); {VIDEO_REMEDY}") from error
    if path.stat().st_size == 0:
        raise InputError(f"{VIDEO_NEED}, got one that wrote nothing; {VIDEO_REMEDY}")


def _coding(caption: str) -> dict[str, Any]:
    """H.264 as every player reads it, in the colours of today's screens."""
    space = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
    return {
        "codec": "libx264",
        "pix_fmt_out": "yuv420p",
        "quality": None,  # the crf below
        "macro_block_size": 2,
        "ffmpeg_log_level": "error",
        "output_params": [
            *("-vf", "scale=out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int", *space),
            *("-crf", str(VIDEO_LOSS), "-tune", "animation"),
            *("-movflags", "+faststart", "-metadata", f"comment={caption}"),
        ],
    }


def _repeated(film: Film) -> Iterator[tuple[Image.Image, int]]:
    """The film as often as makes a video, and how many of the video's frames each frame is."""
    rounds = -(-VIDEO_MS // sum(film.durations_ms))
    shown_ms, written = 0, 0
    for frame, ms in zip(film.frames * rounds, film.durations_ms * rounds, strict=True):
        shown_ms += ms
        until = round(shown_ms * VIDEO_RATE / 1000)
        yield frame, until - written
        written = until

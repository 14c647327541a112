"""The live page: which widget asks what, and what its answer changes."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from stylex.errors import InputError
from stylex.live import panels
from stylex.live.uploads import ENDINGS, Limits, read_upload
from stylex.progress import Progress
from stylex.report.animations.animation import Style, flicker
from stylex.report.animations.codec import write_film
from stylex.search.exploration import FARTHEST, FARTHEST_BACK, Exploration, Subject, View
from stylex.search.results import Explanation

KEPT_S = 3600  # files of the page are removed after this time
STEP = 0.05  # of a knob
STYLE = Style("row", inset=False, frame_ms=800)  # of the animation to download
FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")  # none comes from the network
CLICK = "() => document.querySelector('#sx-file').click()"
Changes = dict[Any, Any]  # widget → what it becomes


@dataclass(frozen=True)
class Visit:
    """What one visitor has asked for.

    Attributes:
        subject: The image.
        found: What would change its decision; none before it is asked for.
    """

    subject: Subject
    found: Explanation | None = None


class Page:
    """All widgets and the answers to them.

    Attributes:
        blocks: Gradio's own.
    """

    def __init__(self, exploration: Exploration, name: str, limits: Limits, folder: Path) -> None:
        """Lays the page out.

        Args:
            exploration: The model with its reference images.
            name: Of the model.
            limits: What an upload may be.
            folder: Where everything is written.
        """
        self.exploration, self.limits, self.folder = exploration, limits, folder
        self.names = exploration.class_names
        self.blocks = gr.Blocks(
            title="StylEx live", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)
        )
        with self.blocks:
            self.visit = gr.State(None)
            gr.HTML(panels.heading(exploration, name))
            self._lay_out_question()
            with gr.Row(elem_classes=["sx-stage"]):
                with gr.Column(scale=3, min_width=320):
                    self.pictures = gr.HTML(elem_classes=["sx-sticky"], elem_id="sx-pictures")
                with gr.Column(scale=2, min_width=320):
                    self.chances = gr.HTML(elem_classes=["sx-last"], elem_id="sx-chances")
            self._lay_out_knobs()
            self._connect()
        self.blocks.queue(default_concurrency_limit=1, api_open=False)

    def _lay_out_question(self) -> None:
        model = self.exploration.model
        with gr.Row(equal_height=True):
            with gr.Column(scale=5, min_width=320):
                self.upload = gr.File(
                    label=f"Your image: PNG, JPEG or WebP, at most {self.limits.megabytes:g} MB",
                    file_types=list(ENDINGS),
                    height=150,
                    elem_id="sx-upload",
                )
            with gr.Column(scale=4, min_width=320):
                self.target = gr.Dropdown(
                    label="Class to move to", choices=[], interactive=True, elem_id="sx-target"
                )
                self.ask = gr.Button(
                    "Find what would change this decision",
                    variant="primary",
                    interactive=False,
                    elem_id="sx-ask",
                )
        size = f"{model.resolution_px} x {model.resolution_px} pixels"
        self.hint = panels.message(
            "plain", f"Drop an image to begin. Its centred square is scaled to {size}."
        )
        self.message = gr.HTML(self.hint, elem_id="sx-message", min_height=52)

    def _lay_out_knobs(self) -> None:
        settings = self.exploration.settings
        with gr.Column(visible=False) as self.desk:
            gr.HTML(panels.manual(self.exploration.num_images))
            with gr.Group(elem_classes=["sx-knobs"]):
                self.knobs = [
                    gr.Slider(
                        FARTHEST_BACK,
                        max(FARTHEST, settings.strength),
                        0,
                        step=STEP,
                        visible=False,
                        elem_id=f"sx-knob-{rank}",
                    )
                    for rank in range(1, settings.num_attributes + 1)
                ]
            with gr.Row():
                self.smallest = gr.Button(
                    "Show the change found", min_width=90, elem_id="sx-smallest"
                )
                self.reset = gr.Button("Reset", min_width=90, elem_id="sx-reset")
                self.save = gr.Button("Download as GIF", min_width=90, elem_id="sx-save")
            self.file = gr.DownloadButton(elem_id="sx-file")

    def _connect(self) -> None:
        answers = [self.message, self.pictures, self.chances]
        everything = [self.visit, *answers, self.target, self.ask, self.desk, *self.knobs]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        turned = [self.visit, *self.knobs]
        self.blocks.load(self.draw, [self.visit], answers[1:], **quiet)
        self.upload.change(
            self.see, [self.upload], [*everything, self.smallest], show_progress_on=[self.message],
            api_visibility="private",
        )  # fmt: skip
        # No other image while one is explained: the answer would come under the wrong one.
        asked = self.ask.click(self.hold, None, [self.upload, self.ask], **quiet)
        answered = asked.then(
            self.find, [self.visit, self.target], [*everything, self.smallest],
            show_progress_on=[self.message], api_visibility="private",
        )  # fmt: skip
        answered.then(self.let_go, None, [self.upload, self.ask], **quiet)
        for knob in self.knobs:
            knob.input(self.draw, turned, answers[1:], trigger_mode="always_last", **quiet)
        moved = [*answers[1:], *self.knobs]
        self.reset.click(self.put_back, [self.visit], moved, **quiet)
        self.smallest.click(self.change, [self.visit], moved, **quiet)
        saved = self.save.click(self.animate, turned, [self.file], **quiet)
        saved.success(None, js=CLICK, **quiet)

    def see(self, path: str | None) -> Changes:
        """Answers an upload, or that one was taken away."""
        blank = self._drawn(None) | {
            self.visit: None,
            self.message: self.hint,
            self.target: gr.update(choices=[], value=None),
            self.ask: gr.update(interactive=False),
        }
        if path is None:
            return blank | self._knobs(None)
        model = self.exploration.model
        try:
            image = read_upload(Path(path), self.limits, model.resolution_px, model.channels)
        except InputError as error:
            return blank | self._knobs(None) | {self.message: panels.refusal(error)}
        visit = Visit(self.exploration.see(image))
        subject = visit.subject
        others = [name for k, name in enumerate(self.names) if k != subject.copy.decision]
        return self._drawn(visit) | {
            self.visit: visit,
            self.message: panels.judgement(self.names, subject),
            self.target: gr.update(choices=others, value=self.names[subject.next_class]),
            self.ask: gr.update(interactive=True),
            **self._knobs(None),
        }

    def hold(self) -> Changes:
        """Lets nothing be uploaded or asked."""
        return {widget: gr.update(interactive=False) for widget in (self.upload, self.ask)}

    def let_go(self) -> Changes:
        """Lets uploads and questions in again."""
        return {widget: gr.update(interactive=True) for widget in (self.upload, self.ask)}

    def find(
        self,
        visit: Visit,
        target: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio looks for it there
    ) -> Changes:
        """Answers what would change the decision."""
        try:
            found = self.exploration.explain(visit.subject, target, self.folder, _bar(progress))
        except InputError as error:
            return {self.message: panels.refusal(error)}
        visit = replace(visit, found=found)
        strength = self.exploration.settings.strength
        return self._drawn(visit) | {
            self.visit: visit,
            self.message: panels.finding(self.names, visit.subject, found, strength),
            **self._knobs(found),
        }

    def draw(self, visit: Visit | None, *positions: float) -> Changes:
        """Answers a turned knob."""
        return self._drawn(visit, *positions)

    def put_back(self, visit: Visit) -> Changes:
        """Turns all knobs to 0."""
        return self._drawn(visit) | {knob: 0 for knob in self.knobs}

    def change(self, visit: Visit) -> Changes:
        """Turns the knobs that change the decision together as far as the search did."""
        assert visit.found is not None
        count = len(visit.found.attributes)
        ranks = visit.found.subset or range(1, count + 1)
        strength = self.exploration.settings.strength
        positions = [strength * (rank in ranks) for rank in range(1, count + 1)]
        return self._drawn(visit, *positions) | dict(zip(self.knobs, positions, strict=False))

    def animate(self, visit: Visit, *positions: float) -> str:
        """Writes the GIF of the edit as it is."""
        assert visit.found is not None
        positions = positions[: len(visit.found.attributes)]
        if max(map(abs, positions)) <= panels.NOTHING_MOVED:
            raise gr.Error(
                "A GIF shows an edit, got none: turn a knob first.",
                title="Nothing to show",
                print_exception=False,
            )
        edited, target = self._edited(visit, positions), visit.found.target
        pictures = panels.compared(visit.subject, edited, self.names.index(target))
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "stylex-edit.gif"
        move, caption = panels.move(visit.found), panels.caption(visit.found, positions)
        write_film(path, flicker(pictures, move, caption, target, STYLE))
        return str(path)

    def _edited(self, visit: Visit, positions: tuple[float, ...]) -> View:
        assert visit.found is not None
        attributes = visit.found.attributes
        return self.exploration.edit(visit.subject, attributes, positions[: len(attributes)])

    def _drawn(self, visit: Visit | None, *positions: float) -> Changes:
        """Pictures and probabilities; without positions of the unedited copy."""
        subject = visit.subject if visit else None
        found = visit.found if visit else None
        edited = self._edited(visit, positions) if visit and found and positions else None
        target = found.target if found else ""
        return {
            self.pictures: panels.pictures(self.names, subject, edited),
            self.chances: panels.chances(self.names, subject, edited, target),
        }

    def _knobs(self, found: Explanation | None) -> Changes:
        """One knob at 0 per attribute, the others hidden."""
        attributes = found.attributes if found else ()
        changes: Changes = {self.desk: gr.update(visible=found is not None)}
        for i, knob in enumerate(self.knobs):
            changes[knob] = gr.update(
                value=0,
                visible=i < len(attributes),
                label=panels.knob_name(attributes[i]) if i < len(attributes) else "",
            )
        flips = found is not None and found.subset is not None
        text = "Show the change found" if flips else "All knobs to 1"
        return changes | {self.smallest: gr.update(value=text)}

    def launch(self, host: str, port: int) -> str:
        """Serves the page in threads of its own; gives its address.

        Raises:
            OSError: If the port is taken.
        """
        plain, mono = FONTS
        theme = gr.themes.Base(primary_hue="teal", font=plain, font_mono=mono)
        dark = "*primary_700"  # white text on it can be read
        theme.set(button_primary_background_fill=dark, button_primary_background_fill_dark=dark)
        _, address, _ = self.blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            max_file_size=self.limits.num_bytes,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            theme=theme,
            css=files("stylex.live").joinpath("live.css").read_text(),
        )
        return str(address)


def _bar(progress: gr.Progress) -> Progress:
    """The page's bar for a loop of the search."""

    def shown(items: Iterable[Any], what: str) -> Iterator[Any]:
        steps = list(items)
        for done, item in enumerate(steps):
            progress((done, len(steps)), desc=f"measuring {escape(what)}", unit="rounds")
            yield item
        progress((len(steps), len(steps)), desc="gathering the evidence", unit="rounds")

    return shown

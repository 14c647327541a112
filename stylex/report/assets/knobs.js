"use strict";
// Sheets of frames, and the knobs that turn through them.

const data = JSON.parse(document.getElementById("data").textContent);
const FLICKER_MS = 700;
const TICK_PX = 40; // room that a tick's word needs
const LEAST_MAP = 16; // pixel values; a map's full colour is at least this change

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function percent(share) {
  if (share > 0 && share < 0.005) return "<1%";
  if (share >= 0.995 && share < 1) return ">99%";
  return `${Math.round(100 * share)}%`;
}

function signed(value) {
  const text = (Math.round(100 * value) / 100).toString();
  return value > 0 ? `+${text}` : text.replace("-", "−");
}

/** A picture of rows of images and columns of frames; decoded when first asked for. */
class Sheet {
  constructor(facts) {
    Object.assign(this, facts);
    this.rest = Math.max(0, this.positions.indexOf(0));
    this.last = this.positions.length - 1;
  }

  load() {
    if (!this.loading) {
      this.picture = new Image();
      this.picture.src = this.uri;
      this.loading = this.picture.decode();
    }
    return this.loading;
  }

  draw(canvas, row, frame) {
    canvas.getContext("2d", { willReadFrequently: true })
      .drawImage(this.picture, frame * this.side, row * this.side, this.side, this.side, 0, 0, this.side, this.side);
  }

  /** Colours where a frame differs from the original: red lighter, blue darker. */
  drawMap(canvas, row, frame) {
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    this.draw(canvas, row, this.rest);
    const before = pen.getImageData(0, 0, this.side, this.side);
    this.draw(canvas, row, frame);
    const after = pen.getImageData(0, 0, this.side, this.side);
    const change = new Int16Array(this.side * this.side);
    let most = LEAST_MAP;
    for (let i = 0; i < change.length; i++) {
      for (let c = 0; c < 3; c++) {
        const here = after.data[4 * i + c] - before.data[4 * i + c];
        if (Math.abs(here) > Math.abs(change[i])) change[i] = here;
      }
      most = Math.max(most, Math.abs(change[i]));
    }
    for (let i = 0; i < change.length; i++) {
      const share = Math.abs(change[i]) / most;
      const end = change[i] > 0 ? [178, 24, 43] : [33, 102, 172];
      for (let c = 0; c < 3; c++) after.data[4 * i + c] = Math.round(255 + share * (end[c] - 255));
    }
    pen.putImageData(after, 0, 0);
    return most;
  }

  canvas() {
    const canvas = make("canvas", this.full <= 64 ? "pixels" : "");
    canvas.width = canvas.height = this.side;
    return canvas;
  }
}

const sheets = data.sheets.map((facts) => new Sheet(facts));

/** One attribute's knob: images, slider, buttons, and the bars of the image that is looked at. */
class Knob {
  constructor(root) {
    this.root = root;
    this.search = data.searches[Number(root.dataset.of)];
    this.sheet = sheets[Number(root.dataset.sheet)];
    this.isLadder = root.dataset.label === "steps";
    this.turner = root.querySelector("[data-turner]");
    this.panels = root.querySelector("[data-panels]");
    this.caption = root.querySelector("[data-caption]");
    this.bars = root.querySelector("[data-bars]");
    this.mapped = false;
    this.turner.max = this.sheet.last;
    this.frame = this.sheet.last;
    this.turner.value = this.frame;
    this.turner.addEventListener("input", () => { this.stop(); this.turn(Number(this.turner.value)); });
    this.button("flicker").addEventListener("click", () => (this.timer ? this.stop() : this.flicker()));
    this.button("map").addEventListener("click", () => this.toggleMap());
    this.button("reset").addEventListener("click", () => { this.stop(); this.turn(this.sheet.rest); });
    this.addTicks();
    this.addBars();
    this.show(root.dataset.row === undefined ? null : Number(root.dataset.row));
  }

  button(name) {
    return this.root.querySelector(`[data-${name}]`);
  }

  /** Shows one image of the sheet, or all of them. */
  show(row) {
    const rows = row === null ? this.sheet.indices.map((_, i) => i) : [row];
    this.panels.replaceChildren();
    this.views = rows.map((at) => {
      const column = make("div", "column");
      const before = this.figure("before", `image ${this.sheet.indices[at]}${this.isFlagged(at) ? " · flagged" : ""}`);
      const after = this.figure("after", "");
      if (rows.length > 1) this.makeChoice(after.root, at);
      column.append(before.root, after.root);
      this.panels.append(column);
      return { at, before, after };
    });
    this.looked = rows[0];
    this.sheet.load().then(() => {
      for (const view of this.views) {
        this.sheet.draw(view.before.canvas, view.at, this.sheet.rest);
        view.before.tag.textContent = percent(this.sheet.probabilities[view.at][this.sheet.rest][0]);
      }
      this.lookAt(this.looked);
      this.root.dataset.ready = "true";
    });
  }

  /** Whether the classifier calls an image's copy otherwise than the image, as its evaluation says. */
  isFlagged(at) {
    return (this.search.flagged || []).includes(this.sheet.indices[at]);
  }

  /** Makes an image one that the bars can be of, with the mouse and with the keyboard. */
  makeChoice(figure, at) {
    figure.tabIndex = 0;
    figure.setAttribute("role", "button");
    figure.querySelector("canvas").setAttribute("role", "presentation"); // the figure tells what it shows
    figure.addEventListener("click", () => this.lookAt(at));
    figure.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      this.lookAt(at);
    });
  }

  figure(kind, word) {
    const root = make("figure", kind);
    const box = make("div");
    const canvas = this.sheet.canvas();
    canvas.setAttribute("role", "img");
    const tag = make("span", "tag");
    box.append(canvas, tag);
    root.append(box, make("figcaption", "", word));
    return { root, canvas, tag };
  }

  lookAt(at) {
    this.looked = at;
    for (const view of this.views) {
      if (this.views.length > 1) view.after.root.setAttribute("aria-pressed", String(view.at === at));
    }
    this.turn(this.frame);
  }

  /** Draws a frame: images, probabilities, bars and what a screen reader says. */
  turn(frame) {
    const { sheet } = this;
    this.frame = frame;
    this.turner.value = frame;
    this.fillTrack();
    let most = 0;
    for (const view of this.views) {
      if (this.mapped) most = Math.max(most, sheet.drawMap(view.after.canvas, view.at, frame));
      else sheet.draw(view.after.canvas, view.at, frame);
      const probability = percent(sheet.probabilities[view.at][frame][0]);
      view.after.tag.textContent = probability;
      const told = `image ${sheet.indices[view.at]}, ${this.place(frame)}: ${this.search.target} ${probability}`;
      (this.views.length > 1 ? view.after.root : view.after.canvas).setAttribute("aria-label", told);
      view.before.canvas.setAttribute("aria-label", `image ${sheet.indices[view.at]}, unchanged${this.isFlagged(view.at) ? ", flagged" : ""}`);
    }
    this.fillBars(sheet.probabilities[this.looked]);
    const now = percent(sheet.probabilities[this.looked][frame][0]);
    this.turner.setAttribute("aria-valuetext", `${this.place(frame)}: ${this.search.target} ${now}`);
    const [first, second] = this.root.dataset.row === undefined ? ["Above", "Below"] : ["Left", "Right"];
    this.caption.textContent = `${first}: unchanged. ${second}: ${this.place(frame)}.` + (this.mapped ? ` Red: lighter, blue: darker, full colour at up to ${most} of 255.` : "") + ` In the corners: probability of ${this.search.target}.` + (this.views.some((view) => this.isFlagged(view.at)) ? " Flagged: the classifier calls the copy otherwise than the image itself." : "");
  }

  place(frame) {
    if (!this.isLadder) return frame === this.sheet.rest ? "strength 0" : `strength ${signed(this.sheet.positions[frame])}`;
    const added = this.search.ladderRanks.slice(0, frame);
    return added.length ? `attributes ${added.map((rank) => `#${rank}`).join(", ")} together` : "no attribute";
  }

  /** Marks whole strengths and both ends, or every step of a ladder; where there is room it names them. */
  addTicks() {
    const ticks = this.root.querySelector("[data-ticks]");
    const { positions, last } = this.sheet;
    const ends = positions[last];
    const whole = [-1, 0, 1, 2].filter((p) => p >= positions[0] && p < ends);
    const shown = this.isLadder ? positions.map((p) => [p, p ? `+#${this.search.ladderRanks[p - 1]}` : "0"])
      : [...whole, ends].map((p) => [this.frameAt(p), signed(p)]);
    const every = Math.ceil((shown.length * TICK_PX) / Math.max(TICK_PX, ticks.clientWidth));
    shown.forEach(([frame, text], i) => {
      const tick = make("span", "", i % every && this.isLadder ? "" : text);
      tick.style.left = `${(100 * frame) / last}%`;
      ticks.append(tick);
    });
  }

  /** Between which frames a position lies, as a number with a fraction. */
  frameAt(position) {
    const { positions } = this.sheet;
    const next = positions.findIndex((p) => p >= position);
    if (next < 1) return 0;
    const [low, high] = [positions[next - 1], positions[next]];
    return next - 1 + (position - low) / (high - low);
  }

  addBars() {
    const { classes, others, target, source } = this.search;
    const words = others ? [...classes, `${others} others`] : classes;
    this.rows = words.map((word, i) => {
      const item = make("li", word === target && i === 0 ? "is-target" : word === source && i === 1 ? "is-source" : "");
      const name = make("span", "word", word);
      name.title = word;
      const value = make("span", "value");
      const track = make("span", "track");
      const fill = make("span", "fill");
      const start = make("span", "start");
      track.append(fill, start);
      item.append(name, value, track);
      this.bars.append(item);
      return { fill, start, value };
    });
  }

  fillBars(probabilities) {
    this.rows.forEach((row, i) => {
      const now = probabilities[this.frame][i];
      row.fill.style.width = `${100 * now}%`;
      row.start.style.left = `calc(${100 * probabilities[this.sheet.rest][i]}% - 1px)`;
      row.value.textContent = percent(now);
    });
  }

  /** The part of the slider between the original and here. */
  fillTrack() {
    const [from, to] = [this.sheet.rest, this.frame].sort((a, b) => a - b);
    this.turner.style.setProperty("--from", `${(100 * from) / this.sheet.last}%`);
    this.turner.style.setProperty("--to", `${(100 * to) / this.sheet.last}%`);
  }

  toggleMap() {
    this.mapped = !this.mapped;
    this.button("map").setAttribute("aria-pressed", String(this.mapped));
    this.turn(this.frame);
  }

  flicker() {
    const on = this.frame === this.sheet.rest ? this.sheet.last : this.frame;
    const step = () => this.turn(this.frame === this.sheet.rest ? on : this.sheet.rest);
    this.timer = setInterval(step, FLICKER_MS);
    this.stopAt = on;
    this.button("flicker").setAttribute("aria-pressed", "true");
    step();
  }

  stop() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    this.button("flicker").setAttribute("aria-pressed", "false");
    this.turn(this.stopAt);
  }
}

/** An attribute at a glance: its first image, unchanged and changed. */
async function glance(element) {
  const sheet = sheets[Number(element.dataset.sheet)];
  await sheet.load();
  for (const frame of [sheet.rest, sheet.last]) {
    const box = make("div");
    const canvas = sheet.canvas();
    const probability = percent(sheet.probabilities[0][frame][0]);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${frame === sheet.rest ? "unchanged" : "changed"}, ${probability}`);
    sheet.draw(canvas, 0, frame);
    box.append(canvas, make("span", "tag", probability));
    element.querySelector("[data-panels]").append(box);
  }
}

"use strict";
// The blind study: which candidate shows the same change, and what changes, in one to four words.

const EXAMPLES = 2; // then one more image is the right candidate
const CANDIDATE_MS = 750; // the paper's
const VERBAL_MS = 1000;
const VERBAL_IMAGES = 4;
const MOST_WORDS = 4;
const Z_95 = 1.959963984540054;
const COLUMNS = ["participant", "question", "kind", "from", "to", "attribute", "candidate_a", "candidate_b", "answer",
  "correct", "seconds", "accuracy", "interval_low", "interval_high", "answers"];

/** Wilson's interval of a share (Wilson 1927). */
function wilson(count, total) {
  const share = count / total;
  const scale = 1 + Z_95 ** 2 / total;
  const centre = (share + Z_95 ** 2 / (2 * total)) / scale;
  const half = (Z_95 / scale) * Math.sqrt((share * (1 - share)) / total + Z_95 ** 2 / (4 * total ** 2));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function shuffled(items) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function csv(rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text; // no formula for a spreadsheet
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return `${[COLUMNS, ...rows.map((row) => COLUMNS.map((name) => row[name]))].map((row) => row.map(cell).join(",")).join("\n")}\n`;
}

class Study {
  constructor(room, attributes, participant) {
    this.room = room;
    this.participant = participant;
    this.rows = [];
    this.saved = false;
    this.questions = [...this.comparisons(attributes), ...shuffled(attributes).map((attribute) => ({ kind: "words", attribute }))];
    this.at = -1;
    document.body.classList.add("blind");
    this.next();
  }

  /** Attributes with enough images and another one to tell them from, the first ones of every search in turn. */
  static eligible(most) {
    const found = data.searches.flatMap((search, number) => search.attributes
      .filter((a) => a.sweep !== null && sheets[a.sweep].indices.length > EXAMPLES)
      .map((a) => ({ ...a, number, sheet: sheets[a.sweep] })));
    const asked = found.map((a) => ({ ...a, others: found.filter((b) => b.number === a.number && b.coordinate !== a.coordinate) }));
    return asked.filter((a) => a.others.length > 0).sort((a, b) => a.rank - b.rank).slice(0, most);
  }

  /** The wrong candidate is of the same classes and of another coordinate: only the change tells them apart. */
  comparisons(attributes) {
    return shuffled(attributes).map((attribute) => {
      const other = shuffled(attribute.others)[0];
      const rows = shuffled(attribute.sheet.indices.map((_, i) => i));
      const right = { attribute, row: rows[EXAMPLES] };
      const wrong = { attribute: other, row: shuffled(other.sheet.indices.map((_, i) => i))[0] };
      return { kind: "same change", attribute, examples: rows.slice(0, EXAMPLES), candidates: shuffled([right, wrong]), right };
    });
  }

  next() {
    clearInterval(this.timer);
    this.at += 1;
    this.room.replaceChildren();
    if (this.at === this.questions.length) return this.finish();
    this.begun = performance.now();
    const question = this.questions[this.at];
    const box = make("div", "question");
    box.append(make("p", "quiet", `Question ${this.at + 1} of ${this.questions.length}`));
    this.flickering = [];
    if (question.kind === "words") this.askWords(box, question);
    else this.askSame(box, question);
    const stop = make("button", "", "Stop the study");
    stop.type = "button";
    stop.addEventListener("click", () => this.finish());
    box.append(stop);
    this.room.append(box);
    const heading = box.querySelector("h3");
    heading.tabIndex = -1;
    if (question.kind !== "words") heading.focus();
    this.start(question.kind === "words" ? VERBAL_MS : CANDIDATE_MS);
    return undefined;
  }

  async start(interval) {
    const at = this.at;
    await Promise.all(this.flickering.map((view) => view.sheet.load()));
    if (this.at !== at) return;
    let changed = false;
    const step = () => {
      for (const { canvas, sheet, row } of this.flickering) sheet.draw(canvas, row, changed ? sheet.last : sheet.rest);
      changed = !changed;
    };
    step();
    this.timer = setInterval(step, interval);
  }

  flickers(attribute, row) {
    const canvas = attribute.sheet.canvas();
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "an image that changes");
    this.flickering.push({ canvas, sheet: attribute.sheet, row });
    return canvas;
  }

  askSame(box, question) {
    box.append(make("h3", "", "Which one, A or B, changes in the same way as the two examples?"));
    const row = make("div", "row");
    const examples = make("div", "set");
    for (const each of question.examples) examples.append(this.flickers(question.attribute, each));
    const group = make("div");
    group.append(make("p", "quiet", "Examples"), examples);
    row.append(group);
    question.candidates.forEach((candidate, i) => {
      const choice = make("button", "candidate");
      choice.type = "button";
      choice.dataset.candidate = "AB"[i];
      choice.append(this.flickers(candidate.attribute, candidate.row), make("strong", "", "AB"[i]));
      choice.addEventListener("click", () => this.answer("AB"[i], candidate === question.right));
      row.append(choice);
    });
    box.append(row, make("p", "quiet", "Choose with the mouse, or press A or B."));
  }

  askWords(box, question) {
    box.append(make("h3", "", `What changes most? Say it in one to ${["", "", "", "", "four"][MOST_WORDS]} words.`));
    const set = make("div", "row");
    question.attribute.sheet.indices.slice(0, VERBAL_IMAGES).forEach((_, i) => set.append(this.flickers(question.attribute, i)));
    const form = make("form");
    const field = make("input");
    field.type = "text";
    field.maxLength = 60;
    field.autocomplete = "off";
    field.setAttribute("aria-label", "What changes");
    const send = make("button", "main", "Next");
    const hint = make("p", "quiet", "");
    form.append(field, " ", send);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const words = field.value.trim().split(/\s+/).filter(Boolean);
      if (words.length < 1 || words.length > MOST_WORDS) hint.textContent = `Please give one to four words, not ${words.length}.`;
      else this.answer(words.join(" "), null);
    });
    box.append(set, form, hint);
    setTimeout(() => field.focus());
  }

  answer(answer, correct) {
    const { kind, attribute, candidates } = this.questions[this.at];
    const search = data.searches[attribute.number];
    const [a, b] = (candidates || []).map((candidate) => candidate.attribute.key);
    this.rows.push({
      participant: this.participant, question: this.at + 1, kind, from: search.from, to: search.target,
      attribute: attribute.key, candidate_a: a, candidate_b: b, answer, correct: correct === null ? "" : Number(correct),
      seconds: ((performance.now() - this.begun) / 1000).toFixed(1),
    });
    this.next();
  }

  summary() {
    const judged = this.rows.filter((row) => row.correct !== "");
    const correct = judged.filter((row) => row.correct === 1).length;
    const [low, high] = judged.length ? wilson(correct, judged.length) : ["", ""];
    return { correct, total: judged.length, low, high };
  }

  finish() {
    clearInterval(this.timer);
    this.at = this.questions.length;
    document.body.classList.remove("blind");
    const { correct, total, low, high } = this.summary();
    const box = make("div", "question");
    box.append(make("h3", "", "Thank you"));
    box.append(make("p", "", total
      ? `${correct} of ${total} comparisons right: ${percent(correct / total)}, 95% interval ${percent(low)} to ${percent(high)}; guessing gives 50%.`
      : "No comparison was answered."));
    const button = make("button", "main", "Save answers.csv");
    button.type = "button";
    button.id = "study-save";
    button.addEventListener("click", () => {
      this.saved = true;
      save("answers.csv", "text/csv", this.table());
    });
    box.append(button);
    this.room.replaceChildren(box);
    button.focus();
  }

  table() {
    const { correct, total, low, high } = this.summary();
    const share = (value) => (value === "" ? "" : value.toFixed(4));
    return csv([...this.rows, {
      participant: this.participant, kind: "summary", correct, accuracy: total ? (correct / total).toFixed(4) : "",
      interval_low: share(low), interval_high: share(high), answers: total,
    }]);
  }
}

let study = null;
document.getElementById("study-start").addEventListener("click", () => {
  const room = document.getElementById("study-room");
  const field = document.getElementById("study-attributes");
  field.value = Math.min(Number(field.max), Math.max(Number(field.min), Math.round(Number(field.value)) || Number(field.min)));
  const attributes = Study.eligible(Number(field.value));
  if (attributes.length < 2) {
    room.replaceChildren(make("p", "", "A study needs at least two attributes of one search with three images each; there are fewer here."));
    return;
  }
  const unsaved = study !== null && study.rows.length > 0 && !study.saved;
  if (unsaved && !confirm("The answers given so far are not saved. Start anew without them?")) return;
  study = new Study(room, attributes, document.getElementById("study-participant").value.trim());
});
document.addEventListener("keydown", (event) => {
  const isHeld = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
  const letter = event.key.toUpperCase();
  if (isHeld || !["A", "B"].includes(letter) || event.target.matches("input")) return;
  const choice = document.querySelector(`.blind [data-candidate="${letter}"]`);
  if (choice) choice.click();
});

"use strict";
// Tabs, light and dark, the choice of search and image, and the names that people give.

const knobs = new Map();

/** Builds the knobs of a part of the page that can be seen, once. */
function wake(root) {
  for (const element of root.querySelectorAll("[data-knob]")) {
    if (!knobs.has(element) && !element.closest("[hidden]")) knobs.set(element, new Knob(element));
  }
}

function save(name, kind, text) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** What the browser keeps between two visits; nothing where it may not. */
const kept = {
  read(key) {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
  },
  write(key, value) {
    try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* the page works without */ }
  },
};

// ---- tabs: arrow keys move between them, links to an attribute open its tab
const tabs = [...document.querySelectorAll("[role=tab]")];

function openTab(tab, focus) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  for (const knob of knobs.values()) knob.stop();
  if (focus) tab.focus();
  wake(document.getElementById(tab.getAttribute("aria-controls")));
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => {
    openTab(tab, false);
    history.replaceState(null, "", `#tab=${tab.getAttribute("aria-controls")}`);
  });
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    openTab(tabs[(to + tabs.length) % tabs.length], true);
  });
});

function choose(search) {
  for (const part of document.querySelectorAll("[data-search]")) part.hidden = part.dataset.search !== search;
  for (const select of document.querySelectorAll("[data-chooser]")) select.value = search;
  for (const knob of knobs.values()) knob.stop();
  wake(document);
}

/** Opens what the address names: a tab, or an attribute's card in its tab. */
function follow() {
  const name = decodeURIComponent(location.hash.slice(1));
  const wanted = name.startsWith("tab=") ? name.slice(4) : "overview";
  const card = name.startsWith("attribute-") ? document.getElementById(name) : null;
  const section = card ? card.closest("section") : document.getElementById(wanted);
  const tab = tabs.find((each) => section && each.getAttribute("aria-controls") === section.id);
  if (!tab) return;
  if (card) choose(card.closest("[data-search]").dataset.search);
  openTab(tab, false);
  if (card) card.scrollIntoView();
}

for (const select of document.querySelectorAll("[data-chooser]")) {
  select.addEventListener("change", () => choose(select.value));
}
for (const radio of document.querySelectorAll("[data-image]")) {
  radio.addEventListener("change", () => {
    const part = radio.closest("[data-search]");
    for (const element of part.querySelectorAll("[data-knob]")) {
      knobs.get(element).stop();
      knobs.get(element).show(Number(radio.value));
    }
  });
}
// A browser remembers which image was chosen before a reload; the knobs begin with the first.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) return;
  for (const radio of document.querySelectorAll("[data-image][value='0']")) radio.checked = true;
});
window.addEventListener("hashchange", follow);

// ---- light and dark
const theme = document.getElementById("theme");

function paint(name) {
  document.documentElement.dataset.theme = name;
  theme.setAttribute("aria-label", name === "dark" ? "Change to light" : "Change to dark");
}

theme.addEventListener("click", () => {
  paint(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  kept.write("stylex-theme", document.documentElement.dataset.theme);
});
paint(document.documentElement.dataset.theme);

// ---- names: the same attribute has one name, wherever it stands
const saveNames = document.getElementById("save-names");
const written = {}; // by the report, from names.json
for (const attribute of data.searches.flatMap((search) => search.attributes)) {
  written[attribute.key] ||= attribute.name;
}
const names = { ...written };
const namesKey = `stylex-names:${location.pathname}`; // names that were not saved survive a reload

function rename(key, name, from) {
  names[key] = name;
  for (const field of document.querySelectorAll("[data-name]")) {
    if (field.dataset.name === key && field !== from) field.value = name;
  }
  for (const place of document.querySelectorAll("[data-called]")) {
    if (place.dataset.called === key) place.textContent = name.trim() ? `“${name.trim()}”` : "";
  }
}

function changedNames() {
  return Object.keys(names).filter((key) => names[key] !== written[key]);
}

/** Keeps what was typed, with what stood there: a newer report's names win over older typing. */
function keepNames() {
  saveNames.hidden = changedNames().length === 0;
  const edits = changedNames().map((key) => [key, { was: written[key], now: names[key] }]);
  kept.write(namesKey, Object.fromEntries(edits));
}

for (const [key, name] of Object.entries(written)) rename(key, name, null);
for (const [key, edit] of Object.entries(kept.read(namesKey) || {})) {
  if (key in names && edit && edit.was === written[key]) rename(key, String(edit.now), null);
}
saveNames.hidden = changedNames().length === 0;
for (const field of document.querySelectorAll("[data-name]")) {
  field.addEventListener("input", () => {
    rename(field.dataset.name, field.value, field);
    keepNames();
  });
}
saveNames.title = "Put the file into the folder of this page and run python -m stylex.report: page, figures and animations use the names";
saveNames.addEventListener("click", () => {
  const given = Object.fromEntries(Object.entries(names).filter(([, name]) => name.trim()));
  save("names.json", "application/json", `${JSON.stringify(given, null, 2)}\n`);
});

for (const element of document.querySelectorAll("[data-glance]")) glance(element);
follow();
wake(document);

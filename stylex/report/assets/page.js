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
    try { return localStorage.getItem(key); } catch { return null; }
  },
  write(key, value) {
    try { localStorage.setItem(key, value); } catch { /* the page works without */ }
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
    history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
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

function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  const place = id && document.getElementById(id);
  if (!place) return;
  const section = place.closest("section");
  const tab = section && tabs.find((each) => each.getAttribute("aria-controls") === section.id);
  if (!tab) return;
  const part = place.closest("[data-search]");
  if (part) choose(part.dataset.search);
  openTab(tab, false);
  if (place !== section) place.scrollIntoView();
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
// Once only what can be seen is built, an image chosen earlier is taken over by the browser's form memory.
window.addEventListener("pageshow", () => {
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
paint(kept.read("stylex-theme") || document.documentElement.dataset.theme);

// ---- names: the same attribute has one name, wherever it stands
const saveNames = document.getElementById("save-names");
const names = Object.fromEntries(data.searches.flatMap((search) => search.attributes.map((a) => [a.key, a.name])));
const namesKey = `stylex-names:${location.pathname}`; // unsaved names survive a reload

function rename(key, name, from) {
  names[key] = name;
  for (const field of document.querySelectorAll("[data-name]")) {
    if (field.dataset.name === key && field !== from) field.value = name;
  }
  for (const place of document.querySelectorAll("[data-called]")) {
    if (place.dataset.called === key) place.textContent = name.trim() ? `“${name.trim()}”` : "";
  }
}

for (const field of document.querySelectorAll("[data-name]")) {
  field.addEventListener("input", () => {
    rename(field.dataset.name, field.value, field);
    saveNames.hidden = false;
    kept.write(namesKey, JSON.stringify(names));
  });
}
for (const [key, name] of Object.entries(JSON.parse(kept.read(namesKey) || "{}"))) {
  if (key in names && name !== names[key]) {
    rename(key, name, null);
    saveNames.hidden = false;
  }
}
saveNames.title = "Put the file into the search's folder and run python -m stylex.report FOLDER: page, figures and animations use the names";
saveNames.addEventListener("click", () => {
  const given = Object.fromEntries(Object.entries(names).filter(([, name]) => name.trim()));
  save("names.json", "application/json", `${JSON.stringify(given, null, 2)}\n`);
});

for (const element of document.querySelectorAll("[data-glance]")) glance(element);
follow();
wake(document);

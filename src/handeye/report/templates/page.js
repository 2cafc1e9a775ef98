// Cells and stills open an episode's record and play its video; tables sort; galleries grow. All of it is here already:
// nothing is loaded but videos that were linked.
const episodes = JSON.parse(document.getElementById("episodes").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const made = (name, fields = {}) => Object.assign(document.createElement(name), fields);

// Videos. Those inside the page lie as base64 in elements at its end, and become blobs while they are looked at.
function address(film) {
  if (film.href) return film.href;
  const held = document.getElementById(film.inside);
  if (!held) return null;  // the page is still arriving
  const bytes = Uint8Array.from(atob(held.textContent), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));  // Safari plays no data: URIs
}

function film(id, { still = false } = {}) {
  const source = episodes[id]?.video && address(episodes[id].video);
  if (!source) return made("p", { className: "none", textContent: source === null ? "still loading: try again" : "no video" });
  const video = made("video", { controls: !still, muted: true, playsInline: true, loop: true, preload: "metadata", src: source });
  video.setAttribute("aria-label", `${episodes[id].run}, ${episodes[id].task}: ${episodes[id].ended}`);
  video.addEventListener("error", () => video.replaceWith(made("p", { className: "none", textContent: `not found: ${episodes[id].video.href || "damaged"}` })));
  // How it ended says most.
  if (still) video.addEventListener("loadedmetadata", () => { video.currentTime = Math.max(0, video.duration - 0.05); }, { once: true });
  return video;
}

function release(place) {
  for (const video of all("video", place)) {
    video.pause();
    if (video.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  }
  place.replaceChildren();
}

// Stills are made when they come near and dropped, oldest first, when there are many.
const living = new Set();
const near = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting || target.firstChild) continue;
    target.append(film(target.closest(".film").dataset.id, { still: true }));
    living.add(target);
  }
  for (const place of living) {
    if (living.size <= 40) break;
    const { top, bottom } = place.getBoundingClientRect();
    if (bottom > -400 && top < innerHeight + 400) continue;
    release(place);
    living.delete(place);
  }
}, { rootMargin: "300px" });

// The viewer: one episode, or two side by side.
const viewer = document.getElementById("viewer");
const screens = viewer.querySelector(".screens");
let row = [], at = 0, opener = null;  // what the arrows go through: each entry one episode, or two

function show(ids) {
  release(screens);
  screens.className = `screens of${ids.length}`;
  const videos = ids.map((id) => {
    const episode = episodes[id], figure = made("figure");
    const video = film(id);
    const why = ids.length > 1 ? [episode.unmet && `unmet: ${episode.unmet}`, episode.note] : [];
    figure.append(video, made("figcaption", { textContent: [`${episode.run}: ${episode.ended}`, ...why].filter(Boolean).join("; ") }));
    screens.append(figure);
    return video;
  }).filter((video) => video.play);
  together(videos);
  const episode = episodes[ids[0]];
  viewer.querySelector("h2").textContent = `${episode.task}: ${episode.state}`;
  facts(ids.length === 1 ? episode : null);
  beside(ids);
  for (const step of all(".step", viewer)) step.hidden = row.length < 2;
  if (!viewer.open) viewer.showModal();
}

function together(videos) {
  for (const video of videos) {
    video.loop = videos.length === 1;
    video.addEventListener("ended", () => {  // the shorter one waits for the longer one
      if (videos.every((each) => each.ended)) setTimeout(() => videos.forEach((each) => each.isConnected && each.play().catch(() => {})), 800);
    });
    video.play().catch(() => {});  // a browser may want a click first
  }
}

function facts(episode) {
  const list = viewer.querySelector("dl"), trace = viewer.querySelector("pre");
  const shown = episode && {
    episode: episode.key, outcome: episode.ended, unmet: episode.unmet, note: episode.note,
    "simulation exploded": episode.unstable && `in ${episode.unstable} steps`,
    "times asked": episode.questions, seconds: episode.seconds, tries: episode.tries, ...episode.hashes,
  };
  list.replaceChildren(...Object.entries(shown || {}).filter(([, value]) => value != null && value !== "").flatMap(([name, value]) =>
    [made("dt", { textContent: name }), made("dd", { textContent: value })]));
  trace.textContent = episode?.error || "";
  trace.hidden = !episode?.error;
}

function beside(ids) {
  const same = Object.keys(episodes).filter((id) => episodes[id].key === episodes[ids[0]].key && !ids.includes(id));
  const others = viewer.querySelector(".others");
  const buttons = (ids.length > 1 ? [] : same).map((id) => {
    const button = made("button", { type: "button", textContent: `${episodes[id].run}: ${episodes[id].outcome}` });
    button.addEventListener("click", () => show([ids[0], id]));
    return button;
  });
  others.replaceChildren(...(buttons.length ? ["side by side with ", ...buttons] : []));
}

function open(among, place, from) {
  row = among;
  at = place;
  opener = from;
  show(row[at]);
}

function step(by) {
  if (row[at + by] === undefined) return;
  at += by;
  show(row[at]);
  if (opener.matches(".cell")) opener = document.querySelector(`button.cell[data-id="${CSS.escape(row[at][0])}"]`);
}

viewer.addEventListener("close", () => {
  if (viewer.open) return;  // the event comes late, and another episode may be shown by then
  release(screens);
  opener?.focus();
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer || event.target.closest(".close")) viewer.close();
  const button = event.target.closest(".step");
  if (button) step(Number(button.dataset.step));
});
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by && row.length > 1 && event.target.tagName !== "VIDEO") step(by);
});

// The grid: one stop for the tab key, arrows from cell to cell.
for (const grid of all("[data-grid]")) {
  const rows = all(".row[role=group]", grid).map((each) => all(".block .cell", each));
  const cells = rows.flat().filter((cell) => cell.dataset.id);
  cells.forEach((cell, index) => { cell.tabIndex = index ? -1 : 0; cell.title = cell.ariaLabel; });
  const reach = (cell) => {
    for (const each of cells) each.tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
  };
  grid.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (cell) open(cells.map((each) => [each.dataset.id]), cells.indexOf(cell), cell);
  });
  grid.addEventListener("keydown", (event) => {
    const y = rows.findIndex((each) => each.includes(event.target));
    if (y < 0) return;
    const x = rows[y].indexOf(event.target), [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] || [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    for (let i = x + dx, j = y + dy; rows[j]; i += dx, j += dy) {
      if (dx && !rows[j][i]) break;
      const cell = rows[j][Math.min(i, rows[j].length - 1)];
      if (cell?.dataset.id) { reach(cell); break; }
    }
  });
}

// Galleries: so many at first, more on demand, and only the chosen run or task.
for (const gallery of all(".gallery")) {
  const items = [...gallery.children], more = gallery.parentElement.querySelector(":scope > .more");
  const choices = gallery.id === "gallery" ? all(".choose select") : [];
  let limit = Number(gallery.dataset.open);
  const refresh = () => {
    const fits = items.filter((item) => choices.every((choice) => !choice.value || item.dataset[choice.dataset.by] === choice.value));
    for (const item of items) item.hidden = true;
    for (const item of fits.slice(0, limit)) item.hidden = false;
    if (more) {
      more.hidden = fits.length <= limit;
      more.textContent = `show ${Math.min(limit * 2, fits.length) - limit} more of ${fits.length}`;
    }
  };
  more?.addEventListener("click", () => { limit *= 2; refresh(); });
  for (const choice of choices) choice.addEventListener("change", () => { limit = Number(gallery.dataset.open); refresh(); });
  for (const bar of all(".choose")) bar.hidden = items.length < 2;
  gallery.addEventListener("click", (event) => {
    const button = event.target.closest("button.screen, .open"), item = button && items.find((each) => each.contains(button));
    if (!item) return;
    const open_ = items.filter((each) => !each.hidden);
    open(open_.map((each) => (each.matches(".film") ? [each] : all(".film", each)).map((film_) => film_.dataset.id)), open_.indexOf(item), button);
  });
  refresh();
}

// Videos inside the page come last: stills wait until it is all there.
const watch = () => all("button.screen").forEach((place) => near.observe(place));
if (document.readyState === "loading") addEventListener("DOMContentLoaded", watch); else watch();

// Tables: a heading sorts, once more turns it round.
for (const table of all("table.sortable")) {
  const heads = all("thead th", table).filter((head) => head.querySelector("button"));
  for (const head of heads) head.querySelector("button").addEventListener("click", () => {
    const down = head.ariaSort === "ascending", body = table.tBodies[0];
    const value = (line) => line.cells[head.cellIndex].dataset.sort ?? line.cells[head.cellIndex].textContent.trim();
    const order = (a, b) => (isNaN(a) || isNaN(b) || a === "" || b === "" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    const lines = [...body.rows].sort((a, b) => order(value(a), value(b)));
    for (const each of heads) each.ariaSort = null;
    head.ariaSort = down ? "descending" : "ascending";
    body.append(...(down ? lines.reverse() : lines));
  });
}

// A link into folded text unfolds it; so does printing, but for what is only there to be complete.
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target?.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
unfold();
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open], .raw)");
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => { for (const each of folded) each.open = false; });

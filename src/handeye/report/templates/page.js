// A click on a cell opens the episode's record and plays its video, if there is one. Arrow keys go to its neighbours.
const episodes = JSON.parse(document.getElementById("episodes").textContent);
const dialog = document.getElementById("episode");
const video = dialog.querySelector("video");
const cells = [...document.querySelectorAll("button.cell:not([disabled])")];
let shown = null;

function source(film) {
  if (film.href) return film.href;
  const bytes = Uint8Array.from(atob(film.data), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));  // Safari plays no data: URIs
}

function release() {
  if (video.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
}

function show(cell) {
  const episode = episodes[cell.dataset.id];
  shown = cell;
  release();
  video.hidden = !episode.video;
  if (episode.video) {
    video.src = source(episode.video);
    video.play().catch(() => {});  // a browser may want a click first
  }
  dialog.querySelector("h3").textContent = cell.title;
  const facts = {
    task: episode.task,
    episode: episode.id,
    steps: episode.steps,
    "times asked": episode.questions,
    seconds: episode.seconds,
    tries: episode.tries,
    ...episode.hashes,
  };
  dialog.querySelector("dl").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt"), fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value;
    return [term, fact];
  }));
  const trace = dialog.querySelector("pre");
  trace.textContent = episode.error || "";
  trace.hidden = !episode.error;
  if (!dialog.open) dialog.showModal();
}

cells.forEach((cell) => cell.addEventListener("click", () => show(cell)));
dialog.addEventListener("close", release);
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || event.target === video) return;
  const next = cells[cells.indexOf(shown) + step];
  if (next) { next.focus(); show(next); }
});

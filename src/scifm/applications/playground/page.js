// What both pages say: whose run it is, what went wrong, how an answer came about.
import { get, sentence } from "./asking.js";
import { told } from "./dials.js";
import { loadColors } from "./pictures.js";

export const by = (id) => document.getElementById(id);
export const spoken = (name) => name.replaceAll("_", " ");

export function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

export async function loadRun() {
  const [run, colors] = await Promise.all([get("/run").then((response) => response.json()), loadColors()]);
  document.title = `${run.name} – SciFM playground`;
  by("name").textContent = run.name;
  by("told").textContent = `${run.told} ${run.num_params.toLocaleString("en")} weights.`;
  return [run, colors];
}

export function showPictures(pictures) {
  for (const [name, picture] of Object.entries(pictures)) picture.root.id = "picture-" + name;
  by("pictures").append(...Object.values(pictures).map((picture) => picture.root));
}

export function complain(error) {
  by("error").textContent = sentence(error);
  by("error").hidden = false;
  by("pictures").classList.add("stale");
}

// A remark that is marked where it says that something is not as in training.
export function remark(id, text, outside) {
  by(id).textContent = text;
  by(id).classList.toggle("outside", outside);
}

// Only what is new is written, so that a screen reader does not say it again at every step of a slider.
export function tellNotes(notes) {
  const list = by("notes");
  if ([...list.children].map((item) => item.textContent).join("\n") === notes.join("\n")) return;
  list.replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

let numAnswers = 0;

// What the server says of an answer to `count` questions, and how many milliseconds the browser waited for it.
export function tellAnswer(answer, milliseconds, count = 1) {
  by("error").hidden = true;
  by("pictures").classList.remove("stale");
  by("network-ms").textContent = (answer.network_ms / count).toFixed(1);
  by("solver-ms").textContent = (answer.solver_ms / count).toFixed(1);
  by("round-trip").textContent = milliseconds.toFixed(0);
  tellNotes(answer.notes);
  const outside = Object.keys(answer.trained).filter((name) => !answer.trained[name]).map(spoken);
  const text = outside.length
    ? `▲ Outside the trained range: ${outside.join(", ")}. The network extrapolates.`
    : "✓ All knobs inside the trained range.";
  remark("where", text, outside.length > 0);
  document.body.dataset.answers = ++numAnswers;
}

export const number = (value, none) => (value === null ? none : told(value));

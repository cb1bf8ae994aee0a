// The page: what is asked of the server, and what it answered. One request is under way at a time; while it is, only the
// newest state of the page waits, so that what is shown never lags behind by more than one answer.
import { get, post, sentence, unpacked } from "./asking.js";
import { makeDial, told } from "./dials.js";
import { Painting, makePaintable } from "./painting.js";
import { Picture, limits, loadColors } from "./pictures.js";

const by = (id) => document.getElementById(id);

const painting = new Painting();
let run, colors, dials, pictures;
let seed = 0; // of the drawn forcing; null: none, only what is painted
let drawing = 0; // counts the drawn forcings asked for, so that a late one is not taken
let busy = false;
let waiting = false;
let numAnswers = 0;

function complain(error) {
  by("error").textContent = sentence(error);
  by("error").hidden = false;
  by("pictures").classList.add("stale");
  for (const id of ["relative-l2", "max-error", "network-ms", "solver-ms", "round-trip"]) by(id).textContent = "–";
  tellNotes([]);
}

const grid = () => run.grids.find((entry) => String(entry.longer_side) === by("points").value);

// --- asking -----------------------------------------------------------------------------------------------------------

async function redraw() {
  const mine = ++drawing;
  const { num_points: numPoints, longer_side: side } = grid();
  tellForcing();
  try {
    let base = null;
    if (seed !== null) {
      const query = new URLSearchParams({ system: by("system").value, num_points: side, seed });
      base = new Float32Array(await (await get("/forcing?" + query)).arrayBuffer());
    }
    if (mine !== drawing) return;
    painting.resize(numPoints, base);
    changed();
  } catch (error) {
    if (mine === drawing) complain(error);
  }
}

function changed() {
  drawForcing();
  tellForcing();
  waiting = true;
  if (!busy) pump();
}

async function pump() {
  busy = true;
  while (waiting) {
    waiting = false;
    await new Promise(requestAnimationFrame); // several changes of one frame are one request
    try {
      await ask();
    } catch (error) {
      complain(error);
    }
  }
  busy = false;
}

async function ask() {
  const [side, numPoints] = [by("points").value, painting.numPoints];
  if (String(Math.max(...numPoints)) !== side) return; // the forcing of the new grid is still on its way
  const query = new URLSearchParams({ system: by("system").value, num_points: side });
  for (const dial of dials) query.set(dial.name, dial.value());
  const begun = performance.now();
  const [answer, numbers] = await unpacked(await post("/answer?" + query, painting.field));
  const size = numPoints[0] * numPoints[1];
  const [prediction, reference] = [numbers.subarray(0, size), numbers.subarray(size)];
  show(answer, prediction, reference, numPoints, performance.now() - begun);
}

// --- showing ----------------------------------------------------------------------------------------------------------

const number = (value) => (value === null ? "not finite" : told(value));

// The forcing as network and solver see it.
function drawForcing() {
  const { field, numPoints } = painting;
  const mean = field.reduce((sum, value) => sum + value, 0) / field.length;
  const centered = run.systems[Number(by("system").value)].zero_mean;
  const seen = centered ? field.map((value) => value - mean) : field;
  pictures.forcing.draw(seen, numPoints, limits(seen), centered ? "f, of zero mean" : "f");
}

// Only what is new is written, so that a screen reader does not say it again at every step of a slider.
function tellNotes(notes) {
  const list = by("notes");
  if ([...list.children].map((item) => item.textContent).join("\n") === notes.join("\n")) return;
  list.replaceChildren(...notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function show(answer, prediction, reference, numPoints, milliseconds) {
  by("error").hidden = true;
  by("pictures").classList.remove("stale");
  by("relative-l2").textContent = number(answer.relative_l2);
  by("max-error").textContent = number(answer.max_error);
  by("network-ms").textContent = answer.network_ms.toFixed(1);
  by("solver-ms").textContent = answer.solver_ms.toFixed(1);
  by("round-trip").textContent = milliseconds.toFixed(0);
  tellNotes(answer.notes);
  const outside = Object.keys(answer.trained).filter((name) => !answer.trained[name]);
  const names = outside.map((name) => name.replaceAll("_", " ")).join(", ");
  by("where").classList.toggle("outside", outside.length > 0);
  by("where").textContent = outside.length
    ? `▲ Outside the trained range: ${names}. The network extrapolates.`
    : "✓ All knobs inside the trained range.";
  const range = limits(prediction, reference);
  pictures.prediction.draw(prediction, numPoints, range, "of the network");
  pictures.reference.draw(reference, numPoints, range, "solution u, solved");
  const error = prediction.map((value, i) => value - reference[i]);
  const reach = Math.max(...limits(error).map(Math.abs));
  pictures.error.draw(error, numPoints, [-reach, reach], "prediction − reference");
  document.body.dataset.answers = ++numAnswers;
}

function tellForcing() {
  const drawn = seed === null ? "Empty" : `Drawn by the sampler, seed ${seed}`;
  const count = painting.dabs.length;
  by("forcing-origin").textContent = count
    ? `▲ ${drawn}, then painted (${count} ${count === 1 ? "dab" : "dabs"}): not a forcing of the training.`
    : `${drawn}${seed === null ? ": paint on the picture." : ", as in training."}`;
  by("forcing-origin").classList.toggle("outside", count > 0);
}

function tellGrid() {
  const inside = grid().longer_side === run.trained_points;
  by("points-where").classList.toggle("outside", !inside);
  by("points-where").textContent = inside ? "✓ the grid trained on" : `▲ trained on ${run.trained_points}, not on this grid`;
}

// --- the controls -----------------------------------------------------------------------------------------------------

function chooseSystem() {
  const system = run.systems[Number(by("system").value)];
  by("equation").textContent = `${system.equation}; ${system.options}`;
  dials = system.knobs.map((knob) => makeDial(knob, changed));
  by("knobs").replaceChildren(...dials.map((dial) => dial.root));
}

const brush = () => ({
  size: by("size").valueAsNumber / 100,
  sign: Number(document.querySelector("input[name=sign]:checked").value),
});

function tellSize() {
  by("size-told").textContent = `${by("size").value} %`;
  by("size").setAttribute("aria-valuetext", `${by("size").value} percent of the side`);
}

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

function connect() {
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  by("system").addEventListener("change", () => {
    chooseSystem();
    redraw();
  });
  by("points").addEventListener("change", () => {
    tellGrid();
    redraw();
  });
  by("redraw").addEventListener("click", () => {
    seed = by("seed").checkValidity() ? by("seed").valueAsNumber + (seed === by("seed").valueAsNumber ? 1 : 0) : 0;
    by("seed").value = seed;
    painting.dabs = [];
    redraw();
  });
  by("seed").addEventListener("input", () => {
    if (!by("seed").checkValidity()) return;
    seed = by("seed").valueAsNumber;
    painting.dabs = [];
    redraw();
  });
  by("clear").addEventListener("click", () => {
    seed = null;
    ++drawing;
    painting.clear();
    changed();
  });
  by("size").addEventListener("input", tellSize);
}

async function start() {
  [run, colors] = await Promise.all([get("/run").then((response) => response.json()), loadColors()]);
  document.title = `${run.name} – SciFM playground`;
  by("name").textContent = run.name;
  by("told").textContent = `${run.told} ${run.num_params.toLocaleString("en")} weights.`;
  fill(by("system"), run.systems.map((system, i) => [i, system.title]));
  by("system-choice").hidden = run.systems.length < 2;
  fill(by("points"), run.grids.map((entry) => [entry.longer_side, entry.num_points.join(" × ")]));
  by("points").value = run.trained_points;
  pictures = {
    forcing: new Picture("Forcing", colors.cividis, run.extent),
    reference: new Picture("Reference", colors.viridis, run.extent),
    prediction: new Picture("Prediction", colors.viridis, run.extent),
    error: new Picture("Error", colors.RdBu_r, run.extent),
  };
  for (const [name, picture] of Object.entries(pictures)) picture.root.id = "picture-" + name;
  by("pictures").append(...["forcing", "reference", "prediction", "error"].map((name) => pictures[name].root));
  makePaintable(pictures.forcing, painting, brush, changed);
  chooseSystem();
  tellGrid();
  tellSize();
  connect();
  await redraw();
}

start().catch(complain);

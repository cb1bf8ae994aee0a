// The page of systems that evolve: a start is drawn or painted, network and solver march from it, a slider shows a step.
import { get, post, sentence, unpacked } from "./asking.js";
import { makeDial, told } from "./dials.js";
import { Lines } from "./lines.js";
import { Painting, makePaintable } from "./painting.js";
import { Picture, limits, loadColors } from "./pictures.js";

const INTERVAL = 180; // milliseconds a step while it plays
const PATIENCE = 150; // milliseconds after the last change of a knob until the start is drawn anew
const WIDEN = 0.5; // by which share of the truth's range the scale grows at most for a prediction that leaves it
const by = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

const painting = new Painting();
let run, colors, dials, pictures;
let seed = 0; // of the drawn state; null: every field at its mean
let drawing = 0; // counts the states asked for, so that a late one is not taken
let soon = null; // the timer of a state to be drawn
let found = null; // the last march
let timer = null; // of a march that plays
let numAnswers = 0;

const grid = () => run.grids.find((entry) => String(entry.longer_side) === by("points").value);
const system = () => run.systems[Number(by("system").value)];
const flat = () => grid().num_points.length === 2;
const part = () => Number(by("part").value);
const spoken = (name) => name.replaceAll("_", " ");
const place = (n) => {
  const wraps = run.periodic.at(-1);
  return Array.from({ length: n }, (_, i) => i / (wraps ? n : n - 1));
};

function complain(error) {
  by("error").textContent = sentence(error);
  by("error").hidden = false;
  by("pictures").classList.add("stale");
}

// --- the initial state ------------------------------------------------------------------------------------------------

function query(more) {
  const asked = new URLSearchParams({ system: by("system").value, num_points: by("points").value, ...more });
  for (const dial of dials) asked.set(dial.name, dial.value());
  return asked;
}

async function redraw() {
  const mine = ++drawing;
  const points = grid().num_points;
  tellState();
  try {
    const drawn = await get("/state?" + query({ seed: seed === null ? 0 : seed }));
    const base = new Float32Array(await drawn.arrayBuffer());
    if (mine !== drawing) return;
    const size = points.reduce((product, n) => product * n, 1);
    if (seed === null)
      for (let start = 0; start < base.length; start += size) {
        const own = base.subarray(start, start + size);
        own.fill(own.reduce((sum, value) => sum + value, 0) / size);
      }
    painting.periodic = [run.periodic.length === 2 ? run.periodic[0] : true, run.periodic.at(-1)];
    painting.resize(points.length === 2 ? points : [1, points[0]], base);
    changed();
  } catch (error) {
    if (mine === drawing) complain(error);
  }
}

function redrawSoon() {
  clearTimeout(soon);
  soon = setTimeout(redraw, PATIENCE);
  stale();
}

// A dab is half as high as what is drawn reaches from its mean, and of a flat field half as high as its size.
function brush() {
  const own = painting.base.subarray(part() * painting.size, (part() + 1) * painting.size);
  const [low, high] = limits(own);
  const reach = own[0] === low && low === high ? 0 : (high - low) / 2;
  const height = seed === null || !reach ? Math.abs(own[0]) || 1 : reach;
  const sign = Number(document.querySelector("input[name=sign]:checked").value);
  return { size: by("size").valueAsNumber / 100, sign, height: height / 2, part: part() };
}

function changed() {
  drawState();
  tellState();
  stale();
}

function stale() {
  if (found === null) return;
  by("state-of-things").textContent = "▲ Changed since the last march: press March.";
  by("state-of-things").classList.add("outside");
  by("pictures").classList.add("stale");
}

function drawState() {
  const [own, name] = [painting.part(part()), spoken(system().inputs[part()])];
  if (flat()) pictures.state.draw(own, painting.numPoints, limits(own), name);
  else pictures.state.draw([{ values: own, look: "start", at: place(own.length) }], padded(limits(own)), { note: name });
}

function tellState() {
  const drawn = seed === null ? "Flat: every field at its mean" : `Drawn by the sampler, seed ${seed}`;
  const count = painting.dabs.length;
  by("state-origin").textContent = count
    ? `▲ ${drawn}, then painted (${count} ${count === 1 ? "dab" : "dabs"}): not a state of the training.`
    : `${drawn}${seed === null ? "; paint on the picture." : ", as in training."}`;
  by("state-origin").classList.toggle("outside", count > 0);
}

// --- marching ---------------------------------------------------------------------------------------------------------

async function march() {
  if (by("march").disabled) return;
  stop();
  by("march").disabled = true;
  by("state-of-things").textContent = "Marching …";
  by("state-of-things").classList.remove("outside");
  const mine = drawing;
  try {
    const asked = { points: painting.numPoints, start: painting.field.slice(), outputs: system().outputs };
    const begun = performance.now();
    const [answer, numbers] = await unpacked(await post("/march?" + query({ steps: by("steps").value }), asked.start));
    if (mine !== drawing) return stale(); // another grid or start was asked for meanwhile
    found = { ...asked, ...answer, numbers, trip: performance.now() - begun, size: asked.points[0] * asked.points[1] };
    by("state-of-things").textContent = "";
    show();
  } catch (error) {
    by("state-of-things").textContent = "";
    complain(error);
  } finally {
    by("march").disabled = false;
  }
}

// The values of one field at one step: of the prediction, or behind it the reference.
function values(kind, step) {
  const [steps, fields] = [found.times.length, found.outputs.length];
  const at = ((kind === "reference" ? steps : 0) + step) * fields + shown();
  return found.numbers.subarray(at * found.size, (at + 1) * found.size);
}

function shown() {
  return Math.max(0, system().outputs.indexOf(system().inputs[part()]));
}

// One scale over all steps; a prediction on its way to infinity must not make everything else one color.
function measure() {
  const steps = found.times.map((_, step) => step);
  const truth = limits(...steps.map((step) => values("reference", step)));
  const known = steps.some((step) => values("reference", step).some(Number.isFinite));
  const all = limits(...steps.flatMap((step) => [values("reference", step), values("prediction", step)]));
  const room = known ? WIDEN * (truth[1] - truth[0]) : Infinity;
  const shared = [Math.max(all[0], truth[0] - room), Math.min(all[1], truth[1] + room)];
  const errors = steps.map((step) => values("prediction", step).map((value, i) => value - values("reference", step)[i]));
  const reach = Math.min(Math.max(...limits(...errors).map(Math.abs)), shared[1] - shared[0]) || 1;
  Object.assign(found, { shared: known ? shared : all, reach, differences: errors });
}

function show() {
  by("error").hidden = true;
  by("pictures").classList.remove("stale");
  const steps = found.times.length;
  by("network-ms").textContent = (found.network_ms / steps).toFixed(1);
  by("solver-ms").textContent = (found.solver_ms / steps).toFixed(1);
  by("round-trip").textContent = found.trip.toFixed(0);
  by("last-error").textContent = number(found.errors[steps - 1]);
  by("notes").replaceChildren(...found.notes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  const outside = Object.keys(found.trained).filter((name) => !found.trained[name]).map(spoken);
  by("where").classList.toggle("outside", outside.length > 0);
  by("where").textContent = outside.length
    ? `▲ Outside the trained range: ${outside.join(", ")}. The network extrapolates.`
    : "✓ All knobs inside the trained range.";
  Object.assign(by("step"), { max: steps - 1, disabled: false, value: Math.min(by("step").valueAsNumber, steps - 1) });
  measure();
  showStep(0);
  document.body.dataset.answers = ++numAnswers;
}

const number = (value) => (value === null ? "not known" : told(value));

function showStep(step) {
  const [steps, name] = [found.times.length, spoken(found.outputs[shown()])];
  const text = `Step ${step + 1} of ${steps}, lead time ${told(found.times[step])}`;
  by("step").value = step;
  by("step").setAttribute("aria-valuetext", text);
  by("when").textContent = `${text}, relative L2 error ${number(found.errors[step])}`;
  by("relative-l2").textContent = number(found.errors[step]);
  const [prediction, reference, error] = [values("prediction", step), values("reference", step), found.differences[step]];
  if (flat()) {
    pictures.prediction.draw(prediction, found.points, found.shared, `${name}, of the network`);
    pictures.reference.draw(reference, found.points, found.shared, `${name}, solved`);
    pictures.error.draw(error, found.points, [-found.reach, found.reach], "prediction − reference");
  } else {
    const at = place(found.size);
    const curves = [
      { values: reference, look: "reference", label: "reference", at },
      { values: prediction, look: "prediction", label: "prediction", at },
    ];
    pictures.prediction.draw(curves, padded(found.shared), { note: name });
    pictures.error.draw([{ values: error, look: "error", at }], padded([-found.reach, found.reach]), { note: "prediction − reference" });
  }
  drawErrors(step);
}

const padded = ([low, high]) => [low - 0.05 * (high - low), high + 0.05 * (high - low)];

function drawErrors(step) {
  const steps = found.times.length;
  const at = found.times.map((_, i) => (steps > 1 ? i / (steps - 1) : 0.5));
  const all = [...found.errors, ...found.still].filter((value) => value !== null && value > 0);
  const [low, high] = all.length ? [Math.min(...all) / 1.3, Math.max(...all) * 1.3] : [0.1, 1];
  const curves = [
    { values: found.still.map((value) => value ?? NaN), look: "still", label: "nothing changes", at },
    { values: found.errors.map((value) => value ?? NaN), look: "prediction", label: "network", at },
  ];
  pictures.errors.name(steps > 1 ? ["1", "step", String(steps)] : ["", "step 1", ""]);
  pictures.errors.draw(curves, [low, high], { note: "by step", log: true, mark: at[step] });
}

// --- a march that plays -----------------------------------------------------------------------------------------------

function stop() {
  clearInterval(timer);
  timer = null;
  by("play").textContent = "Play";
}

function toggle() {
  if (timer !== null) return stop();
  if (found === null || still.matches) return;
  const last = found.times.length - 1;
  if (by("step").valueAsNumber === last) showStep(0);
  by("play").textContent = "Pause";
  timer = setInterval(() => {
    showStep(Math.min(by("step").valueAsNumber + 1, last));
    if (by("step").valueAsNumber === last) stop();
  }, INTERVAL);
}

// --- the controls -----------------------------------------------------------------------------------------------------

function chooseSystem() {
  by("equation").textContent = `${system().equation}; ${system().options}`;
  dials = system().knobs.map((knob) => makeDial(knob, redrawSoon));
  by("knobs").replaceChildren(...dials.map((dial) => dial.root));
  fill(by("part"), system().inputs.map((name, i) => [i, spoken(name)]));
  by("part-choice").hidden = system().inputs.length < 2;
}

function tellGrid() {
  const inside = grid().longer_side === run.trained_points;
  by("points-where").classList.toggle("outside", !inside);
  by("points-where").textContent = inside ? "✓ the grid trained on" : `▲ trained on ${run.trained_points}, not on this grid`;
  by("steps").max = system().most_steps[grid().longer_side];
  tellSteps();
}

function tellSteps() {
  const steps = by("steps").valueAsNumber;
  by("steps-told").textContent = `${steps}, to time ${told(steps * system().interval, 3)}`;
}

function tellSize() {
  by("size-told").textContent = `${by("size").value} %`;
  by("size").setAttribute("aria-valuetext", `${by("size").value} percent of the side`);
}

function fill(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

function fresh() {
  found = null;
  stop();
  by("step").disabled = true;
  return redraw().then(march);
}

function connect() {
  by("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    march();
  });
  by("system").addEventListener("change", () => {
    chooseSystem();
    tellGrid();
    fresh();
  });
  by("points").addEventListener("change", () => {
    tellGrid();
    fresh();
  });
  by("part").addEventListener("change", () => {
    drawState();
    if (found === null) return;
    measure();
    showStep(by("step").valueAsNumber);
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
    painting.dabs = [];
    redraw();
  });
  by("size").addEventListener("input", tellSize);
  by("steps").addEventListener("input", () => {
    tellSteps();
    stale();
  });
  by("play").addEventListener("click", toggle);
  by("step").addEventListener("input", () => {
    stop();
    showStep(by("step").valueAsNumber);
  });
  by("step").addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    toggle();
  });
  const offer = () => {
    stop();
    by("play").hidden = still.matches;
  };
  still.addEventListener("change", offer);
  offer();
}

function makePictures() {
  const sides = ["0", "x", told(run.extent.at(-1), 3)];
  const errors = new Lines("Relative L2 error", ["1", "step", ""]);
  if (flat())
    pictures = {
      state: new Picture("Initial state", colors.viridis, run.extent),
      reference: new Picture("Reference", colors.viridis, run.extent),
      prediction: new Picture("Prediction", colors.viridis, run.extent),
      error: new Picture("Error", colors.RdBu_r, run.extent),
      errors,
    };
  else
    pictures = {
      state: new Lines("Initial state", sides),
      prediction: new Lines("Prediction and reference", sides),
      error: new Lines("Error", sides),
      errors,
    };
  for (const [name, picture] of Object.entries(pictures)) picture.root.id = "picture-" + name;
  errors.root.classList.toggle("across", flat());
  by("pictures").append(...Object.values(pictures).map((picture) => picture.root));
  makePaintable(pictures.state, painting, brush, changed);
}

async function start() {
  [run, colors] = await Promise.all([get("/run").then((response) => response.json()), loadColors()]);
  document.title = `${run.name} – SciFM playground`;
  by("name").textContent = run.name;
  by("told").textContent = `${run.told} ${run.num_params.toLocaleString("en")} weights.`;
  fill(by("system"), run.systems.map((entry, i) => [i, entry.title]));
  by("system-choice").hidden = run.systems.length < 2;
  fill(by("points"), run.grids.map((entry) => [entry.longer_side, entry.num_points.join(" × ")]));
  by("points").value = run.trained_points;
  makePictures();
  chooseSystem();
  tellGrid();
  tellSize();
  connect();
  await fresh();
}

start().catch(complain);

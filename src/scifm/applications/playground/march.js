// The page of systems that evolve: network and solver march from a start when it is asked for, a slider shows a step.
import { get, post, unpacked } from "./asking.js";
import { told } from "./dials.js";
import { Lines } from "./lines.js";
import { by, complain, fill, loadRun, number, showPictures, spoken, remark, tellAnswer } from "./page.js";
import { makePaintable } from "./painting.js";
import { Picture, limits } from "./pictures.js";
import { makePlayer } from "./player.js";
import { Problem } from "./posing.js";

const PATIENCE = 150; // milliseconds after the last change of a knob until the start is drawn anew
const WIDEN = 0.5; // by which share of the truth's range the scale grows at most for a prediction that leaves it

let run, problem, pictures, player;
let soon = null; // the timer of a state to be drawn
let found = null; // the last march

const flat = () => run.extent.length === 2;
const part = () => Number(by("part").value);
const padded = ([low, high]) => [low - 0.05 * (high - low), high + 0.05 * (high - low)];
const place = (n) => Array.from({ length: n }, (_, i) => i / (run.periodic.at(-1) ? n : n - 1));

// --- the initial state ------------------------------------------------------------------------------------------------

// Where nothing is drawn every field is its mean, so that it has a size.
async function draw(seed) {
  const drawn = await get("/state?" + problem.query({ seed: seed === null ? 0 : seed }));
  const fields = new Float32Array(await drawn.arrayBuffer());
  const size = problem.grid.num_points.reduce((product, n) => product * n, 1);
  for (let start = 0; seed === null && start < fields.length; start += size) {
    const own = fields.subarray(start, start + size);
    own.fill(own.reduce((sum, value) => sum + value, 0) / size);
  }
  return fields;
}

function drawSoon() {
  clearTimeout(soon);
  soon = setTimeout(() => problem.redraw(), PATIENCE);
  stale();
}

// A dab is half as high as what is drawn reaches from its mean, and of a flat field half as high as its size.
function brush() {
  const { base, size } = problem.painting;
  const own = base.subarray(part() * size, (part() + 1) * size);
  const [low, high] = limits(own);
  const reach = own[0] === low && low === high ? 0 : (high - low) / 2;
  const height = problem.seed === null || !reach ? Math.abs(own[0]) || 1 : reach;
  return { ...problem.brush(), height: height / 2, part: part() };
}

function changed() {
  drawState();
  stale();
}

function stale() {
  if (found === null) return;
  remark("state-of-things", "▲ Changed since the last march: press March.", true);
  by("pictures").classList.add("stale");
}

function drawState() {
  const { painting, system } = problem;
  const [own, name] = [painting.part(part()), spoken(system.inputs[part()])];
  if (flat()) pictures.state.draw(own, painting.numPoints, limits(own), name);
  else pictures.state.draw([{ values: own, look: "start", at: place(own.length) }], padded(limits(own)), { note: name });
}

// --- marching ---------------------------------------------------------------------------------------------------------

async function march() {
  if (by("march").disabled) return;
  player.stop();
  by("march").disabled = true;
  remark("state-of-things", "Marching …", false);
  const { painting, system, drawing } = problem;
  try {
    const asked = { points: painting.numPoints, start: painting.field.slice(), outputs: system.outputs };
    const begun = performance.now();
    const sent = await post("/march?" + problem.query({ steps: by("steps").value }), asked.start);
    const [answer, numbers] = await unpacked(sent);
    if (!problem.isNewest(drawing)) return stale(); // another grid or start was asked for meanwhile
    found = { ...asked, ...answer, numbers, size: asked.points[0] * asked.points[1] };
    by("state-of-things").textContent = "";
    show(performance.now() - begun);
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
  return Math.max(0, problem.system.outputs.indexOf(problem.system.inputs[part()]));
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

function show(milliseconds) {
  const steps = found.times.length;
  by("last-error").textContent = number(found.errors[steps - 1], "not known");
  Object.assign(by("step"), { max: steps - 1, disabled: false });
  measure();
  showStep(0);
  tellAnswer(found, milliseconds, steps);
}

function showStep(step) {
  const [steps, name] = [found.times.length, spoken(found.outputs[shown()])];
  const text = `Step ${step + 1} of ${steps}, lead time ${told(found.times[step])}`;
  const error = number(found.errors[step], "not known");
  by("step").value = step;
  by("step").setAttribute("aria-valuetext", text);
  by("when").textContent = `${text}, relative L2 error ${error}`;
  by("relative-l2").textContent = error;
  const [prediction, reference, difference] = [values("prediction", step), values("reference", step), found.differences[step]];
  const [note, ends] = ["prediction − reference", [-found.reach, found.reach]];
  if (flat()) {
    pictures.prediction.draw(prediction, found.points, found.shared, `${name}, of the network`);
    pictures.reference.draw(reference, found.points, found.shared, `${name}, solved`);
    pictures.error.draw(difference, found.points, ends, note);
  } else {
    const at = place(found.size);
    const curves = [
      { values: reference, look: "reference", label: "reference", at },
      { values: prediction, look: "prediction", label: "prediction", at },
    ];
    pictures.prediction.draw(curves, padded(found.shared), { note: name });
    pictures.error.draw([{ values: difference, look: "error", at }], padded(ends), { note });
  }
  drawErrors(step);
}

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

// --- the controls -----------------------------------------------------------------------------------------------------

function chosen({ inputs }) {
  fill(by("part"), inputs.map((name, i) => [i, spoken(name)]));
  by("part-choice").hidden = inputs.length < 2;
}

// Another system or grid is marched at once.
function moved() {
  found = null;
  player.stop();
  by("step").disabled = true;
  by("steps").max = problem.system.most_steps[problem.grid.longer_side];
  tellSteps();
  return problem.redraw().then(march);
}

function tellSteps() {
  const steps = by("steps").valueAsNumber;
  by("steps-told").textContent = `${steps}, to time ${told(steps * problem.system.interval, 3)}`;
}

function connect() {
  by("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    march();
  });
  by("part").addEventListener("change", () => {
    drawState();
    if (found === null) return;
    measure();
    showStep(by("step").valueAsNumber);
  });
  by("steps").addEventListener("input", () => {
    tellSteps();
    stale();
  });
}

function makePictures({ viridis, RdBu_r }) {
  const sides = ["0", "x", told(run.extent.at(-1), 3)];
  const errors = new Lines("Relative L2 error", ["1", "step", ""]);
  errors.root.classList.toggle("across", flat());
  if (flat())
    return {
      state: new Picture("Initial state", viridis, run.extent),
      reference: new Picture("Reference", viridis, run.extent),
      prediction: new Picture("Prediction", viridis, run.extent),
      error: new Picture("Error", RdBu_r, run.extent),
      errors,
    };
  return {
    state: new Lines("Initial state", sides),
    prediction: new Lines("Prediction and reference", sides),
    error: new Lines("Error", sides),
    errors,
  };
}

async function start() {
  let colors;
  [run, colors] = await loadRun();
  showPictures((pictures = makePictures(colors)));
  player = makePlayer(by("step"), by("play"), showStep);
  problem = new Problem(run, "state", "Flat: every field at its mean", { draw, chosen, moved, turned: drawSoon, changed, failed: complain });
  makePaintable(pictures.state, problem.painting, brush, () => problem.changed());
  connect();
  await moved();
}

start().catch(complain);

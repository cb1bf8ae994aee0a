// The page of steady systems: every change is asked about. One request is under way at a time; while it is, only the
// newest state of the page waits, so that what is shown never lags behind by more than one answer.
import { get, post, unpacked } from "./asking.js";
import { by, complain, loadRun, number, showPictures, tellAnswer, tellNotes } from "./page.js";
import { makePaintable } from "./painting.js";
import { Picture, limits } from "./pictures.js";
import { Problem } from "./posing.js";

const TILES = ["relative-l2", "max-error", "network-ms", "solver-ms", "round-trip"];
let problem, pictures;
let busy = false;
let waiting = false;

function failed(error) {
  complain(error);
  for (const id of TILES) by(id).textContent = "–";
  tellNotes([]);
}

async function draw(seed) {
  if (seed === null) return null;
  return new Float32Array(await (await get("/forcing?" + problem.query({ seed }, false))).arrayBuffer());
}

function ask() {
  waiting = true;
  if (!busy) pump();
}

async function pump() {
  busy = true;
  while (waiting) {
    waiting = false;
    await new Promise(requestAnimationFrame); // several changes of one frame are one request
    try {
      await answer();
    } catch (error) {
      failed(error);
    }
  }
  busy = false;
}

async function answer() {
  const { field, numPoints } = problem.painting;
  if (Math.max(...numPoints) !== problem.grid.longer_side) return; // the forcing of the new grid is still on its way
  const begun = performance.now();
  const [told, numbers] = await unpacked(await post("/answer?" + problem.query(), field));
  show(told, numbers, numPoints, performance.now() - begun);
}

// The forcing as network and solver see it.
function drawForcing() {
  const { field, numPoints } = problem.painting;
  const mean = field.reduce((sum, value) => sum + value, 0) / field.length;
  const centered = problem.system.zero_mean;
  const seen = centered ? field.map((value) => value - mean) : field;
  pictures.forcing.draw(seen, numPoints, limits(seen), centered ? "f, of zero mean" : "f");
}

function show(told, numbers, numPoints, milliseconds) {
  const size = numPoints[0] * numPoints[1];
  const [prediction, reference] = [numbers.subarray(0, size), numbers.subarray(size)];
  by("relative-l2").textContent = number(told.relative_l2, "not finite");
  by("max-error").textContent = number(told.max_error, "not finite");
  tellAnswer(told, milliseconds);
  const range = limits(prediction, reference);
  pictures.prediction.draw(prediction, numPoints, range, "of the network");
  pictures.reference.draw(reference, numPoints, range, "solution u, solved");
  const error = prediction.map((value, i) => value - reference[i]);
  const reach = Math.max(...limits(error).map(Math.abs));
  pictures.error.draw(error, numPoints, [-reach, reach], "prediction − reference");
}

function changed() {
  drawForcing();
  ask();
}

async function start() {
  const [run, { cividis, viridis, RdBu_r }] = await loadRun();
  pictures = {
    forcing: new Picture("Forcing", cividis, run.extent),
    reference: new Picture("Reference", viridis, run.extent),
    prediction: new Picture("Prediction", viridis, run.extent),
    error: new Picture("Error", RdBu_r, run.extent),
  };
  showPictures(pictures);
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  const moved = () => problem.redraw();
  problem = new Problem(run, "forcing", "Empty", { draw, changed, turned: ask, moved, failed });
  makePaintable(pictures.forcing, problem.painting, () => problem.brush(), () => problem.changed());
  await problem.redraw();
}

start().catch(failed);

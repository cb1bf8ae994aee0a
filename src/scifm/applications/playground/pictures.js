// A field as a picture: pixels, axes, a color bar with numbers. Row 0 of a field is y = 0 and is drawn at the bottom.
import { told } from "./dials.js";

const COUNT = 256;
const NAMES = ["cividis", "viridis", "RdBu_r"];
const GAP = [128, 128, 128];

export async function loadColors() {
  const bytes = new Uint8Array(await (await fetch("/colors")).arrayBuffer());
  return Object.fromEntries(NAMES.map((name, i) => [name, bytes.subarray(3 * COUNT * i, 3 * COUNT * (i + 1))]));
}

export function limits(...fields) {
  let [low, high] = [Infinity, -Infinity];
  for (const field of fields)
    for (const value of field)
      if (Number.isFinite(value)) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
  if (low > high) return [-1, 1];
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

// About five values 1, 2 or 5 times a power of ten apart.
export function roundValues(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough * (1 - 1e-9));
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) values.push(i * step);
  return values;
}

const make = (tag, className) => Object.assign(document.createElement(tag), { className });

function tick(text, side, share, place = "") {
  const span = make("span", place);
  span.textContent = text;
  span.style[side] = 100 * share + "%";
  return span;
}

export class Picture {
  constructor(title, colors, extent) {
    [this.title, this.colors] = [title, colors];
    this.root = make("figure", "");
    this.caption = make("figcaption", "");
    const plot = make("div", "plot");
    const stage = make("div", "stage");
    this.stage = stage;
    this.canvas = make("canvas", "field");
    this.canvas.style.aspectRatio = `${extent[1]} / ${extent[0]}`;
    this.canvas.setAttribute("role", "img");
    this.bar = make("canvas", "color-bar");
    Object.assign(this.bar, { width: 1, height: COUNT });
    this.bar.setAttribute("aria-hidden", "true");
    this.barTicks = make("div", "ticks bar");
    const [x, y] = [make("div", "ticks x"), make("div", "ticks y")];
    x.append(tick("0", "left", 0, "first"), tick("x", "left", 0.5), tick(told(extent[1], 3), "left", 1, "last"));
    y.append(tick(told(extent[0], 3), "top", 0, "last"), tick("y", "top", 0.5), tick("0", "top", 1, "first"));
    const barStage = make("div", "bar-stage");
    stage.append(this.canvas);
    barStage.append(this.bar);
    plot.append(y, stage, barStage, this.barTicks, x);
    this.root.append(this.caption, plot);
    this.drawBar();
  }

  drawBar() {
    const context = this.bar.getContext("2d");
    const image = context.createImageData(1, COUNT);
    for (let i = 0; i < COUNT; i++) {
      const color = 3 * (COUNT - 1 - i);
      image.data.set([this.colors[color], this.colors[color + 1], this.colors[color + 2], 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
  }

  draw(field, [ny, nx], [low, high], note = "") {
    if (this.canvas.width !== nx || this.canvas.height !== ny) Object.assign(this.canvas, { width: nx, height: ny });
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(nx, ny);
    const factor = COUNT / (high - low);
    for (let row = 0; row < ny; row++) {
      const from = (ny - 1 - row) * nx;
      for (let column = 0; column < nx; column++) {
        const value = field[from + column];
        const at = 4 * (row * nx + column);
        const finite = Number.isFinite(value);
        const index = finite ? 3 * Math.min(COUNT - 1, Math.max(0, Math.floor((value - low) * factor))) : 0;
        const source = finite ? this.colors : GAP;
        image.data[at] = source[index];
        image.data[at + 1] = source[index + 1];
        image.data[at + 2] = source[index + 2];
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    const marks = roundValues(low, high).map((value) => {
      const share = (high - value) / (high - low);
      return tick(told(value, 3), "top", share, share < 0.02 ? "last" : share > 0.98 ? "first" : "");
    });
    this.barTicks.replaceChildren(...marks);
    const name = make("b", "");
    name.textContent = this.title;
    this.caption.replaceChildren(name, note ? " " + note : "");
    this.canvas.setAttribute("aria-label", `${this.title}: colors from ${told(low, 3)} to ${told(high, 3)}`);
  }
}

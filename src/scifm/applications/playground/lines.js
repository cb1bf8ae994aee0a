// Values along a line as curves: axes with numbers, one curve over another. Also errors by step, on a logarithmic axis.
import { told } from "./dials.js";
import { roundValues } from "./pictures.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDE, HIGH] = [1000, 1000]; // of the drawing, stretched to its place

const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

function drawn(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Powers of ten, and where there are few of them also what lies between.
function powers(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  for (const parts of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
    const values = [];
    for (let power = first; power <= last; power++)
      values.push(...parts.map((part) => Number((part * 10 ** power).toPrecision(2))).filter((value) => value >= low && value <= high));
    const every = Math.ceil(values.length / 6);
    if (values.length > 2) return values.filter((_, i) => i % every === 0);
  }
  return roundValues(low, high);
}

export class Lines {
  // `names` are the ends and the name of the horizontal axis.
  constructor(title, names) {
    this.title = title;
    this.root = make("figure", "");
    this.caption = make("figcaption", "");
    this.keys = make("div", "keys");
    const plot = make("div", "plot lines");
    this.stage = make("div", "stage");
    this.canvas = drawn("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", class: "field" });
    this.ticks = make("div", "ticks y");
    this.across = make("div", "ticks x");
    this.stage.append(this.canvas);
    plot.append(this.ticks, this.stage, this.across);
    this.root.append(this.caption, plot, this.keys);
    this.name(names);
  }

  name([first, middle, last]) {
    const places = [["first", first, 0], ["", middle, 50], ["last", last, 100]];
    this.across.replaceChildren(
      ...places.map(([place, text, at]) => {
        const span = make("span", place, text);
        span.style.left = at + "%";
        return span;
      }),
    );
  }

  // Curves {values, look, label, at}: at places `at`, shares of the width, or spread over it; `mark` is a share too.
  draw(curves, [low, high], { note = "", log = false, mark = null } = {}) {
    const height = log
      ? (value) => HIGH * (1 - Math.log(value / low) / Math.log(high / low))
      : (value) => HIGH * (1 - (value - low) / (high - low));
    const fits = (value) => Number.isFinite(value) && (!log || value > 0);
    const ticks = (log ? powers(low, high) : roundValues(low, high)).filter((value) => value >= low && value <= high);
    const lines = ticks.map((value) => drawn("line", { x1: 0, x2: WIDE, y1: height(value), y2: height(value), class: "grid" }));
    if (mark !== null) lines.push(drawn("line", { x1: WIDE * mark, x2: WIDE * mark, y1: 0, y2: HIGH, class: "mark" }));
    for (const { values, look, at } of curves) {
      let path = "";
      let open = false;
      values.forEach((value, i) => {
        if (!fits(value)) return void (open = false);
        const x = WIDE * (at ? at[i] : i / (values.length - 1));
        path += `${open ? "L" : "M"}${x.toFixed(1)},${Math.min(Math.max(height(value), -HIGH), 2 * HIGH).toFixed(1)}`;
        open = true;
      });
      lines.push(drawn("path", { d: path, class: `curve ${look}` }));
    }
    this.canvas.replaceChildren(...lines);
    this.ticks.replaceChildren(
      ...ticks.map((value) => {
        const share = height(value) / HIGH;
        const span = make("span", share < 0.04 ? "last" : share > 0.96 ? "first" : "", told(value, 3));
        span.style.top = 100 * share + "%";
        return span;
      }),
    );
    this.caption.replaceChildren(make("b", "", this.title), note ? " " + note : "");
    this.keys.replaceChildren(
      ...curves.filter(({ label }) => label).map(({ label, look }) => {
        const key = make("span", "key-of");
        key.append(make("span", `dash ${look}`), label);
        return key;
      }),
    );
    this.canvas.setAttribute("aria-label", `${this.title}: from ${told(low, 3)} to ${told(high, 3)}`);
  }
}

// A knob: a slider with the trained range marked on it, and a number field for any value between its ends.

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

export const told = (value, digits = 4) => String(Number(value.toPrecision(digits))).replace("-", "−");

// Positions 0, 1, …, count of the slider stand for values from low to high.
function scaleOf(knob) {
  const log = knob.scale === "log";
  const count = log && !knob.integer ? 200 : Math.max(1, Math.ceil((knob.high - knob.low) / knob.step - 1e-9));
  const share = (value) =>
    log ? Math.log(value / knob.low) / Math.log(knob.high / knob.low) : (value - knob.low) / (knob.high - knob.low);
  const position = (value) => (log && !knob.integer ? Math.round(share(value) * count) : Math.round((value - knob.low) / knob.step));
  const value = (at) => {
    if (at <= 0) return knob.low;
    if (at >= count) return knob.high;
    if (log && !knob.integer) return Number((knob.low * (knob.high / knob.low) ** (at / count)).toPrecision(3));
    return Number((knob.low + at * knob.step).toFixed(10));
  };
  // The band is drawn where the thumb stands, so on a log scale of whole numbers by position too.
  const place = (v) => (log && knob.integer ? (v - knob.low) / (knob.high - knob.low) : share(v));
  return { count, position, value, place };
}

export function makeDial(knob, onChange) {
  const scale = scaleOf(knob);
  const name = knob.name.replaceAll("_", " ");
  const root = make("div", "knob");
  root.dataset.knob = knob.name;

  const head = make("div", "knob-head");
  const label = make("label", "", name);
  const field = make("input");
  Object.assign(field, { type: "number", id: "knob-" + knob.name, min: knob.low, max: knob.high, step: knob.integer ? 1 : "any" });
  field.required = true;
  label.htmlFor = field.id;
  head.append(label, field, make("span", "unit", knob.unit));

  const slide = make("div", "slide");
  const rail = make("div", "rail");
  const band = make("div", "band");
  const [first, last] = knob.trained.map(scale.place);
  band.style.left = 100 * first + "%";
  band.style.width = Math.max(100 * (last - first), 1) + "%";
  rail.append(band);
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: scale.count, step: 1 });
  slider.setAttribute("aria-label", name + ", slider");
  slide.append(rail, slider);

  const bounds = make("div", "bounds");
  bounds.append(make("span", "bound", told(knob.low)), make("span", "bound", told(knob.high)));
  const where = make("p", "where");
  root.append(head, slide, bounds, where);

  let current = knob.start;
  const range = knob.trained[0] === knob.trained[1] ? told(knob.trained[0]) : knob.trained.map((v) => told(v)).join(" to ");

  function show() {
    const inside = knob.trained[0] <= current && current <= knob.trained[1];
    root.classList.toggle("outside", !inside);
    where.textContent = inside ? `✓ inside the trained range, ${range}` : `▲ outside the trained range, ${range}`;
    slider.setAttribute("aria-valuetext", `${told(current)} ${knob.unit}, ${inside ? "inside" : "outside"} the trained range`);
  }

  slider.addEventListener("input", () => {
    current = scale.value(slider.valueAsNumber);
    field.value = current;
    field.removeAttribute("aria-invalid");
    show();
    onChange();
  });
  field.addEventListener("input", () => {
    const valid = field.checkValidity() && Number.isFinite(field.valueAsNumber);
    field.setAttribute("aria-invalid", String(!valid));
    if (!valid) return;
    current = field.valueAsNumber;
    slider.value = scale.position(current);
    show();
    onChange();
  });
  field.addEventListener("change", () => {
    if (field.getAttribute("aria-invalid") !== "true") return;
    field.value = current; // back to the value that is shown
    field.setAttribute("aria-invalid", "false");
  });

  slider.value = scale.position(current);
  field.value = current;
  show();
  return { root, name: knob.name, value: () => current };
}

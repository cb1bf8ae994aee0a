// What is painted on, a forcing or an initial state of several fields: drawn fields or none, and dabs of a Gaussian brush
// on them. Dabs are kept in units of the box, so that the same painting can be made on every grid; they wrap around where
// the box does. A line has one row.

const REACH = 4; // in widths of the brush
const HEIGHT = 0.5;

export class Painting {
  constructor(periodic = [true, true]) {
    this.base = null;
    this.dabs = [];
    this.periodic = periodic;
    this.resize([2, 2], null);
  }

  // The painting on another grid, on another drawn field.
  resize(numPoints, base) {
    this.numPoints = numPoints;
    this.base = base;
    this.size = numPoints[0] * numPoints[1];
    this.field = base ? base.slice() : new Float32Array(this.size);
    for (const dab of this.dabs) this.#press(dab);
  }

  // One of the fields.
  part(place) {
    return this.field.subarray(place * this.size, (place + 1) * this.size);
  }

  // x, y and size as shares of the sides; `part` is the place of the field.
  dab(x, y, { size, sign, height = HEIGHT, part = 0 }) {
    const dab = { x, y, size, height: sign * height, part };
    this.dabs.push(dab);
    this.#press(dab);
  }

  #press({ x, y, size, height, part }) {
    const [ny, nx] = this.numPoints;
    const profile = (center, n, wraps) => {
      if (n === 1) return [1];
      const values = new Float64Array(n);
      const cells = wraps ? n : n - 1; // walls are points of the grid, both
      const reach = Math.ceil(REACH * size * cells);
      const middle = Math.round(center * cells);
      for (let i = middle - reach; i <= middle + reach; i++)
        if (wraps || (i >= 0 && i < n)) values[((i % n) + n) % n] += Math.exp(-0.5 * ((i / cells - center) / size) ** 2);
      return values;
    };
    const [rows, columns] = [profile(y, ny, this.periodic[0]), profile(x, nx, this.periodic[1])];
    const field = this.part(part);
    for (let j = 0; j < ny; j++) {
      if (rows[j] === 0) continue;
      const strength = height * rows[j];
      for (let i = 0; i < nx; i++) if (columns[i] !== 0) field[j * nx + i] += strength * columns[i];
    }
  }
}

// Lets the pointer and the keys paint on a picture. `brush()` gives {size, sign, …}; `onPaint` is called after every stroke.
export function makePaintable(picture, painting, brush, onPaint) {
  const { canvas, stage } = picture;
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  cursor.hidden = true;
  stage.append(cursor);
  picture.root.classList.add("paintable");
  canvas.tabIndex = 0;
  canvas.setAttribute("aria-roledescription", "painting area");
  let last = null;
  let at = { x: 0.5, y: 0.5 };

  function show() {
    const { size } = brush();
    const box = canvas.getBoundingClientRect();
    const line = painting.numPoints[0] === 1; // a band over its whole height
    cursor.classList.toggle("line", line);
    cursor.style.left = 100 * at.x + "%";
    cursor.style.top = line ? "50%" : 100 * (1 - at.y) + "%";
    cursor.style.width = 2 * size * box.width + "px";
    cursor.style.height = (line ? box.height : 2 * size * box.height) + "px";
    cursor.hidden = false;
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const inside = (share) => Math.min(Math.max(share, 0), 1);
    return { x: inside((event.clientX - box.left) / box.width), y: inside(1 - (event.clientY - box.top) / box.height) };
  }

  function press(place) {
    painting.dab(place.x, place.y, brush());
    last = place;
    onPaint();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    at = point(event);
    show();
    press(at);
  });
  canvas.addEventListener("pointermove", (event) => {
    at = point(event);
    show();
    if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
    if (Math.hypot(at.x - last.x, at.y - last.y) >= brush().size) press(at); // dabs one width apart
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
  canvas.addEventListener("pointerleave", () => {
    cursor.hidden = document.activeElement !== canvas;
  });
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && show());
  canvas.addEventListener("blur", () => (cursor.hidden = true));
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const pace = event.shiftKey ? 0.1 : 0.02;
    const wrap = (share) => share - Math.floor(share);
    if (event.key in steps) {
      const [x, y] = steps[event.key];
      at = { x: wrap(at.x + pace * x), y: wrap(at.y + pace * y) };
    } else if (event.key === " " || event.key === "Enter") press(at);
    else return;
    event.preventDefault();
    show();
  });
}

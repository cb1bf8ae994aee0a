// A problem as both pages pose it: a system with a dial for each knob, a grid, and fields that are drawn by a sampler and
// then painted on.
import { makeDial } from "./dials.js";
import { by, fill, remark } from "./page.js";
import { Painting } from "./painting.js";

export class Problem {
  #drawing = 0; // counts the fields asked for, so that late ones are not taken

  // `what` is painted on, and called `empty` where nothing was drawn. Of the functions, `draw(seed)` promises drawn
  // fields, or null for zeros; of what happens are told: `chosen` another system, `moved` another grid or system,
  // `turned` a knob, `changed` what is painted on, `failed` with an error.
  constructor(run, what, empty, does) {
    [this.run, this.what, this.empty, this.does] = [run, what, empty, does];
    this.painting = new Painting([run.periodic.length === 2 ? run.periodic[0] : true, run.periodic.at(-1)]);
    this.seed = 0; // of what is drawn; null: nothing, only what is painted
    fill(by("system"), run.systems.map((entry, i) => [i, entry.title]));
    by("system-choice").hidden = run.systems.length < 2;
    fill(by("points"), run.grids.map((entry) => [entry.longer_side, entry.num_points.join(" × ")]));
    by("points").value = run.trained_points;
    this.#connect();
    this.#choose();
    this.#tellGrid();
    this.#tellSize();
  }

  get system() {
    return this.run.systems[Number(by("system").value)];
  }

  get grid() {
    return this.run.grids.find((entry) => String(entry.longer_side) === by("points").value);
  }

  // What the server is told of the place, and besides; `knobs` of the knobs too.
  query(more, knobs = true) {
    const asked = new URLSearchParams({ system: by("system").value, num_points: by("points").value, ...more });
    if (knobs) for (const dial of this.dials) asked.set(dial.name, dial.value());
    return asked;
  }

  // Draws anew, and paints again what was painted.
  async redraw() {
    const mine = ++this.#drawing;
    const points = this.grid.num_points;
    this.#tellOrigin();
    try {
      const base = await this.does.draw(this.seed);
      if (!this.isNewest(mine)) return;
      this.painting.resize(points.length === 2 ? points : [1, points[0]], base);
      this.changed();
    } catch (error) {
      if (this.isNewest(mine)) this.does.failed(error);
    }
  }

  // Which drawing was asked for last.
  get drawing() {
    return this.#drawing;
  }

  isNewest(drawing) {
    return drawing === this.#drawing;
  }

  changed() {
    this.#tellOrigin();
    this.does.changed();
  }

  brush() {
    const sign = Number(document.querySelector("input[name=sign]:checked").value);
    return { size: by("size").valueAsNumber / 100, sign };
  }

  #choose() {
    by("equation").textContent = `${this.system.equation}; ${this.system.options}`;
    this.dials = this.system.knobs.map((knob) => makeDial(knob, () => this.does.turned()));
    by("knobs").replaceChildren(...this.dials.map((dial) => dial.root));
    this.does.chosen?.(this.system);
  }

  #tellOrigin() {
    const drawn = this.seed === null ? this.empty : `Drawn by the sampler, seed ${this.seed}`;
    const count = this.painting.dabs.length;
    const text = count
      ? `▲ ${drawn}, then painted (${count} ${count === 1 ? "dab" : "dabs"}): not a ${this.what} of the training.`
      : `${drawn}${this.seed === null ? "; paint on the picture." : ", as in training."}`;
    remark("origin", text, count > 0);
  }

  #tellGrid() {
    const { run, grid } = this;
    const inside = grid.longer_side === run.trained_points;
    const text = inside ? "✓ the grid trained on" : `▲ trained on ${run.trained_points}, not on this grid`;
    remark("points-where", text, !inside);
  }

  #tellSize() {
    by("size-told").textContent = `${by("size").value} %`;
    by("size").setAttribute("aria-valuetext", `${by("size").value} percent of the side`);
  }

  #drawFrom(seed) {
    this.seed = seed;
    this.painting.dabs = [];
    this.redraw();
  }

  #connect() {
    const seed = by("seed");
    by("system").addEventListener("change", () => {
      this.#choose();
      this.does.moved();
    });
    by("points").addEventListener("change", () => {
      this.#tellGrid();
      this.does.moved();
    });
    by("redraw").addEventListener("click", () => {
      const next = seed.checkValidity() ? seed.valueAsNumber + (this.seed === seed.valueAsNumber ? 1 : 0) : 0;
      seed.value = next;
      this.#drawFrom(next);
    });
    seed.addEventListener("input", () => {
      if (seed.checkValidity()) this.#drawFrom(seed.valueAsNumber);
    });
    by("clear").addEventListener("click", () => this.#drawFrom(null));
    by("size").addEventListener("input", () => this.#tellSize());
  }
}

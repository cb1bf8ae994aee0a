// Points say what they are under the pointer and under the arrow keys; keys of a legend switch their series off and on.
// Without this script the page shows the same drawings, tables and the browser's own tooltips.
(() => {
  const tip = document.getElementById("tip");

  function show(point) {
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const at = point.querySelector(".mark, .line, .cell").getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    const x = Math.max(8, Math.min(at.left + at.width / 2 - size.width / 2, room - size.width - 8));
    const y = at.top - size.height - 10;
    tip.style.left = x + "px";
    tip.style.top = (y < 8 ? at.bottom + 10 : y) + "px";
  }

  function hide() {
    tip.hidden = true;
  }

  for (const point of document.querySelectorAll(".point")) {
    const title = point.querySelector("title");
    point.setAttribute("aria-label", title.textContent);
    point.setAttribute("role", "img");
    point.setAttribute("tabindex", "-1");
    title.remove();
    point.addEventListener("pointerenter", () => show(point));
    point.addEventListener("pointerleave", hide);
    point.addEventListener("focus", () => show(point));
    point.addEventListener("blur", hide);
    point.addEventListener("click", () => show(point));
  }

  // One stop of the Tab key a panel; arrows go from point to point within it.
  const visible = (panel) => [...panel.querySelectorAll(".point")].filter((point) => !point.closest(".off"));

  function stop(panel, chosen) {
    for (const point of panel.querySelectorAll(".point")) point.setAttribute("tabindex", point === chosen ? "0" : "-1");
  }

  for (const panel of document.querySelectorAll(".panel")) {
    stop(panel, visible(panel)[0]);
    panel.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const points = visible(panel);
      const at = points.indexOf(document.activeElement);
      if (!(event.key in steps) || at < 0) return;
      event.preventDefault();
      const next = points[(at + steps[event.key] + points.length) % points.length];
      stop(panel, next);
      next.focus();
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  addEventListener("scroll", hide, { passive: true, capture: true });

  for (const key of document.querySelectorAll(".key")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = key.className;
    button.dataset.series = key.dataset.series;
    button.append(...key.childNodes);
    button.setAttribute("aria-pressed", "true");
    key.replaceWith(button);
    button.addEventListener("click", () => {
      const off = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!off));
      const figure = button.closest("figure");
      for (const series of figure.querySelectorAll("g[data-series]")) {
        if (series.dataset.series === button.dataset.series) series.classList.toggle("off", off);
      }
      for (const panel of figure.querySelectorAll(".panel")) stop(panel, visible(panel)[0]);
    });
  }
})();

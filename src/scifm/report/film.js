// Films: a slider moves truth, prediction and error from frame to frame.
// Without this script the first and the last frame are shown.
for (const film of document.querySelectorAll("figure.film")) {
  const told = JSON.parse(film.dataset.told);
  const slider = film.querySelector("input");
  const when = film.querySelector(".when");
  const shots = film.querySelectorAll(".shot[data-high]");
  const curves = film.querySelectorAll(".moment:not(.last) .frames");

  function show(frame) {
    slider.value = frame;
    slider.setAttribute("aria-valuetext", told[frame]);
    when.textContent = told[frame];
    for (const shot of shots) {
      const [, , wide, high] = shot.getAttribute("viewBox").split(" ");
      shot.setAttribute("viewBox", `0 ${frame * shot.dataset.high} ${wide} ${high}`);
    }
    for (const lines of curves) [...lines.children].forEach((line, i) => line.classList.toggle("off", i !== frame));
  }

  makePlayer(slider, film.querySelector(".play"), show);
  for (const last of film.querySelectorAll(".moment.last")) last.classList.add("moved");
  film.querySelector(".player").hidden = told.length < 2;
  show(0);
}

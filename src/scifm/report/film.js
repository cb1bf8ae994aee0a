// Films: a slider moves truth, prediction and error from frame to frame; it plays where motion is welcome.
// Without this script the first and the last frame are shown.
(() => {
  const INTERVAL = 180; // milliseconds a frame
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  for (const film of document.querySelectorAll("figure.film")) {
    const told = JSON.parse(film.dataset.told);
    const [slider, button] = [film.querySelector("input"), film.querySelector(".play")];
    const when = film.querySelector(".when");
    const shots = film.querySelectorAll(".shot[data-high]");
    const curves = film.querySelectorAll(".moment:not(.last) .frames");
    let timer = null;

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

    function stop() {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    }

    function play() {
      if (still.matches) return;
      button.textContent = "Pause";
      if (slider.valueAsNumber === told.length - 1) show(0);
      timer = setInterval(() => {
        show(slider.valueAsNumber + 1);
        if (slider.valueAsNumber === told.length - 1) stop();
      }, INTERVAL);
    }

    const toggle = () => (timer === null ? play() : stop());

    button.addEventListener("click", toggle);
    slider.addEventListener("input", () => {
      stop();
      show(slider.valueAsNumber);
    });
    slider.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      toggle();
    });
    const offer = () => {
      stop();
      button.hidden = still.matches;
    };
    still.addEventListener("change", offer);
    offer();
    for (const last of film.querySelectorAll(".moment.last")) last.classList.add("moved");
    film.querySelector(".player").hidden = told.length < 2;
    show(0);
  }
})();

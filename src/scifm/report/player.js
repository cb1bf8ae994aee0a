// A slider over frames that plays: its button, arrow keys from frame to frame, Space. Where the browser asks for reduced
// motion nothing plays. `show(frame)` shows one and sets the slider to it. Of reports and of the playground.
const INTERVAL = 180; // milliseconds a frame

export function makePlayer(slider, button, show) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null;

  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }

  function play() {
    if (still.matches || slider.disabled) return;
    const last = Number(slider.max);
    button.textContent = "Pause";
    if (slider.valueAsNumber === last) show(0);
    timer = setInterval(() => {
      show(Math.min(slider.valueAsNumber + 1, last));
      if (slider.valueAsNumber === last) stop();
    }, INTERVAL);
  }

  const toggle = () => (timer === null ? play() : stop());

  function offer() {
    stop();
    button.hidden = still.matches;
  }

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
  still.addEventListener("change", offer);
  offer();
  return { stop };
}

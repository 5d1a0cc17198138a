/* A routine that all who have the page open see at the same step. */
import { panels } from "../examples/live.js";
import { ServerClock } from "./clock.js";

const { root, socket } = panels[0];
const { routine } = root.querySelector("[data-routine]").dataset;
const player = document.getElementById("player");
const seek = document.getElementById("seek");
const play = document.getElementById("play");
const now = document.getElementById("now");
const items = [...document.querySelectorAll("#steps li")];

const steps = [];
let duration = 0;
for (const item of items) {
  const seconds = Number(item.dataset.seconds);
  steps.push({ start: duration, seconds, title: item.dataset.title });
  duration += seconds;
}

const clock = new ServerClock(socket);
let playback = { is_playing: false, position: 0, time: 0 }; // seconds, of the server

/* In seconds: where the routine is now, here as on every other page. */
export function getPosition() {
  const { is_playing, position, time } = playback;
  const passed = is_playing ? clock.now() / 1000 - time : 0;
  return Math.min(Math.max(position + passed, 0), duration);
}

function isPlaying() {
  return playback.is_playing && getPosition() < duration;
}

/* What comes from the server */

function take(news) {
  if (news.time < playback.time) return; // from another worker, and older
  playback = news;
  draw();
}

socket.on("routines.playback", take);
socket.addEventListener("open", () => {
  // If this connection is lost meanwhile, the next one asks again.
  socket.request("routines.follow", { routine }).then(take, () => {});
});
clock.addEventListener("change", () => {
  const offset = Math.round(-clock.offset * 10) / 10;
  const lead = offset < 0 ? "behind" : "ahead of";
  document.getElementById("offset").textContent =
    `This page’s clock is ${Math.abs(offset)} ms ${lead} the server’s,` +
    ` give or take ${clock.uncertainty.toFixed(1)} ms.`;
  root.dataset.offset = clock.offset;
  draw();
});

/* What is done here */

function set(is_playing, position) {
  socket.send("routines.set", { routine, is_playing, position });
}

play.addEventListener("click", () => {
  if (isPlaying()) set(false, getPosition());
  else set(true, getPosition() < duration ? getPosition() : 0);
});
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => {
    const index = findStep() + Number(button.dataset.step);
    set(isPlaying(), steps[Math.min(Math.max(index, 0), steps.length - 1)].start);
  });
}
seek.max = duration;
seek.addEventListener("change", () => set(isPlaying(), Number(seek.value)));

/* What is shown */

function findStep() {
  const position = getPosition();
  return Math.max(steps.findLastIndex(({ start }) => start <= position), 0);
}

let shown = {};

function draw() {
  const position = getPosition();
  const index = findStep();
  const { start, seconds, title } = steps[index];
  const left = Math.ceil(start + seconds - position);
  const isOver = position >= duration;
  player.style.setProperty("--share", Math.min((position - start) / seconds, 1));
  if (!seek.matches(":active")) seek.value = position;
  change("left", isOver ? "✓" : left, (text) => {
    document.getElementById("left").textContent = text;
    seek.setAttribute("aria-valuetext", `${title}, ${left} seconds left`);
  });
  change("title", isOver ? "Well done" : title, (text) => {
    now.textContent = text; // a live region: once for each step
    items.forEach((item, number) => {
      item.dataset.state = isOver || number < index ? "done" : number > index ? "next" : "now";
      if (number === index) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
  });
  change("playing", isPlaying(), (playing) => {
    play.textContent = playing ? "Pause" : "Play";
    player.dataset.playing = playing;
    if (playing) requestAnimationFrame(drawOn);
  });
}

function drawOn() {
  draw();
  if (isPlaying()) requestAnimationFrame(drawOn);
}

function change(name, value, show) {
  if (shown[name] === value) return;
  shown[name] = value;
  show(value);
}

draw();

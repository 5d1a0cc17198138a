/* The noise monitor: the levels of the last half minute, on a canvas. */

import { panels } from "./live.js";

const DURATION = 30; // seconds that are shown
const LOWEST = 30; // dB(A)
const HIGHEST = 110;
const LIMIT = 85;
const MAX_PAUSE = 1; // seconds without a level, over which no line is drawn
const SUMMARY_INTERVAL = 15; // seconds between two texts for screen readers

const [{ socket }] = panels;
const chart = document.getElementById("noise-chart");
const canvas = chart.getContext("2d");
const levelLabel = document.getElementById("noise-level");
const countLabel = document.getElementById("noise-count");
const skippedLabel = document.getElementById("noise-skipped");
const summary = document.getElementById("noise-summary");

const samples = []; // { time, level }, the newest last
let lastNumber;
let count = 0;
let skipped = 0;
let summaryTime = -Infinity;
let isDrawing = false;

socket.addEventListener("open", () => {
  lastNumber = undefined; // what was sent before isn't skipped
});

socket.addEventListener("message", (event) => {
  const { number, level } = JSON.parse(event.data);
  const time = performance.now() / 1000;
  count += 1;
  // A smaller number is that of a publisher that was started anew.
  if (number > lastNumber) skipped += number - lastNumber - 1;
  lastNumber = number;
  samples.push({ time, level });
  while (samples[0].time < time - DURATION - MAX_PAUSE) samples.shift();
  if (time > summaryTime + SUMMARY_INTERVAL) {
    summaryTime = time;
    summary.textContent = summarize(level);
  }
  requestDrawing();
});

function summarize(level) {
  const levels = samples.map((sample) => sample.level);
  const lowest = Math.round(Math.min(...levels));
  const highest = Math.round(Math.max(...levels));
  return `${Math.round(level)} decibels, lately ${lowest} to ${highest}`;
}

function requestDrawing() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    draw();
  });
}

function draw() {
  const newest = samples.at(-1);
  if (newest) {
    levelLabel.textContent = newest.level.toFixed(1);
    levelLabel.classList.toggle("is-loud", newest.level > LIMIT);
  }
  countLabel.textContent = count;
  skippedLabel.textContent = skipped;

  const scale = window.devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = chart;
  chart.width = Math.round(width * scale);
  chart.height = Math.round(height * scale);
  canvas.scale(scale, scale);
  const style = getComputedStyle(chart);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const left = 32;
  const y = (level) => 8 + ((HIGHEST - level) / (HIGHEST - LOWEST)) * (height - 16);
  const x = (time) => width - 6 - ((newest.time - time) / DURATION) * (width - left - 6);

  canvas.font = `12px ${style.fontFamily}`;
  canvas.textAlign = "right";
  canvas.textBaseline = "middle";
  canvas.fillStyle = colour("muted");
  canvas.strokeStyle = colour("line");
  for (let level = LOWEST; level <= HIGHEST; level += 20) {
    canvas.fillText(level, left - 8, y(level));
    drawLevel(level);
  }
  canvas.strokeStyle = colour("waiting");
  canvas.setLineDash([6, 4]);
  drawLevel(LIMIT);
  canvas.setLineDash([]);
  if (!newest) return;

  canvas.beginPath();
  canvas.rect(left, 0, width - left, height);
  canvas.clip();
  canvas.strokeStyle = canvas.fillStyle = colour("accent");
  canvas.lineWidth = 2;
  canvas.lineJoin = "round";
  canvas.beginPath();
  let lastTime = -Infinity;
  for (const { time, level } of samples) {
    if (time - lastTime > MAX_PAUSE) canvas.moveTo(x(time), y(level));
    else canvas.lineTo(x(time), y(level));
    lastTime = time;
  }
  canvas.stroke();
  canvas.beginPath();
  canvas.arc(x(newest.time), y(newest.level), 4, 0, 2 * Math.PI);
  canvas.fill();

  function drawLevel(level) {
    canvas.beginPath();
    canvas.moveTo(left, y(level));
    canvas.lineTo(width, y(level));
    canvas.stroke();
  }
}

new ResizeObserver(requestDrawing).observe(chart);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", requestDrawing);

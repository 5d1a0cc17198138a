/* The live lines of the cards. */

const list = document.getElementById("cards");
const socket = dwebsocket.connect(list.dataset.url);

function show(name, text) {
  const line = list.querySelector(`[data-example="${name}"] .card-live`);
  if (line) line.textContent = text;
}

socket.addEventListener("message", ({ data }) => {
  const { cards, level } = JSON.parse(data);
  if (level !== undefined) show("noise-monitor", `${level.toFixed(1)} dB(A)`);
  if (!cards) return;
  for (const { dataset } of list.querySelectorAll("[data-example]")) {
    if (dataset.example !== "noise-monitor")
      show(dataset.example, cards[dataset.example] ?? "0 windows");
  }
});

socket.addEventListener("state", ({ state }) => {
  list.dataset.state = state;
});

/* The form of the topics page, and what the connection is subscribed to. */

import { panels } from "./live.js";

const [panel] = panels;
const { socket } = panel;
const list = document.getElementById("topics");
const subscribed = new Set();

document.getElementById("topic-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { topic, data } = event.target.elements;
  const message = { action: event.submitter.value, topic: topic.value };
  if (message.action === "publish") message.data = data.value;
  panel.send(JSON.stringify(message));
});

socket.addEventListener("message", (event) => {
  const { action, topic } = JSON.parse(event.data);
  if (action === "subscribe") subscribed.add(topic);
  if (action === "unsubscribe") subscribed.delete(topic);
  show();
});

// Subscriptions end with the connection: the next one has to have them again.
socket.addEventListener("open", () => {
  for (const topic of subscribed) panel.send(JSON.stringify({ action: "subscribe", topic }));
});

function show() {
  for (const old of list.querySelectorAll("[data-topic]")) old.remove();
  for (const topic of subscribed) {
    const chip = document.createElement("span");
    chip.className = "chip";
    chip.dataset.topic = chip.textContent = topic;
    list.append(chip);
  }
  list.querySelector("[data-none]").hidden = subscribed.size > 0;
}

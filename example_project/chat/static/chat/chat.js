/* The chat: rooms by their links, who is there, what is said.
 *
 * Everybody hears of all who enter or leave any room.  Several windows of one person
 * are one person here.
 */
import { panels } from "../examples/live.js";

const { socket } = panels[0];
const log = document.getElementById("lines");
const form = document.getElementById("chat-form");
const error = document.getElementById("chat-error");
const links = new Map(
  Array.from(document.querySelectorAll("[data-room]"), (link) => [link.dataset.room, link]),
);

let room;
let people = new Map(); // connection -> { person, name, room }
let early = null; // what is announced while the answer is on its way

/* Rooms */

async function enter() {
  const wanted = location.hash.slice(1);
  const previous = room;
  room = links.has(wanted) ? wanted : links.keys().next().value;
  if (room !== previous) log.replaceChildren();
  for (const [name, link] of links) {
    if (name === room) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (socket.state !== "open") return; // the next connection enters
  const entered = room;
  early = [];
  try {
    const { members, lines } = await socket.request("chat.enter", { room });
    if (room !== entered) return;
    people = new Map(members.map(({ id, data }) => [id, data]));
    for (const change of early) change();
    early = null;
    lines.forEach(showLine);
    showPeople();
    error.textContent = "";
  } catch (problem) {
    explain(problem);
  }
}

socket.addEventListener("open", enter);
addEventListener("hashchange", enter);

/* Who is there */

socket.on("group.join", ({ id, data }) => update(data, () => people.set(id, data)));
socket.on("group.leave", ({ id, data }) => update(data, () => people.delete(id)));

function update({ person, name }, change) {
  early?.push(change);
  const wasHere = listPeople(room).has(person);
  change();
  const isHere = listPeople(room).has(person);
  if (isHere !== wasHere) write("note", "", `${name} has ${isHere ? "joined" : "left"}`);
  showPeople();
}

function listPeople(room) {
  const inRoom = [...people.values()].filter((one) => one.room === room);
  return new Map(inRoom.map(({ person, name }) => [person, name]));
}

function showPeople() {
  const names = [...listPeople(room).values()].sort();
  document.getElementById("people").replaceChildren(...names.map((name) => make("li", name)));
  for (const [name, link] of links) {
    const count = listPeople(name).size;
    link.querySelector("[data-count]").textContent = count;
    link.querySelector("[data-unit]").textContent = count === 1 ? " person" : " people";
  }
}

/* What is said */

socket.on("chat.line", showLine);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = form.elements.text;
  try {
    await socket.request("chat.say", { room, text: field.value });
    field.value = error.textContent = "";
    field.removeAttribute("aria-invalid");
  } catch (problem) {
    field.setAttribute("aria-invalid", "true");
    explain(problem);
  }
  field.focus();
});

function explain({ message, fields }) {
  error.textContent = fields?.text?.[0].message ?? message;
}

function showLine({ id, room: where, author, text, said_at: time }) {
  const shown = [...log.querySelectorAll("[data-line]")];
  if (where !== room || shown.some(({ dataset }) => dataset.line === String(id))) return;
  // After a pause the history has what newer lines have overtaken.
  const next = shown.find(({ dataset }) => Number(dataset.line) > id) ?? null;
  write("line", author, text, new Date(time), next).dataset.line = id;
}

function write(kind, author, text, time = new Date(), next = null) {
  const view = log.parentElement;
  const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 24;
  const entry = make("li", "");
  entry.dataset.kind = kind;
  if (author) entry.append(make("b", author), " ");
  entry.append(make("span", text), " ", make("time", formatTime(time)));
  log.insertBefore(entry, next);
  if (isAtEnd) view.scrollTop = view.scrollHeight;
  return entry;
}

function formatTime(time) {
  return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function make(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

enter();

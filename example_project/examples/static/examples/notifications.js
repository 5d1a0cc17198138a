/* The inventory of dams: a notice and a row for each that is added elsewhere. */

import { panels } from "./live.js";

const MAX_NOTICES = 3;

const [{ socket }] = panels;
const notices = document.getElementById("notices");
const rows = document.getElementById("dams");
const countLabel = document.getElementById("dam-count");

socket.addEventListener("message", (event) => {
  const { message, dams, count } = JSON.parse(event.data);
  countLabel.textContent = `, ${count} in all`;
  // After a pause there are some that nobody has said anything of.
  for (const dam of dams.reverse()) {
    if (rows.querySelector(`[data-dam="${dam.id}"]`)) continue;
    if (message) showNotice(message, `${dam.name}, ${dam.river}, ${dam.height} m`);
    addRow(dam);
  }
});

function showNotice(title, text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.append(make("strong", title), make("span", text));
  notices.prepend(notice);
  while (notices.children.length > MAX_NOTICES) notices.lastChild.remove();
}

function addRow(dam) {
  rows.querySelector("[data-empty]")?.remove();
  const row = document.createElement("tr");
  row.dataset.dam = dam.id;
  row.className = "is-new";
  row.append(make("td", dam.name), make("td", dam.river), make("td", `${dam.height} m`));
  rows.prepend(row);
}

function make(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

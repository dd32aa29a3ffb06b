// SPDX-License-Identifier: GPL-3.0-or-later
// Whatever is new replaces what is shown; what is closed stays closed, and focus where it is.
"use strict";
const source = new EventSource("events");
source.addEventListener("news", (event) => {
  const before = document.getElementById("content");
  const closed = [...before.querySelectorAll("details:not([open])")].map((each) => each.id);
  const focused = document.activeElement;
  const path = focused && before.contains(focused) ? way(focused, before) : null;
  const next = new DOMParser().parseFromString(event.data, "text/html").getElementById("content");
  for (const id of closed) {
    next.querySelector(`details[id="${CSS.escape(id)}"]`)?.removeAttribute("open");
  }
  before.replaceWith(document.adoptNode(next));
  path?.reduce((node, index) => node?.children[index], next)?.focus({ preventScroll: true });
});
source.addEventListener("error", () =>
  document.getElementById("content").classList.add("stale"));
source.addEventListener("open", () =>
  document.getElementById("content").classList.remove("stale"));

function way(node, top) {
  const path = [];
  for (; node !== top; node = node.parentElement) {
    path.unshift([...node.parentElement.children].indexOf(node));
  }
  return path;
}

// SPDX-License-Identifier: GPL-3.0-or-later
// Whatever is new replaces what is shown; what is closed stays closed, and focus where it is.
"use strict";
// Milliseconds: the exporter says something each 5 s, and one that does not is listened to anew.
const SILENT = 15000;
const LOOK = 2000;
let source = null;
let heard = 0;

// A browser gives up for good on an answer that is no stream, of a proxy or a crowded exporter,
// and never notices that nobody is at the other end any more.
function listen() {
  source?.close();
  heard = Date.now();
  source = new EventSource("events");
  source.addEventListener("open", fresh);
  source.addEventListener("alive", fresh);
  source.addEventListener("news", (event) => { renew(event.data); fresh(); });
  source.addEventListener("error", stale);
}

function fresh() {
  heard = Date.now();
  document.getElementById("content").classList.remove("stale");
}

function stale() {
  document.getElementById("content").classList.add("stale");
}

function renew(text) {
  const before = document.getElementById("content");
  const next = new DOMParser().parseFromString(text, "text/html").getElementById("content");
  for (const each of before.querySelectorAll("details:not([open])")) {
    next.querySelector(`details${named(each.id)}`)?.removeAttribute("open");
  }
  const focused = document.activeElement;
  // From what has a name: what stands before that may be more or less by now.
  const place = focused && before.contains(focused) ? focused.closest("[id]") : null;
  const path = place ? way(focused, place) : [];
  before.replaceWith(document.adoptNode(next));
  const again = place === before ? next : place && next.querySelector(named(place.id));
  path.reduce((node, index) => node?.children[index], again)?.focus({ preventScroll: true });
}

function named(id) {
  return `[id="${CSS.escape(id)}"]`;
}

function way(node, top) {
  const path = [];
  for (; node !== top; node = node.parentElement) {
    path.unshift([...node.parentElement.children].indexOf(node));
  }
  return path;
}

setInterval(() => {
  const silent = Date.now() - heard > SILENT;
  if (silent || source.readyState === EventSource.CLOSED) {
    stale();
    listen();
  }
}, LOOK);
listen();

// A running pipeline moves along: the server sends the HTML of what has changed.
"use strict";

const live = document.querySelector("[data-live]");

function put(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  for (const fresh of [...holder.content.children]) {
    const old = document.getElementById(fresh.id);
    if (!old) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
    old.replaceWith(fresh);
    if (focused) document.getElementById(focused)?.focus();
  }
}

if (live && "EventSource" in window) {
  const status = document.getElementById("connection");
  const source = new EventSource(live.dataset.live);
  source.addEventListener("open", () => { status.textContent = "Live"; });
  source.addEventListener("changed", (event) => put(event.data));
  source.addEventListener("ended", (event) => {
    put(event.data);
    status.textContent = "";
    source.close();
  });
  source.addEventListener("error", () => {
    status.textContent =
      source.readyState === EventSource.CLOSED
        ? "No longer live: reload the page"
        : "Connection lost, trying again";
  });
  // The browser keeps few connections for each server: a page that was left must give its own back.
  window.addEventListener("pagehide", () => source.close());
}

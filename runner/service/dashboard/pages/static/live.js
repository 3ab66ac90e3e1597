// Keeps the page up to date while a job moves: fetches the same page again and puts its content in place.
"use strict";

const PAUSE = 2000;

async function renew() {
  if (document.hidden) return;
  let fresh;
  try {
    const reply = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    if (reply.type === "opaqueredirect" || reply.status === 401) return location.reload();
    if (!reply.ok) throw new Error(reply.statusText);
    fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  } catch {
    document.getElementById("stale").hidden = false;
    return;
  }
  document.getElementById("stale").hidden = true;
  document.title = fresh.title;
  const old = document.querySelector("main");
  const main = fresh.querySelector("main");
  if (old.innerHTML !== main.innerHTML) old.replaceWith(document.adoptNode(main));
}

async function live() {
  await renew();
  setTimeout(live, PAUSE);
}

setTimeout(live, PAUSE);
document.addEventListener("visibilitychange", renew);

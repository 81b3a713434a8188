// Keeps a page as it is now: when the issuer says that something changed, the page is got once more and what differs
// is put in its place. What has the focus, is unfolded or is being typed stays as it is.
"use strict";

(() => {
  if (!document.body.hasAttribute("data-live") || !window.EventSource) return;

  const OLD = "The issuer can’t be reached; what is shown may be old.";
  const PERIODIC = "Not live: no stream of changes; got anew now and then.";
  let source = null;
  let busy = false;
  let again = false;

  const say = (text) => {
    const place = document.getElementById("live");
    if (place && place.textContent !== text) place.textContent = text;
  };

  // Makes `old` like `fresh`, touching only what differs.
  const mend = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name, value } of [...fresh.attributes]) {
      // Who unfolds a thing, or folds it, is asked no more.
      if (name === "open" && old.tagName === "DETAILS") continue;
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (name === "open" && old.tagName === "DETAILS") continue;
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    // Text that changes here would be text that somebody types.
    if (old.tagName === "TEXTAREA") return;
    const key = (node) => (node.nodeType === Node.ELEMENT_NODE && node.id) || "";
    const alike = (a, b) => a && a.nodeName === b.nodeName && key(a) === key(b);
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      if (!alike(at, next)) {
        // The one that it was may stand further down.
        let found = null;
        if (key(next)) {
          for (let one = at; one && !found; one = one.nextSibling) if (alike(one, next)) found = one;
        }
        if (!found) {
          old.insertBefore(document.importNode(next, true), at);
          continue;
        }
        while (at !== found) {
          const gone = at;
          at = at.nextSibling;
          gone.remove();
        }
      }
      const here = at;
      at = at.nextSibling;
      mend(here, next);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const refresh = async () => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (fresh.title !== document.title) document.title = fresh.title;
      for (const part of ["header.top", "main", "footer"]) {
        const [old, next] = [document.querySelector(part), fresh.querySelector(part)];
        const live = next && next.querySelector("#live");
        const streams = source && source.readyState === EventSource.OPEN;
        if (live) live.textContent = streams ? "Live." : PERIODIC;
        if (old && next) mend(old, next);
      }
    } catch {
      say(OLD);
    } finally {
      busy = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  };

  // A browser comes back by itself where a connection broke. Where something answered that isn't the issuer (a proxy,
  // while it restarts), or the issuer had no place left, it gives up.
  const FIRST = 1000;
  const LONGEST = 30000;
  let pause = FIRST;
  let lost = false;
  const listen = () => {
    source = new EventSource("/live");
    source.addEventListener("open", () => {
      pause = FIRST;
      if (lost) refresh();
      lost = false;
    });
    source.addEventListener("changed", refresh);
    source.addEventListener("error", () => {
      if (!lost) say(OLD);
      lost = true;
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => {
        // Somebody has to log in again, perhaps.
        if (!document.hidden) refresh();
        listen();
      }, pause);
      pause = Math.min(2 * pause, LONGEST);
    });
  };
  listen();
  // Times go on though nothing changes.
  setInterval(() => {
    if (!document.hidden && source.readyState === EventSource.OPEN) refresh();
  }, 30000);
})();

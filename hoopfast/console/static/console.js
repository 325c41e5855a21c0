// Keeps a page that shows what waits up to date without reloading it. Without scripts, <noscript> reloads it instead.
"use strict";
(() => {
  const seconds = Number(document.body.dataset.refresh);
  if (!seconds) return;
  const busy = () => document.hidden || !document.getSelection().isCollapsed;
  const refresh = async () => {
    if (busy()) return;
    const answer = await fetch(location.href, { redirect: "manual", headers: { Accept: "text/html" } });
    // Signed out meanwhile: the sign-in page comes from a real request.
    if (answer.type === "opaqueredirect") return location.reload();
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && fresh.innerHTML !== part.innerHTML && !busy()) part.replaceWith(document.adoptNode(fresh));
    }
    document.title = page.title;
  };
  setInterval(() => refresh().catch(() => {}), seconds * 1000);
  document.addEventListener("visibilitychange", () => refresh().catch(() => {}));
})();

// Small behaviours that pages share: theme, local choices, countdowns, Shanghai times shown with UTC on hover.
"use strict";
(() => {
  const root = document.documentElement;
  for (const name of ["theme", "updown"]) {
    const kept = localStorage.getItem(name);
    if (kept) root.dataset[name] = kept;
  }
  document.addEventListener("click", (event) => {
    const toggle = event.target.closest("[data-toggle-theme]");
    if (toggle) {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      navigator.clipboard.writeText(document.querySelector(copy.dataset.copy).textContent.trim());
      copy.textContent = copy.dataset.done || copy.textContent;
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit-on-change]")) event.target.form.requestSubmit();
  });
  // A form is sent once: the second click finds its button disabled.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button[type=submit]:not([data-again])");
    if (button && !event.defaultPrevented) setTimeout(() => { button.disabled = true; }, 0);
  });
  // A form is known by where it is sent: the page that says what is wrong has another address than the one before.
  const keptAs = (form) => "kept:" + new URL(form.getAttribute("action") || "", location.href).pathname;
  // What was typed outlives a session that ended meanwhile: after signing in again it stands in the form.
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-keep]")) return;
    const typed = [...new FormData(event.target)].filter(([name]) => !["csrfmiddlewaretoken", "key"].includes(name));
    sessionStorage.setItem(keptAs(event.target), JSON.stringify(typed));
  });
  const form = document.querySelector("form[data-keep]");
  const kept = form && sessionStorage.getItem(keptAs(form));
  if (form) sessionStorage.removeItem(keptAs(form));
  if (kept && form && document.referrer.includes("/accounts/")) {
    for (const [name, value] of JSON.parse(kept)) {
      for (const field of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
        if (field.type === "radio" || field.type === "checkbox") field.checked = field.value === value;
        else field.value = value;
      }
    }
  }
  addEventListener("pageshow", () => document.querySelectorAll("button[disabled]").forEach((b) => { b.disabled = false; }));

  // Product time may run ahead of or faster than the visitor's: the page carries what the server's clock showed.
  const server = document.querySelector("meta[name=product-time]");
  const shown = performance.now();
  const start = server ? Date.parse(server.content) : Date.now();
  const speed = server ? Number(server.dataset.speed || 1) : 1;
  const productNow = () => start + (performance.now() - shown) * speed;
  const two = (n) => String(n).padStart(2, "0");
  const tick = () => {
    for (const element of document.querySelectorAll("[data-countdown]")) {
      const left = Math.max(0, Math.round((Date.parse(element.dataset.countdown) - productNow()) / 1000));
      const hours = Math.floor(left / 3600);
      const text = (hours ? `${hours}:${two(Math.floor(left / 60) % 60)}` : `${Math.floor(left / 60)}`) + `:${two(left % 60)}`;
      if (element.textContent !== text) element.textContent = text;
    }
  };
  tick();
  setInterval(tick, 1000);
})();

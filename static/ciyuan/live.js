// A market's page while one looks: asks for its changing parts when the exchange says that something changed, over a
// websocket; every two seconds while that is away. What is refreshed is the server's own rendering, so that the page
// and the API never say two things.
"use strict";
(() => {
  const shown = () => document.getElementById("live");
  if (!shown()) return;
  const market = Number(shown().dataset.market);
  const SOONEST = 400, POLL = 2_000, SILENT = 15_000, LONGEST_PAUSE = 30_000;
  let socket = null, heard = 0, pause = 500, asked = 0, waiting = false;

  const refresh = () => {
    if (document.hidden || waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; asked = Date.now(); htmx.trigger(shown(), "refresh"); }, Math.max(0, asked + SOONEST - Date.now()));
  };
  const connect = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`);
    socket.addEventListener("open", () => {
      pause = 500; heard = Date.now();
      socket.send(JSON.stringify({ op: "subscribe", market, channels: ["quote", "phase", "indicative"] }));
    });
    socket.addEventListener("message", (event) => {
      heard = Date.now();
      if (["update", "snapshot"].includes(JSON.parse(event.data).type)) refresh();
    });
    socket.addEventListener("close", () => {
      socket = null;
      setTimeout(connect, pause * (0.5 + Math.random()));
      pause = Math.min(LONGEST_PAUSE, pause * 2);
    });
  };
  setInterval(() => {
    const alive = socket && socket.readyState === WebSocket.OPEN;
    if (alive && Date.now() - heard > SILENT) socket.close();
    document.documentElement.dataset.live = alive ? "socket" : "polling";
    if (!alive || Date.now() - asked > 10 * POLL) refresh();
  }, POLL);
  document.addEventListener("visibilitychange", refresh);

  // What the reader has unfolded stays unfolded.
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => { open = [...document.querySelectorAll("details[id][open]")].map((one) => one.id); });
  document.addEventListener("htmx:afterSettle", () => { for (const id of open) document.getElementById(id)?.setAttribute("open", ""); });
  connect();
})();

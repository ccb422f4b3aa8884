// The calendar of capacity: a drag over a deployment's free windows chooses from the first to the last, or takes the choice
// back where it began on a chosen one. Each window is a checkbox, so that keys and a page without this script do as well.
"use strict";
(() => {
  const form = document.querySelector("form.calendar");
  if (!form) return;
  const boxes = (row) => [...row.querySelectorAll("label.slot input:not(:disabled)")];
  const output = form.querySelector("output[data-chosen]");
  const say = () => {
    if (!output) return;
    const chosen = [...form.querySelectorAll("label.slot input:checked")];
    const minutes = chosen.reduce((sum, box) => sum + Number(box.closest("label").dataset.minutes), 0);
    const text = output.dataset.chosen.replace("{n}", chosen.length).replace("{h}", Math.round(minutes / 6) / 10);
    output.textContent = chosen.length ? text : "";
  };
  let drag = null;
  const paint = (to) => {
    const [low, high] = [Math.min(drag.from, to), Math.max(drag.from, to)];
    drag.boxes.forEach((box, place) => { box.checked = place >= low && place <= high ? drag.state : drag.before[place]; });
    say();
  };
  form.addEventListener("pointerdown", (event) => {
    const slot = event.target.closest("label.slot");
    const box = slot && slot.querySelector("input:not(:disabled)");
    if (!box || event.button !== 0) return;
    const row = boxes(slot.closest("[data-row]"));
    drag = { boxes: row, before: row.map((one) => one.checked), from: row.indexOf(box), state: !box.checked };
    paint(drag.from);
  });
  form.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const over = document.elementFromPoint(event.clientX, event.clientY)?.closest("label.slot");
    const to = over ? drag.boxes.indexOf(over.querySelector("input")) : -1;
    if (to >= 0) paint(to);
  });
  addEventListener("pointerup", () => { drag = null; });
  addEventListener("pointercancel", () => { if (drag) { drag.boxes.forEach((box, place) => { box.checked = drag.before[place]; }); drag = null; say(); } });
  // A pointer has chosen already when its click comes; a key's click (detail 0) is the checkbox's own.
  form.addEventListener("click", (event) => { if (event.detail && event.target.closest("label.slot")) event.preventDefault(); });
  form.addEventListener("change", say);
  say();
})();

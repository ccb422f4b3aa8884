// The console follows the system's theme while it is open, not only when it is opened, where no theme was chosen.
"use strict";
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  const chosen = JSON.parse(localStorage.getItem("_x_adminTheme") || '"auto"');
  if (chosen === "auto") document.documentElement.classList.toggle("dark", event.matches);
});

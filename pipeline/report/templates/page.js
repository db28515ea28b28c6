"use strict";
// Each chart is drawn inside its text alternative, for the reader's scheme, and again when that changes.
(() => {
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  async function draw() {
    const scheme = dark.matches ? "dark" : "light";
    const palette = themes[scheme];
    const fill = (_, value) => (typeof value === "string" ? palette[value] ?? value : value);
    for (const box of document.querySelectorAll("[data-chart]")) {
      drawn.get(box)?.finalize();
      const chart = JSON.parse(box.parentElement.nextElementSibling.textContent, fill);
      drawn.set(box, await window.drawChart(box, chart, {
        actions: false, renderer: "svg", tooltip: { theme: scheme },
      }));
    }
    document.documentElement.dataset.drawn = scheme;
  }

  dark.addEventListener("change", draw);
  draw();
})();

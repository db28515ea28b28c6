"use strict";
// Each chart is drawn inside its text alternative, for the reader's scheme, and again when that changes.
(() => {
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  async function draw(scheme = dark.matches ? "dark" : "light") {
    const palette = themes[scheme];
    const fill = (_, value) => (typeof value === "string" ? palette[value] ?? value : value);
    const charts = [...document.querySelectorAll("[data-chart]")];
    await Promise.all(charts.map(async (box) => {
      drawn.get(box)?.finalize();
      const chart = JSON.parse(box.parentElement.nextElementSibling.textContent, fill);
      drawn.set(box, await window.drawChart(box, chart, {
        actions: false, renderer: "svg", tooltip: { theme: scheme },
      }));
    }));
    document.documentElement.dataset.drawn = scheme;
  }

  // Paper is light and narrow: the charts are drawn for it before the browser lays the pages out.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    draw("light");
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    draw();
  });
  dark.addEventListener("change", () => draw());
  draw();
})();

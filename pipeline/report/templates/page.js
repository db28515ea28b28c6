"use strict";
// Draws the charts, of the chosen period and for the reader's scheme; sorts and saves the table of days; copies ids.
(() => {
  const { light, dark, config } = JSON.parse(document.getElementById("themes").textContent);
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const RATES = {
    delivery_rate: ["delivered", "attempted"],
    open_rate: ["opened", "delivered"],
    undelivered_rate: ["undelivered", "attempted"],
    failure_rate: ["failed", "attempted"],
  };
  const OVER_TIME = ["volume", ...Object.keys(RATES)];

  // The rows of a table that is embedded as columns.
  const rowsOf = (table) => (table?.rows ?? []).map((row) =>
    Object.fromEntries(table.columns.map((name, n) => [name, row[n]])));

  function withRates(row, days) {
    const rate = ([part, whole]) =>
      row.completeness === "gaps" || row[part] === null || !row[whole] ? null : row[part] / row[whole];
    const rates = Object.entries(RATES).map(([name, parts]) => [name, rate(parts)]);
    return { ...row, days, ...Object.fromEntries(rates) };
  }

  class Section {
    constructor(element, data) {
      this.element = element;
      this.name = data.name;
      this.firsts = data.firsts;
      const { days, weeks, ...tables } = data.tables;
      this.days = rowsOf(days).map((row) => withRates(row, 1));
      this.weeks = rowsOf(weeks).map((row) => withRates(row, 7));
      this.tables = Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, rowsOf(table)]));
      this.sorting = { column: "period", sign: 1 };
      this.drawn = new Map();
    }

    daysOf(period) {
      return this.days.filter((row) => row.period >= this.firsts[period]);
    }

    // The rows of the charts by their names.
    datasets(period) {
      const isLong = period === "all" && this.weeks.length;
      const unusual = (this.tables.unusual ?? []).filter((row) => row.period >= this.firsts[period]);
      return { ...this.tables, series: isLong ? this.weeks : this.daysOf(period), unusual };
    }

    async draw(scheme, period, isWanted) {
      const palette = scheme === "dark" ? dark : light;
      const fill = (_, value) => (typeof value === "string" ? palette[value] ?? value : value);
      const datasets = this.datasets(period);
      for (const box of this.element.querySelectorAll("[data-chart]")) {
        if (!isWanted(box.dataset.chart)) continue;
        this.drawn.get(box)?.finalize();
        const spec = JSON.parse(box.parentElement.nextElementSibling.textContent, fill);
        const colours = JSON.parse(JSON.stringify(config), fill);
        const chart = await window.drawChart(box, { ...spec, datasets, config: colours }, {
          actions: false, renderer: "svg", tooltip: { theme: scheme },
          logLevel: 1, // errors: a layer without rows is none
        });
        // A finger that taps moves over nothing.
        const tip = chart.view.tooltip();
        chart.view.addEventListener("click", (event, item) => tip(null, event, item, item?.tooltip));
        this.drawn.set(box, chart);
      }
    }

    sorted(period) {
      const { column, sign } = this.sorting;
      const order = (a, b) => (a[column] === b[column] ? 0 : a[column] === null ? 1 : b[column] === null ? -1
        : sign * (a[column] < b[column] ? -1 : 1));
      return this.daysOf(period).sort(order);
    }

    fillTable(period) {
      const table = this.element.querySelector("table.series");
      const heads = [...table.querySelectorAll("[data-column]")];
      for (const head of heads) {
        const { column, sign } = this.sorting;
        if (head.dataset.column === column) head.ariaSort = sign > 0 ? "ascending" : "descending";
        else head.removeAttribute("aria-sort");
      }
      table.tBodies[0].replaceChildren(...this.sorted(period).map((row) => {
        const line = document.createElement("tr");
        line.className = row.completeness;
        for (const head of heads) {
          const cell = document.createElement(head.dataset.column === "period" ? "th" : "td");
          cell.className = head.className;
          cell.textContent = shown(row, head.dataset.column);
          line.append(cell);
        }
        line.firstChild.scope = "row";
        return line;
      }));
    }

    sortBy(column, period) {
      const isSame = this.sorting.column === column;
      const first = ["period", "known"].includes(column) ? 1 : -1; // the largest number first
      this.sorting = { column, sign: isSame ? -this.sorting.sign : first };
      this.fillTable(period);
    }

    csv(period) {
      const names = [...this.element.querySelectorAll("table.series [data-column]")]
        .map((head) => head.dataset.column);
      const cell = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
      const lines = this.sorted(period).map((row) => names.map((name) => cell(`${row[name] ?? ""}`)));
      return [["created_date", ...names.slice(1)], ...lines].map((line) => `${line.join(",")}\r\n`).join("");
    }
  }

  function shown(row, column) {
    if (column === "period") return dayName(row.period);
    const value = row[column];
    if (value === null) return "–";
    if (column in RATES) return `${(100 * value).toFixed(2)}%`;
    return typeof value === "number" ? value.toLocaleString("en-US") : value;
  }

  function dayName(period) {
    const [weekday, day, month, year] = new Date(period).toUTCString().split(/[ ,]+/);
    return `${weekday} ${Number(day)} ${month} ${year}`;
  }

  function save(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  async function copy(button) {
    const id = button.previousElementSibling;
    getSelection().selectAllChildren(id);
    try {
      await navigator.clipboard.writeText(id.textContent);
    } catch {
      document.execCommand("copy"); // where a page has no access to the clipboard, its selection can be copied
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  async function loadVega() {
    const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  const sections = [...document.querySelectorAll("script.data")].map((script) =>
    new Section(script.closest("section"), JSON.parse(script.textContent)));
  const chosen = () => document.querySelector("[name=period]:checked").value;

  async function draw(scheme = isDark.matches ? "dark" : "light", isWanted = () => true) {
    for (const section of sections) await section.draw(scheme, chosen(), isWanted);
    document.documentElement.dataset.drawn = scheme;
    document.documentElement.dataset.drawnPeriod = chosen();
  }

  for (const section of sections) {
    const { element } = section;
    for (const head of element.querySelectorAll("[data-column]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => section.sortBy(head.dataset.column, chosen()));
      head.append(button);
    }
    const button = element.querySelector("button.csv");
    button.hidden = false;
    button.addEventListener("click", () => {
      const period = chosen() === "all" ? "all" : `${chosen()}-days`;
      save(`email-by-day-${section.name}-${period}.csv`, section.csv(chosen()));
    });
    section.fillTable(chosen());
  }
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
  for (const radio of document.querySelectorAll("[name=period]")) {
    radio.addEventListener("change", () => {
      for (const section of sections) section.fillTable(chosen());
      draw(undefined, (key) => OVER_TIME.includes(key));
    });
  }
  const account = document.getElementById("account");
  if (account) {
    account.parentElement.hidden = false;
    document.querySelector("nav").hidden = true;
    account.addEventListener("change", () => {
      for (const element of document.querySelectorAll("main > section")) {
        element.hidden = account.value !== "" && element.id !== account.value;
      }
      dispatchEvent(new Event("resize")); // a chart that was drawn while hidden takes its width
    });
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
  isDark.addEventListener("change", () => draw());
  loadVega().then(() => draw());
})();

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
      this.charts = data.charts;
      const { days, weeks, ...tables } = data.tables;
      this.days = rowsOf(days).map((row) => withRates(row, 1));
      this.weeks = rowsOf(weeks).map((row) => withRates(row, 7));
      this.tables = Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, rowsOf(table)]));
      this.sorting = { column: "period", sign: -1 };
      this.drawn = new Map();
    }

    chosenDays() {
      return this.days.filter((row) => row.period >= this.firsts[this.period]);
    }

    // The rows of the charts by their names.
    datasets() {
      const isLong = this.period === "all" && this.weeks.length;
      const unusual = (this.tables.unusual ?? []).filter((row) => row.period >= this.firsts[this.period]);
      return { ...this.tables, series: isLong ? this.weeks : this.chosenDays(), unusual };
    }

    // Shows a period in a scheme; of what is shown already, nothing is drawn again.
    async show(period, scheme) {
      const wanted = this.scheme === scheme ? (this.period === period ? [] : OVER_TIME) : Object.keys(this.charts);
      const hasOtherDays = this.period !== period;
      Object.assign(this, { period, scheme });
      if (hasOtherDays) this.fillTable();
      for (const name of wanted) await this.draw(name);
    }

    async draw(name) {
      const box = this.element.querySelector(`[data-chart=${name}]`);
      const palette = this.scheme === "dark" ? dark : light;
      const coloured = (value) => JSON.parse(JSON.stringify(value), (_, one) => palette[one] ?? one);
      const spec = { ...coloured({ ...this.charts[name], config }), datasets: this.datasets() };
      this.drawn.get(box)?.finalize();
      const chart = await window.drawChart(box, spec, {
        actions: false, renderer: "svg", tooltip: { theme: this.scheme },
        logLevel: 1, // errors: a layer without rows is none
      });
      // A finger that taps moves over nothing.
      const tip = chart.view.tooltip();
      chart.view.addEventListener("click", (event, item) => tip(null, event, item, item?.tooltip));
      this.drawn.set(box, chart);
    }

    sorted() {
      const { column, sign } = this.sorting;
      const order = (a, b) => (a[column] === b[column] ? 0 : a[column] === null ? 1 : b[column] === null ? -1
        : sign * (a[column] < b[column] ? -1 : 1));
      return this.chosenDays().sort(order);
    }

    fillTable() {
      const table = this.element.querySelector("table.series");
      const heads = [...table.querySelectorAll("[data-column]")];
      for (const head of heads) {
        const { column, sign } = this.sorting;
        if (head.dataset.column === column) head.ariaSort = sign > 0 ? "ascending" : "descending";
        else head.removeAttribute("aria-sort");
      }
      table.tBodies[0].replaceChildren(...this.sorted().map((row) => {
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

    sortBy(column) {
      const isSame = this.sorting.column === column;
      const first = column === "known" ? 1 : -1; // the newest day and the largest number come first
      this.sorting = { column, sign: isSame ? -this.sorting.sign : first };
      this.fillTable();
    }

    csv() {
      const names = [...this.element.querySelectorAll("table.series [data-column]")]
        .map((head) => head.dataset.column);
      const cell = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
      const lines = this.sorted().map((row) => names.map((name) => cell(`${row[name] ?? ""}`)));
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

  // The text that an element has as gzip in base 64.
  async function unpack(element) {
    const packed = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  const sections = new Map();
  const chosen = () => document.querySelector("[name=period]:checked").value;
  const scheme = () => (isDark.matches ? "dark" : "light");

  // Only sections near the window are drawn: with many accounts and years, all would take long.
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) sections.get(entry.target).isNear = entry.isIntersecting;
    show();
  }, { rootMargin: "100%" });

  async function show() {
    const [period, wanted] = [chosen(), scheme()];
    for (const section of sections.values()) if (section.isNear) await section.show(period, wanted);
    Object.assign(document.documentElement.dataset, { drawn: wanted, drawnPeriod: period });
  }

  function addButtons(section) {
    for (const head of section.element.querySelectorAll("[data-column]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => section.sortBy(head.dataset.column));
      head.append(button);
    }
    const button = section.element.querySelector("button.csv");
    button.hidden = false;
    button.addEventListener("click", () => {
      const period = section.period === "all" ? "all" : `${section.period}-days`;
      save(`email-by-day-${section.name}-${period}.csv`, section.csv());
    });
  }

  async function begin() {
    const vega = document.createElement("script");
    vega.textContent = await unpack(document.getElementById("vega"));
    document.head.append(vega);
    for (const element of document.querySelectorAll("script.data")) {
      const section = new Section(element.closest("section"), JSON.parse(await unpack(element)));
      sections.set(section.element, section);
      addButtons(section);
      observer.observe(section.element);
    }
  }

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
  for (const radio of document.querySelectorAll("[name=period]")) radio.addEventListener("change", show);
  const account = document.getElementById("account");
  if (account) {
    account.parentElement.hidden = false;
    document.querySelector("nav").hidden = true;
    account.addEventListener("change", () => {
      for (const element of document.querySelectorAll("main > section")) {
        element.hidden = account.value !== "" && element.id !== account.value;
      }
    });
  }

  // Paper is light and narrow: all is drawn for it before the browser lays the pages out.
  addEventListener("beforeprint", async () => {
    document.documentElement.classList.add("paper");
    for (const section of sections.values()) {
      section.scheme = null;
      if (!section.element.hidden) await section.show(chosen(), "light");
    }
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    for (const section of sections.values()) section.scheme = null;
    show();
  });
  isDark.addEventListener("change", show);
  begin();
})();

"use strict";
(() => {
  document.documentElement.classList.add("js");

  // Figures, one after the other, so that the page stays responsive while they are drawn.
  const specs = [...document.querySelectorAll("script[data-plot]")];
  const drawn = [];
  const draw = (script) => {
    const element = document.getElementById(script.dataset.plot);
    const { data, layout } = JSON.parse(script.textContent);
    const isNarrow = element.clientWidth < 560;
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: isNarrow ? false : "hover",
      // plotly 7 would offer to upload the chart.
      modeBarButtonsToRemove: ["sendChartToCloud", "lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
      scrollZoom: false,
    };
    if (isNarrow) {
      layout.margin = { ...layout.margin, l: 48, r: 4 };
      layout.font = { ...layout.font, size: 11 };
      if (layout.legend?.title?.text) layout.legend.title.side = "top";
      layout.height += 90;  // the legend takes more lines
      // A finger that scrolls the page must not zoom a figure.
      layout.dragmode = false;
    }
    drawn.push(element);
    return Plotly.newPlot(element, data, layout, config);
  };
  const next = () => {
    const script = specs.shift();
    if (!script) { document.documentElement.dataset.figures = "drawn"; return; }
    draw(script).then(() => setTimeout(next, 0));
  };
  next();

  // Paper is narrower than a screen, and a browser doesn't lay figures out again for it.
  addEventListener("beforeprint", () => {
    while (specs.length) draw(specs.shift());
    for (const element of drawn) Plotly.relayout(element, { width: 680 });
  });
  addEventListener("afterprint", () => {
    for (const element of drawn) Plotly.relayout(element, { width: null, autosize: true });
  });

  // Tables: numbers by their full value, empty cells always last.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const key = cell.dataset.v ?? (cell.textContent === "–" || cell.classList.contains("number") ? null : cell.textContent);
    if (key === null || key === "") return null;
    const number = Number(key);
    return Number.isNaN(number) ? key : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: keyOf(row, column) }));
      rows.sort((x, y) => {
        if (x.key === null || y.key === null) return (x.key === null) - (y.key === null);
        return falling ? compare(y.key, x.key) : compare(x.key, y.key);
      });
      table.tBodies[0].append(...rows.map((item) => item.row));
    }));
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "copy"; }, 2000);
    });
  }
})();

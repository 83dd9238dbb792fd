"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // A figure's menus become the page's own, which a keyboard and a screen reader can use.
  const addSwitch = (element, menu, label) => {
    const choice = document.createElement("select");
    menu.buttons.forEach((button, index) => choice.add(new Option(button.label, index)));
    choice.selectedIndex = menu.active ?? 0;
    choice.setAttribute("aria-label", `${label}: what is shown`);
    choice.addEventListener("change", () => {
      const button = menu.buttons[choice.selectedIndex];
      Plotly[button.method](element, ...structuredClone(button.args));
    });
    const box = document.createElement("div");
    box.className = "switch";
    box.append(choice);
    element.before(box);
  };

  // Of a thousand single runs the points take longer than all else: what they are about is seen before them.
  const heldBack = (data) => data.flatMap((trace, index) => {
    if (trace.mode !== "markers" || (trace.x?.length ?? 0) <= 200) return [];
    const points = { index, x: trace.x, y: trace.y };
    Object.assign(trace, { x: [null], y: [null] });
    return [points];
  });

  const drawn = [];
  const draw = (script, isFirst = false) => {
    const element = document.getElementById(script.dataset.plot);
    const { data, layout } = JSON.parse(script.textContent);
    const isNarrow = bsoptIsNarrow(element.clientWidth);
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: isNarrow ? false : "hover",
      // plotly 7 would offer to upload the chart.
      modeBarButtonsToRemove: ["sendChartToCloud", "lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
      scrollZoom: false,
    };
    const heading = document.getElementById(element.getAttribute("aria-labelledby")).textContent;
    for (const menu of layout.updatemenus ?? []) addSwitch(element, menu, heading);
    delete layout.updatemenus;
    if (isNarrow) bsoptNarrow(data, layout);
    drawn.push(element);
    element.dataset.height = layout.height;
    const nameTools = () => element.querySelector(".modebar")?.setAttribute("aria-label", `${heading}: tools`);
    const late = isFirst ? heldBack(data) : [];
    const shown = Plotly.newPlot(element, data, layout, config);
    const done = !late.length ? shown : shown.then(() => new Promise((after) => requestAnimationFrame(() => setTimeout(() => {
      const [x, y] = ["x", "y"].map((axis) => late.map((points) => points[axis]));
      Plotly.restyle(element, { x, y }, late.map((points) => points.index)).then(after);
    }))));
    // In milliseconds since the page was opened, when the browser paints it.
    requestAnimationFrame(() => { root.dataset.firstFigure ??= Math.round(performance.now()); });
    return done.then(() => { nameTools(); element.on("plotly_afterplot", nameTools); });
  };

  // This script stands right below the answer: its figure is drawn before the rest of the page is read.
  const first = document.querySelector("script[data-plot]");
  const opened = first && !first.closest("details:not([open])") ? draw(first, true) : Promise.resolve();

  const finish = () => {
    // One after the other, so that the page stays responsive; what is on the screen first, what is folded away when opened.
    const waiting = new Set(document.querySelectorAll("script[data-plot]"));
    if (drawn.length) waiting.delete(first);
    const isFolded = (script) => script.closest("details:not([open])") !== null;
    const isNear = (script) => {
      const { top, bottom } = document.getElementById(script.dataset.plot).getBoundingClientRect();
      return bottom > -200 && top < innerHeight + 200;
    };
    let isDrawing = false;
    const next = () => {
      const open = [...waiting].filter((script) => !isFolded(script));
      const script = open.find(isNear) ?? open[0];
      isDrawing = script !== undefined;
      if (!script) { root.dataset.figures = "drawn"; return; }
      waiting.delete(script);
      draw(script).then(() => setTimeout(next, 0));
    };
    opened.then(next);
    for (const folded of document.querySelectorAll("details")) {
      folded.addEventListener("toggle", () => { if (folded.open && !isDrawing) next(); });
    }

    // Paper is narrower than a screen, and a browser doesn't lay figures out again for it.
    addEventListener("beforeprint", () => {
      for (const script of waiting) {
        if (isFolded(script)) continue;
        waiting.delete(script);
        draw(script);
      }
      // Two figures of one plot fit on a page, and none is cut by its end.
      for (const element of drawn) {
        const height = Number(element.dataset.height);
        Plotly.relayout(element, { width: 680, height: height < 520 ? 0.78 * height : Math.min(height, 780) });
      }
    });
    addEventListener("afterprint", () => {
      for (const element of drawn) {
        Plotly.relayout(element, { width: null, height: Number(element.dataset.height), autosize: true });
      }
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

    // The rows as CSV: those that are shown, every column, numbers by their full value.
    const csvOf = (table) => {
      const quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      const names = [...table.tHead.rows[0].cells].map((head) => head.dataset.name);
      const lines = [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [
        row.dataset.outcome,
        ...[...row.cells].map((cell) => cell.dataset.v ?? (cell.textContent === "–" ? "" : cell.textContent)),
      ]);
      return [["outcome", ...names], ...lines].map((cells) => cells.map(quoted).join(",") + "\n").join("");
    };
    for (const bar of document.querySelectorAll(".filters")) {
      const table = document.getElementById(bar.dataset.for);
      const rows = [...table.tBodies[0].rows];
      const texts = rows.map((row) => row.textContent.toLowerCase());
      const search = bar.querySelector("[data-search]");
      const choices = [...bar.querySelectorAll("[data-by]")];
      const said = bar.querySelector("output");
      const all = said.textContent;
      const filter = () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        let count = 0;
        rows.forEach((row, index) => {
          const isChosen = choices.every((choice) => !choice.value || row.dataset[choice.dataset.by] === choice.value);
          row.hidden = !(isChosen && words.every((word) => texts[index].includes(word)));
          count += !row.hidden;
        });
        said.textContent = count === rows.length ? all : `${count} of ${all}`;
      };
      for (const input of [search, ...choices]) input.addEventListener("input", filter);
      bar.querySelector("[data-all]")?.addEventListener("change", (event) => {
        table.classList.toggle("all-columns", event.target.checked);
      });
      bar.querySelector("[data-csv]").addEventListener("click", () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([csvOf(table)], { type: "text/csv" }));
        link.download = table.dataset.file;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      });
    }

    for (const button of document.querySelectorAll("button[data-copy]")) {
      const label = button.getAttribute("aria-label");
      const tell = (text, spoken) => { button.textContent = text; button.setAttribute("aria-label", spoken); };
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
          tell("copied", "copied");
        } catch {
          getSelection().selectAllChildren(source);
          tell("selected: press Ctrl+C", "selected: press Ctrl+C");
        }
        setTimeout(() => tell("copy", label), 2000);
      });
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", finish);
  else finish();
})();

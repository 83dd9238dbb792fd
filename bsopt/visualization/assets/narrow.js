"use strict";
// What a figure changes of itself on a page of less than 560 pixels; Plotly keeps figures that are wider as they are.
const bsoptIsNarrow = (width) => width < 560;
const bsoptNarrow = (data, layout) => {
  layout.margin = { ...layout.margin, l: 48, r: 4 };
  layout.font = { ...layout.font, size: 11 };
  if (layout.legend?.title?.text) layout.legend.title.side = "top";
  for (const [key, value] of Object.entries(layout.meta?.narrow ?? {})) {
    layout[key] = value?.constructor === Object ? { ...layout[key], ...value } : value;
  }
  // Beside the plot a colour bar would take a third of the width.
  for (const bar of data.map((trace) => trace.marker?.colorbar).filter(Boolean)) {
    Object.assign(bar, { orientation: "h", x: 0.5, xanchor: "center", y: 1.02, yanchor: "bottom", len: 0.8, thickness: 8 });
    bar.title = { ...bar.title, side: "top" };
  }
  layout.height += 90;  // the legend takes more lines
  // A finger that scrolls the page must not zoom a figure.
  layout.dragmode = false;
};

// Figures on a page of their own: laid out for their width, and anew where a phone is turned.
for (const source of document.querySelectorAll("script[data-figure]")) {
  const element = document.getElementById(source.dataset.figure);
  let wasNarrow;
  const draw = () => {
    const isNarrow = bsoptIsNarrow(element.clientWidth);
    if (isNarrow === wasNarrow) return;
    wasNarrow = isNarrow;
    const { data, layout } = JSON.parse(source.textContent);
    if (isNarrow) {
      bsoptNarrow(data, layout);
      if (data.some((trace) => trace.marker?.colorbar)) {
        layout.margin.t += 70;
        layout.height += 40;
        // Plotly moves the title up by half of a colour bar above the plot.
        layout.title.pad = { ...layout.template?.layout?.title?.pad, t: 52 };
      }
    }
    Plotly.newPlot(element, data, layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: isNarrow ? false : "hover",
      // plotly 7 would offer to upload the chart.
      modeBarButtonsToRemove: ["sendChartToCloud"],
    });
  };
  draw();
  addEventListener("resize", draw);
}

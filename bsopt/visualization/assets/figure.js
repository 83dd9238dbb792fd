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
      // Between the title and the plot: where they come too near plotly pushes the title out of the figure.
      if (data.some((trace) => trace.marker?.colorbar)) {
        layout.margin.t += 70;
        layout.height += 40;
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

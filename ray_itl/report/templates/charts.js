"use strict";

// Charts: figures arrive without colours and are painted from the style sheet, again whenever the theme changes.
const charts = (() => {
  const coarse = matchMedia("(pointer: coarse)");
  const figures = new Map();
  for (const element of document.querySelectorAll("script.figure")) {
    figures.set(element.dataset.chart, JSON.parse(element.textContent));
  }

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  const lines = new Set(["uncertainty", "gain", "cumulative"]);

  function paintTrace(trace) {
    const role = trace.meta;
    // Variants and their bands share a colour; eight digits of hexadecimal make it see-through.
    if (role.startsWith("band-")) return { ...trace, fillcolor: `${color(role.replace("band", "variant"))}24` };
    if (role.startsWith("variant-")) {
      return { ...trace, line: { ...trace.line, color: color(role) }, marker: { ...trace.marker, color: color(role) } };
    }
    if (role === "guide") return { ...trace, line: { ...trace.line, color: color("soft") } };
    if (lines.has(role)) return { ...trace, line: { ...trace.line, color: color("accent") } };
    if (role === "floor") return { ...trace, line: { ...trace.line, color: color("floor") } };
    if (role === "bar") {
      return { ...trace, marker: { ...trace.marker, color: color("accent") }, insidetextfont: { color: color("card") } };
    }
    const marker = { ...trace.marker, line: { ...trace.marker.line, color: color("card") } };
    if (role === "pick") {
      marker.colorscale = [[0, color("pick-first")], [1, color("pick-last")]];
    } else {
      marker.color = color(role);
    }
    return { ...trace, marker };
  }

  function paintLayout(layout) {
    const axis = {
      gridcolor: color("grid"), linecolor: color("line"), zerolinecolor: color("line"), title: { font: { size: 12 } },
    };
    const merged = (own) => ({ ...axis, ...own, title: { ...axis.title, ...own?.title } });
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("soft") },
      hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("ink") }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: color("soft"), activecolor: color("accent") },
      // On a touch screen a finger on a chart scrolls the page.
      dragmode: coarse.matches ? false : "zoom",
      xaxis: merged(layout.xaxis),
      yaxis: merged(layout.yaxis),
    };
  }

  function draw(name) {
    const figure = figures.get(name);
    const options = {
      responsive: true,
      displaylogo: false,
      // In a narrow window the buttons would lie on the names of the traces.
      displayModeBar: coarse.matches || innerWidth < 600 ? false : "hover",
      modeBarButtons: [["toImage", "resetScale2d"]],
    };
    Plotly.react(name, figure.data.map(paintTrace), paintLayout(figure.layout), options);
  }

  const drawAll = () => figures.forEach((_, name) => draw(name));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();

  for (const button of document.querySelectorAll("button.logarithmic")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const { layout } = figures.get(button.dataset.for);
      for (const letter of button.dataset.axes) {
        const axis = `${letter}axis`;
        layout[axis] = { ...layout[axis], type: on ? "log" : "linear", nticks: on ? 5 : 0 };
      }
      draw(button.dataset.for);
    });
  }

  return {
    /** Shows or hides the traces of a group on every chart. */
    show(group, on) {
      for (const { data } of figures.values()) {
        for (const trace of data) if (trace.legendgroup === group) trace.visible = on;
      }
      drawAll();
    },
  };
})();

// Charts by Plotly, which is unpacked when the first of them comes near the screen.

let plotly = null;

function library() {
  plotly ??= (async () => {
    await whole;
    const packed = $("#library");
    const program = new TextDecoder().decode(await inflated(packed.textContent));
    packed.remove();
    const script = document.createElement("script");
    script.textContent = program; // the policy knows its hash
    document.head.append(script);
    if (!window.Plotly) throw new Error("The charts' program does not run in this browser.");
    return window.Plotly;
  })();
  return plotly;
}

const visible = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        const chart = page.charts.get(entry.target);
        if (chart && !chart.wanted) { chart.wanted = true; draw(entry.target); }
      }
    }
  },
  { rootMargin: "300px" },
);

/** Keep a chart: its figure is made anew from the data whenever it is drawn. */
function keep(element, figureOf) {
  const known = page.charts.get(element);
  page.charts.set(element, { figureOf, wanted: known?.wanted ?? false, drawn: known?.drawn ?? false });
  if (known?.wanted) draw(element);
  else visible.observe(element);
}

async function draw(element) {
  const chart = page.charts.get(element);
  if (!chart) return;
  try {
    const Plotly = await library();
    const found = chart.figureOf();
    const layout = laidOut(found.layout, element);
    if (found.key) keyed(element, found.key);
    if (found.layout?.height) element.style.height = `${found.layout.height}px`;
    await Plotly.react(element, found.traces, layout, {
      responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false, doubleClick: "reset", showTips: false,
    });
    chart.drawn = true;
    element.dataset.drawn = "yes";
  } catch (failure) {
    element.classList.add("failed");
    element.textContent = failure.message;
  }
}

/** What each line is, above the chart. */
function keyed(element, names) {
  const figure = element.closest("figure");
  const before = $(".key", figure);
  const key = make("ul", { class: "key" }, names.map(({ name, colour, dash }) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [at, value] of Object.entries({ x1: 0, x2: 18, y1: 5, y2: 5, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash ? "4 3" : "none" })) line.setAttribute(at, value);
    mark.append(line);
    return make("li", {}, mark, short(name, 32));
  }));
  if (before) before.replaceWith(key); else element.before(key);
}

/** Marks of a log axis: whole powers of ten, or 2 and 5 between them where there are few. */
function powers(values) {
  const known = values.filter((value) => value > 0);
  if (!known.length) return {};
  const span = Math.log10(Math.max(...known) / Math.min(...known));
  return { dtick: span > 6 ? Math.ceil(span / 5) : span > 1.6 ? 1 : "D2" };
}

function drawAll() {
  for (const [element, chart] of page.charts) {
    if (!element.isConnected) page.charts.delete(element);
    else if (chart.wanted) draw(element);
  }
}

/** Draw all charts, in pauses, so that they are there when the page is printed or scrolled. */
async function drawRest() {
  for (const [element, chart] of [...page.charts]) {
    if (chart.wanted || !element.isConnected) continue;
    await new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done, { timeout: 2000 }));
    if (!chart.wanted) { chart.wanted = true; await draw(element); }
  }
}

/** Text that Plotly shows as it is: it reads a little HTML. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(/[\n\r]+/g, " ");
}

function short(text, most = 28) {
  const letters = [...String(text)];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : letters.join("");
}

function axis(more = {}) {
  return {
    gridcolor: ink("line"), zerolinecolor: ink("line"), linecolor: ink("line"), tickcolor: ink("line"),
    tickfont: { size: 11, color: ink("soft") }, automargin: true, fixedrange: false, ...more,
  };
}

function laidOut(layout, element) {
  const narrow = element.clientWidth < 420;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    margin: { l: 48, r: 10, t: 6, b: 34 }, hovermode: "x unified", dragmode: narrow ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("ink") },
    hoverlabel: { bgcolor: ink("card"), bordercolor: ink("line"), font: { color: ink("ink"), size: 12 } },
    showlegend: false,
    ...layout,
  };
}

function colourOf(index) {
  return ink(`s${index % 7}`);
}

/** A chart of series by step. */
function lines(chart) {
  const scale = { x: page.axes.x, y: page.axes.y ?? "linear" };
  const stacked = Boolean(chart.stacked);
  const traces = [];
  for (const series of chart.series) {
    const colour = colourOf(series.colour);
    if (series.low && !stacked) {
      const band = { x: series.x, type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
      traces.push({ ...band, y: series.low }, { ...band, y: series.high, fill: "tonexty", fillcolor: faint(colour) });
    }
    traces.push({
      type: "scatter", x: series.x, y: series.y, name: plain(series.name),
      mode: series.x.length < 40 && !stacked ? "lines+markers" : "lines",
      line: { color: colour, width: stacked ? 0.5 : 1.75, dash: series.dash ? "4px,3px" : "solid" },
      marker: { size: 4 }, connectgaps: false,
      ...(stacked ? { stackgroup: "one", fillcolor: faint(colour, 0.65) } : {}),
      hovertemplate: stacked ? "%{y:.1%}" : "%{y:.4~g}",
    });
  }
  const y = stacked
    ? axis({ tickformat: ".0%", range: [0, 1.0001] })
    : axis({ type: scale.y, exponentformat: "power", rangemode: scale.y === "linear" ? "tozero" : "normal", nticks: 6 });
  if (!stacked && scale.y === "log") Object.assign(y, powers(chart.series.flatMap((series) => Array.from(series.y))));
  const floors = chart.series.some((series) => series.floor);
  const names = chart.series.filter((series) => !series.floor).map((series) => ({ name: series.name, colour: colourOf(series.colour), dash: series.dash }));
  if (floors) names.push({ name: "noise floor", colour: ink("soft"), dash: true });
  return {
    traces,
    key: chart.series.length > 1 ? names : null,
    layout: {
      xaxis: axis({ type: scale.x, title: { text: "step", font: { size: 11, color: ink("soft") }, standoff: 4 }, showgrid: false }),
      yaxis: y,
      shapes: page.data.marks.map((step) => ({
        type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, line: { color: ink("soft"), width: 1, dash: "dot" },
      })),
      annotations: page.data.marks.map((step) => ({
        x: scale.x === "log" ? Math.log10(Math.max(1, step)) : step, yref: "paper", y: 1, yanchor: "top", xanchor: "left",
        text: "resumed", showarrow: false, font: { size: 10, color: ink("soft") },
      })),
    },
  };
}

function faint(colour, share = 0.18) {
  const hex = colour.replace("#", "");
  const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${share})`;
}

function setUpTraining() {
  const groups = page.data.groups ?? [];
  const byId = new Map(groups.flatMap((group) => group.charts).map((chart) => [chart.id, chart]));
  for (const element of $$("[data-chart]")) {
    const id = element.dataset.chart;
    if (byId.has(id)) keep(element, () => lines(currentChart(id)));
  }
  for (const button of $$("[data-axis]")) {
    button.onclick = () => {
      page.axes[button.dataset.axis] = button.dataset.scale;
      showAxes();
      drawAll();
    };
  }
  showAxes();
}

function currentChart(id) {
  return page.data.groups.flatMap((group) => group.charts).find((chart) => chart.id === id) ?? { series: [] };
}

function showAxes() {
  pressed($$("[data-axis]"), (button) => (page.axes[button.dataset.axis] ?? "linear") === button.dataset.scale);
}

tables.curves = () => {
  const rows = [["chart", "series", "step", "value", "least", "greatest"]];
  for (const chart of page.data.groups.flatMap((group) => group.charts)) {
    for (const one of chart.series) {
      one.x.forEach((x, i) => rows.push([chart.title, one.name, x, one.y[i], one.low?.[i], one.high?.[i]]));
    }
  }
  return rows;
};

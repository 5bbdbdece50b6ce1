// The spectrum, the covariance and the histograms; which columns matter; how the sides of pairs go together.

// Blue to orange through the page's own ground: told apart whatever colours one sees.
function diverging() {
  const middle = isDark() ? "#1d2229" : "#f7f7f5";
  return isDark()
    ? [[0, "#7cc4f5"], [0.25, "#2f6f9f"], [0.5, middle], [0.75, "#a35a1c"], [1, "#f9b072"]]
    : [[0, "#054f8a"], [0.25, "#6aaed6"], [0.5, middle], [0.75, "#e39a5b"], [1, "#8f3d02"]];
}

function sequential() {
  return isDark()
    ? [[0, "#171b21"], [0.35, "#1f4f73"], [0.7, "#4f9fd0"], [1, "#d6ecfa"]]
    : [[0, "#ffffff"], [0.35, "#b9d8ec"], [0.7, "#3f88bd"], [1, "#08355f"]];
}

const MOMENTS = { start: { dash: "4px,3px", colour: "soft" }, end: { dash: "solid", colour: "s0" } };

function momentsOf(what) {
  const part = $("#part").value;
  return Object.entries(page.data.spectrum.moments)
    .map(([name, moment]) => ({ name, step: moment.step, found: moment.parts[part]?.[what], all: moment.parts[part] }))
    .filter((one) => one.found);
}

function descending(what, log) {
  const traces = momentsOf(what).map(({ name, found }) => {
    const values = Array.from(unpacked(found)).sort((a, b) => b - a);
    const top = values[0] || 1;
    return {
      type: "scatter", mode: values.length < 30 ? "lines+markers" : "lines", name,
      x: values.map((_, i) => i + 1), y: values.map((value) => (log && value < top * 1e-9 ? null : value)),
      line: { color: ink(MOMENTS[name].colour), width: 2, dash: MOMENTS[name].dash }, marker: { size: 4 }, hovertemplate: "%{y:.4~g}",
    };
  });
  const scale = log && page.axes.y !== "linear" ? "log" : "linear";
  const names = momentsOf(what).map(({ name }) => ({ name, colour: ink(MOMENTS[name].colour), dash: name === "start" }));
  return {
    traces,
    key: names,
    layout: {
      xaxis: axis({ title: { text: "dimension", font: { size: 11, color: ink("soft") }, standoff: 4 }, showgrid: false }),
      yaxis: axis({ type: scale, exponentformat: "power", rangemode: scale === "log" ? "normal" : "tozero", nticks: 6, ...(scale === "log" ? powers(traces.flatMap((one) => one.y)) : {}) }),
    },
  };
}

function largest(matrix) {
  return Math.max(1e-12, ...matrix.flat().map((value) => (Number.isFinite(value) ? Math.abs(value) : 0)));
}

function heat(matrix, { symmetric, limit, x, y, hover, percent }) {
  const most = limit ?? largest(matrix);
  return {
    type: "heatmap", z: matrix, x, y, zmin: symmetric ? -most : 0, zmax: most, colorscale: symmetric ? diverging() : sequential(),
    hovertemplate: `${hover}<extra></extra>`, hoverongaps: false,
    colorbar: { thickness: 9, outlinewidth: 0, len: 0.9, tickfont: { size: 10, color: ink("soft") }, nticks: 5, exponentformat: "power", ...(percent ? { tickformat: "~%" } : {}) },
  };
}

function covarianceAt(moment) {
  const every = momentsOf("covariance").map((one) => ({ ...one, rows: rowsOf(one.found) }));
  const mine = every.find((one) => one.name === moment);
  if (!mine) return { traces: [], layout: {} };
  return {
    traces: [heat(mine.rows, { symmetric: true, hover: "dimensions %{x} and %{y}: %{z:.3~g}" })],
    layout: { hovermode: "closest", margin: { l: 34, r: 6, t: 4, b: 26 },
      xaxis: axis({ showgrid: false, constrain: "domain" }), yaxis: axis({ autorange: "reversed", showgrid: false, scaleanchor: "x", constrain: "domain" }) },
  };
}

function histogramsAt(moment) {
  const every = momentsOf("histograms");
  const mine = every.find((one) => one.name === moment);
  if (!mine) return { traces: [], layout: {} };
  const edges = Array.from(unpacked(mine.all.edges));
  const ends = every.map((one) => Array.from(unpacked(one.all.edges)));
  const range = [Math.min(...ends.map((one) => one[0])), Math.max(...ends.map((one) => one.at(-1)))];
  const rows = rowsOf(mine.found).map((row) => { const sum = row.reduce((a, b) => a + b, 0) || 1; return row.map((v) => v / sum); });
  return {
    traces: [{ ...heat(rows, { symmetric: false, x: edges, hover: "dimension %{y}, about %{x:.3~g}: %{z:.1%}" }), showscale: false }],
    layout: { hovermode: "closest", margin: { l: 34, r: 6, t: 4, b: 34 },
      xaxis: axis({ showgrid: false, range, zeroline: false, title: { text: "value", font: { size: 11, color: ink("soft") }, standoff: 4 } }),
      yaxis: axis({ autorange: "reversed", showgrid: false, zeroline: false }) },
  };
}

function setUpSpectrum() {
  const spectrum = page.data.spectrum;
  if (!spectrum || !$("#part")) return;
  const before = $("#part").value;
  $("#part").replaceChildren(...spectrum.parts.map((part) => make("option", { value: part }, part)));
  if (spectrum.parts.includes(before)) $("#part").value = before;
  $("#part").onchange = drawSpectrum;
  const moments = Object.entries(spectrum.moments).map(([name, moment]) => `${name}: step ${figure(moment.step)}`);
  $("#moments").textContent = `Of a batch's rows, at the ${moments.join("; ")}.`;
  for (const one of $$("[data-moment]")) one.hidden = !spectrum.moments[one.dataset.moment];
  drawSpectrum();
}

function drawSpectrum() {
  const figures = {
    eigenvalues: () => descending("eigenvalues", true),
    deviation: () => descending("deviation", false),
    "covariance start": () => covarianceAt("start"),
    "covariance end": () => covarianceAt("end"),
    "histograms start": () => histogramsAt("start"),
    "histograms end": () => histogramsAt("end"),
  };
  for (const [name, figureOf] of Object.entries(figures)) {
    const element = $(`[data-figure="${name}"]`);
    if (element && !element.closest("[hidden]")) keep(element, figureOf);
  }
}

tables.spectrum = () => {
  const rows = [["moment", "step", "part", "what", "dimension", "other", "value"]];
  for (const [name, moment] of Object.entries(page.data.spectrum.moments)) {
    for (const [part, found] of Object.entries(moment.parts)) {
      for (const what of ["eigenvalues", "deviation"]) {
        if (found[what]) unpacked(found[what]).forEach((value, i) => rows.push([name, moment.step, part, what, i, "", value]));
      }
      for (const what of ["covariance", "histograms"]) {
        if (found[what]) rowsOf(found[what]).forEach((row, i) => row.forEach((v, j) => rows.push([name, moment.step, part, what, i, j, v])));
      }
      if (found.edges) unpacked(found.edges).forEach((value, i) => rows.push([name, moment.step, part, "edges", i, "", value]));
    }
  }
  return rows;
};

// Which columns matter.

const FEW_COLUMNS = 15;
let everyColumn = false;

function componentsOf(influence) {
  return Object.keys(influence.values).filter((name) => name.startsWith("component "));
}

function setUpInfluence() {
  const influence = page.data.influence;
  if (!influence || !$("#component")) return;
  const choices = [["", "the map as a whole"], ...componentsOf(influence).map((name) => [name, name])];
  $("#component").replaceChildren(...choices.map(([value, text]) => make("option", { value }, text)));
  $("#component").onchange = drawInfluence;
  const more = $("#allcolumns");
  more.hidden = influence.columns.length <= FEW_COLUMNS;
  more.onclick = () => { everyColumn = !everyColumn; drawInfluence(); };
  drawInfluence();
}

function drawInfluence() {
  const influence = page.data.influence;
  const few = everyColumn ? influence.columns.length : FEW_COLUMNS;
  $("#allcolumns").textContent = everyColumn ? `Show the first ${FEW_COLUMNS}` : `Show all ${influence.columns.length}`;
  keep($('[data-figure="influence"]'), () => bars(few));
  const components = componentsOf(influence);
  const heatmap = $('[data-figure="components"]');
  heatmap.closest("figure").hidden = components.length < 2;
  if (components.length > 1) keep(heatmap, () => byComponent(few, components));
}

function bars(few) {
  const influence = page.data.influence;
  const component = $("#component").value;
  const names = component ? [component] : Object.keys(influence.values).filter((name) => !name.startsWith("component "));
  const by = influence.values[names[0]];
  const order = [...by.keys()].sort((a, b) => (by[b] ?? 0) - (by[a] ?? 0)).slice(0, few);
  const ticks = order.map((place) => plain(short(influence.columns[place])));
  const places = order.map((_, i) => i);
  const traces = names.map((name, index) => ({
    type: "bar", orientation: "h", name: name[0].toUpperCase() + name.slice(1), y: places, x: order.map((place) => influence.values[name][place]),
    marker: { color: colourOf(index) }, customdata: order.map((place) => plain(influence.columns[place])),
    hovertemplate: "%{customdata}: %{x:.1%}<extra></extra>",
  }));
  return {
    traces,
    key: names.length > 1 ? traces.map((one) => ({ name: one.name, colour: one.marker.color })) : [],
    layout: {
      barmode: "group", bargap: 0.3, height: 60 + order.length * (names.length > 1 ? 28 : 22), hovermode: "closest",
      xaxis: axis({ tickformat: "~%", rangemode: "tozero", nticks: 8 }),
      yaxis: axis({ autorange: "reversed", tickvals: places, ticktext: ticks, showgrid: false }), margin: { l: 60, r: 12, t: 8, b: 30 },
    },
  };
}

function byComponent(few, components) {
  const influence = page.data.influence;
  const order = [...influence.columns.keys()].slice(0, few);
  const rows = order.map((place) => components.map((name) => influence.values[name][place]));
  return {
    traces: [heat(rows, { symmetric: false, percent: true, x: components.map((_, k) => k), y: order.map((_, i) => i), hover: "component %{x}: %{z:.1%}" })],
    layout: {
      hovermode: "closest", height: 80 + order.length * 18, margin: { l: 60, r: 6, t: 6, b: 36 },
      xaxis: axis({ showgrid: false, dtick: components.length > 24 ? undefined : 1, title: { text: "component", font: { size: 11, color: ink("soft") }, standoff: 4 } }),
      yaxis: axis({ autorange: "reversed", tickvals: order.map((_, i) => i), ticktext: order.map((place) => plain(short(influence.columns[place]))), showgrid: false }),
    },
  };
}

tables.influence = () => {
  const influence = page.data.influence;
  const names = Object.keys(influence.values);
  return [["column", ...names], ...influence.columns.map((column, i) => [column, ...names.map((name) => influence.values[name][i])])];
};

function setUpCross() {
  const element = $('[data-figure="cross"]');
  if (!element) return;
  $("#crossfigure").hidden = !page.data.cross;
  if (!page.data.cross) return;
  keep(element, () => ({
    traces: [heat(rowsOf(page.data.cross), { symmetric: true, limit: 1, hover: "a %{y}, b %{x}: %{z:.2f}" })],
    layout: { hovermode: "closest", height: 420, margin: { l: 34, r: 6, t: 6, b: 30 },
      xaxis: axis({ showgrid: false, constrain: "domain" }), yaxis: axis({ autorange: "reversed", showgrid: false, scaleanchor: "x", constrain: "domain" }) },
  }));
}

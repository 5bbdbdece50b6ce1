// What every other file stands on: the data, small helpers, colours, downloads.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** An element with attributes and children; text is only ever text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

const page = {
  data: JSON.parse($("#data").textContent),
  pack: null,      // an ArrayBuffer
  media: null,     // {bytes, byItem}
  charts: new Map(),
  axes: { x: "linear", y: null },
  map: null,
  cell,
};
window.vicreg = page; // for people with a console, and for tests

/** When the whole file is there: pictures and the charts' program come after what is first to be seen. */
const whole = new Promise((done) => {
  if (document.readyState !== "loading") done();
  else addEventListener("DOMContentLoaded", () => done(), { once: true });
});

const ARRAYS = { uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array, int32: Int32Array, float32: Float32Array };

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64.trim());
  const text = atob(base64.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(base64) {
  if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack the charts.");
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** A packed array as it was stored. */
function rawArray(found) {
  const kind = ARRAYS[found.type];
  return new kind(page.pack, found.at, found.bytes / kind.BYTES_PER_ELEMENT);
}

/** A packed array as numbers, NaN where there are none. */
function unpacked(found) {
  const raw = rawArray(found);
  if (found.low === undefined && found.gap === undefined) return raw;
  const values = new Float32Array(raw.length);
  const exact = found.gap !== undefined && found.type === "int32" ? new Float64Array(raw.length) : values;
  if (found.gap !== undefined) {
    for (let i = 0; i < raw.length; i++) exact[i] = raw[i] === found.gap ? NaN : raw[i];
    return exact;
  }
  const span = (found.high - found.low) / 65534;
  for (let i = 0; i < raw.length; i++) values[i] = raw[i] === -32768 ? NaN : found.low + (raw[i] + 32767) * span;
  return values;
}

function textsOf(found) {
  return JSON.parse(new TextDecoder().decode(new Uint8Array(page.pack, found.at, found.bytes)));
}

/** A matrix as rows. */
function rowsOf(found) {
  const values = unpacked(found);
  const [rows, columns] = found.shape;
  return Array.from({ length: rows }, (_, i) => Array.from(values.subarray(i * columns, (i + 1) * columns)));
}

function figure(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function isDark() {
  return getComputedStyle(document.documentElement).colorScheme === "dark";
}

/** A cell of a CSV file; one that a spreadsheet would execute gets an apostrophe. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(name, rows) {
  const text = rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = make("a", { href: url, download: `${name}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** What each CSV button gives, by its name; filled by the other files. */
const tables = {
  scores(button) {
    const rows = page.data.scores[button.dataset.key] ?? Object.values(page.data.scores).flat();
    const mine = page.data.scores[button.dataset.key] ? rows : comparedRows(button.dataset.key);
    const names = [...new Set(mine.flatMap((row) => Object.keys(row)))];
    return [names, ...mine.map((row) => names.map((name) => row[name]))];
  },
};

function comparedRows(key) {
  return page.data.runs.flatMap((run) => (page.data.scores[`${run} ${key}`] ?? []).map((row) => ({ run, ...row })));
}

function pressed(group, chosen) {
  for (const button of group) button.setAttribute("aria-pressed", String(chosen(button)));
}

// Light, dark, or as the system says.
const THEMES = ["system", "light", "dark"];
let theme = 0;
function setTheme(next) {
  theme = next;
  document.documentElement.toggleAttribute("data-light", THEMES[theme] === "light");
  document.documentElement.toggleAttribute("data-dark", THEMES[theme] === "dark");
  $("#theme").textContent = `Colours: ${THEMES[theme]}`;
  recoloured();
}

function recoloured() {
  drawAll();
  page.map?.recolour();
}

// The map: the representation beside the raw data, on canvases, since 50,000 points are too many for elements.

const NOBODY = 65535;
const MOST_LEVELS = 40;
const REACH = 14; // pixels from a dot at which it is meant
// Ten colours that stay apart with any kind of colour vision (a test measures it), and their likes on a dark ground.
const LEVELS_LIGHT = ["#1d6fa5", "#c53500", "#28c2b5", "#543bad", "#c6aa49", "#dc587d", "#65492d", "#93b1e4", "#852d59", "#b7764e"];
const LEVELS_DARK = ["#4873b7", "#de1c4e", "#41ae87", "#7f5fe7", "#aead02", "#fac0cd", "#976d01", "#8dabd2", "#856b89", "#ea9c60"];
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];

function rgb(hex) {
  const at = hex.replace("#", "");
  return [0, 2, 4].map((i) => parseInt(at.slice(i, i + 2), 16));
}

/** 64 colours from low to high; the end that would vanish on this ground is cut off. */
function ramp() {
  const stops = (isDark() ? VIRIDIS.slice(1) : VIRIDIS.slice(0, 9)).map(rgb);
  return Array.from({ length: 64 }, (_, i) => {
    const at = (i / 63) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((value, k) => Math.round(value + (stops[low + 1][k] - value) * (at - low)));
  });
}

/** The same for a picture of some width: where its pixels are in the picture's bytes, and how much of each it covers. */
function pressedInto(width, pixels) {
  return { at: Int32Array.from(pixels, ([x, y]) => 4 * (y * width + x)), cover: Float32Array.from(pixels, (one) => one[2]) };
}

/** The pixels of a dot, relative to its middle, with how much of each it covers. */
function stamp(radius, shape) {
  const reach = Math.ceil(radius + 1);
  const found = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const [u, v] = [Math.abs(x), Math.abs(y)];
      const away = [Math.hypot(x, y), Math.max(u, v) * 1.12, Math.max(y * 1.1, u * 1.2 - y * 0.75), (u + v) * 0.8][shape];
      const cover = Math.min(1, Math.max(0, radius + 0.5 - away));
      if (cover > 0) found.push([x, y, cover]);
    }
  }
  return found;
}

/** Where dots are, in squares, so that the one near a place is found at once. */
class Grid {
  constructor(x, y) {
    this.x = x; this.y = y;
    this.side = Math.max(1, Math.min(160, Math.ceil(Math.sqrt(x.length / 2))));
    let known = new Int32Array(x.length);
    let count = 0;
    Object.assign(this, { left: Infinity, right: -Infinity, low: Infinity, high: -Infinity });
    for (let i = 0; i < x.length; i++) {
      if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) continue;
      known[count++] = i;
      if (x[i] < this.left) this.left = x[i];
      if (x[i] > this.right) this.right = x[i];
      if (y[i] < this.low) this.low = y[i];
      if (y[i] > this.high) this.high = y[i];
    }
    known = known.subarray(0, count);
    if (!count) Object.assign(this, { left: 0, right: 1, low: 0, high: 1 });
    this.begin = new Int32Array(this.side * this.side + 1);
    for (const i of known) this.begin[this.square(x[i], y[i]) + 1]++;
    for (let i = 1; i < this.begin.length; i++) this.begin[i] += this.begin[i - 1];
    this.order = new Int32Array(known.length);
    const next = this.begin.slice();
    for (const i of known) this.order[next[this.square(x[i], y[i])]++] = i;
  }

  place(value, low, high) {
    return Math.min(this.side - 1, Math.max(0, Math.floor(((value - low) / (high - low || 1)) * this.side)));
  }

  square(x, y) {
    return this.place(y, this.low, this.high) * this.side + this.place(x, this.left, this.right);
  }

  /** The dot nearest to a place, no further away than so much; -1 where there is none. */
  near(x, y, reach, shown) {
    let best = -1;
    let closest = reach * reach;
    const [u0, u1] = [this.place(x - reach, this.left, this.right), this.place(x + reach, this.left, this.right)];
    const [v0, v1] = [this.place(y - reach, this.low, this.high), this.place(y + reach, this.low, this.high)];
    for (let v = v0; v <= v1; v++) {
      for (let k = this.begin[v * this.side + u0]; k < this.begin[v * this.side + u1 + 1]; k++) {
        const i = this.order[k];
        const away = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (away <= closest && shown[i]) { closest = away; best = i; }
      }
    }
    return best;
  }
}

class Panel {
  constructor(map, found, index) {
    this.map = map;
    this.index = index;
    this.x = unpacked(found.x);
    this.y = unpacked(found.y);
    this.grid = new Grid(this.x, this.y);
    this.drawn = 0;
    this.under = make("canvas", { "aria-hidden": "true" });
    this.over = make("canvas", { class: "top", tabindex: "0", role: "application", "aria-label": `${map.titleOf(found.name)}: map of ${map.count} items. Arrows go from dot to dot.` });
    const button = (text, label, act) => make("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    const zoom = make("div", { class: "zoom" }, button("+", "Zoom in", () => this.zoom(1.5)), button("−", "Zoom out", () => this.zoom(1 / 1.5)), button("⤢", "Show all", () => this.fit()));
    this.stage = make("div", { class: "stage" }, this.under, this.over, zoom);
    const share = found.explained;
    const two = map.data.planes[map.plane].title === "two dimensions" && index === 0;
    const named = (k) => `${two ? "dimension" : "component"} ${k + 1}: ${(100 * share[k]).toFixed(0)} % of the variance`;
    const axes = make("div", { class: "axes" }, share ? [make("span", {}, `→ ${named(0)}`), make("span", {}, `↑ ${named(1)}`)] : []);
    this.element = make("figure", { class: "panel" }, make("figcaption", {}, make("strong", {}, map.titleOf(found.name))), this.stage, axes);
    this.listen();
    new ResizeObserver(() => { if (this.resize()) this.paint(); }).observe(this.stage);
  }

  /** Fit the canvases to their place; whether that changed. */
  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const dots = Math.min(2, window.devicePixelRatio || 1);
    if (!width || (width === this.width && height === this.height && dots === this.dots)) return false;
    const first = !this.width;
    const ratio = first ? 1 : width / this.width;
    Object.assign(this, { width, height, dots });
    for (const canvas of [this.under, this.over]) { canvas.width = Math.round(width * dots); canvas.height = Math.round(height * dots); }
    if (first) this.fit(false); else this.view.scale *= ratio;
    return true;
  }

  fit(paint = true) {
    const grids = this.map.data.pair ? this.map.panels.map((panel) => panel.grid).concat(this.grid) : [this.grid];
    const left = Math.min(...grids.map((g) => g.left)), right = Math.max(...grids.map((g) => g.right));
    const low = Math.min(...grids.map((g) => g.low)), high = Math.max(...grids.map((g) => g.high));
    const span = Math.max(right - left, high - low) || 1;
    this.look({ scale: (0.92 * this.width) / span, x: (left + right) / 2, y: (low + high) / 2 }, paint);
  }

  look(view, paint = true) {
    this.view = view;
    if (!paint) return;
    this.paint();
    if (this.map.data.pair) for (const other of this.map.panels) if (other !== this && other.width) { other.view = { ...view }; other.paint(); }
  }

  zoom(times, u = this.width / 2, v = this.height / 2) {
    const [x, y] = this.from(u, v);
    const scale = this.view.scale * times;
    this.look({ scale, x: x - (u - this.width / 2) / scale, y: y + (v - this.height / 2) / scale });
  }

  to(i) {
    return [(this.x[i] - this.view.x) * this.view.scale + this.width / 2, this.height / 2 - (this.y[i] - this.view.y) * this.view.scale];
  }

  from(u, v) {
    return [(u - this.width / 2) / this.view.scale + this.view.x, (this.height / 2 - v) / this.view.scale + this.view.y];
  }

  /** All dots, in an order drawn at random once, so that no category covers the others. */
  paint() {
    if (!this.width) return;
    const { map, dots } = this;
    const [width, height] = [this.under.width, this.under.height];
    const image = new ImageData(width, height);
    const pixels = image.data;
    const ground = rgb(ink("card"));
    new Uint32Array(pixels.buffer).fill((255 << 24) | (ground[2] << 16) | (ground[1] << 8) | ground[0]);
    const closer = Math.sqrt(Math.max(1, this.view.scale / ((0.92 * this.width) / (Math.max(this.grid.right - this.grid.left, this.grid.high - this.grid.low) || 1))));
    const radius = Math.min(6, map.radius * Math.min(2, closer)) * dots;
    const stamps = [0, 1, 2, 3].map((shape) => pressedInto(width, stamp(radius, shape)));
    const edge = Math.ceil(radius + 1);
    const opacity = map.opacity;
    const scale = this.view.scale * dots;
    const [middleX, middleY] = [width / 2 - this.view.x * scale, height / 2 + this.view.y * scale];
    let drawn = 0;
    const { order, shown, look, colours, shapes } = map;
    const { x, y } = this;
    for (let k = 0; k < order.length; k++) {
      const i = order[k];
      if (!shown[i]) continue;
      const u = Math.round(middleX + x[i] * scale);
      const v = Math.round(middleY - y[i] * scale);
      if (!(u >= edge && v >= edge && u < width - edge && v < height - edge)) continue; // the panel's rim stays free
      drawn++;
      const colour = colours[look[i]];
      const { at, cover } = stamps[shapes[look[i]]];
      const begin = 4 * (v * width + u);
      for (let j = 0; j < at.length; j++) {
        const here = begin + at[j];
        const share = cover[j] * opacity;
        pixels[here] += (colour[0] - pixels[here]) * share;
        pixels[here + 1] += (colour[1] - pixels[here + 1]) * share;
        pixels[here + 2] += (colour[2] - pixels[here + 2]) * share;
      }
    }
    this.drawn = drawn;
    this.under.getContext("2d").putImageData(image, 0, 0);
    this.mark();
  }

  /** Rings around what is pointed at, what is chosen and its neighbours. */
  mark() {
    if (!this.width) return;
    const context = this.over.getContext("2d");
    context.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const ring = (i, radius, colour, line) => {
      const [u, v] = this.to(i);
      context.beginPath();
      context.arc(u, v, radius, 0, 7);
      context.lineWidth = line + 2; context.strokeStyle = ink("card"); context.stroke();
      context.lineWidth = line; context.strokeStyle = colour; context.stroke();
    };
    const { selected, hovered } = this.map;
    if (selected >= 0) {
      const [sx, sy] = this.to(selected);
      this.map.nearest(selected)[Math.min(this.index, 1)].forEach((i) => {
        const [u, v] = this.to(i);
        context.beginPath(); context.moveTo(sx, sy); context.lineTo(u, v);
        context.lineWidth = 1; context.strokeStyle = ink("soft"); context.globalAlpha = 0.5; context.stroke(); context.globalAlpha = 1;
      });
      this.map.nearest(selected)[Math.min(this.index, 1)].forEach((i) => ring(i, 5, ink("ink"), 1.5));
      ring(selected, 8, ink("accent"), 3);
    }
    if (hovered >= 0 && hovered !== selected) ring(hovered, 7, ink("ink"), 2);
  }

  at(event) {
    const box = this.over.getBoundingClientRect();
    const [x, y] = this.from(event.clientX - box.left, event.clientY - box.top);
    return this.grid.near(x, y, REACH / this.view.scale, this.map.shown);
  }

  listen() {
    const { over, map } = this;
    let held = null;
    over.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, view: this.view, moved: false }; });
    over.addEventListener("pointermove", (event) => {
      if (held && event.pointerType === "mouse" && event.buttons) {
        const [du, dv] = [event.clientX - held.x, event.clientY - held.y];
        if (held.moved || Math.hypot(du, dv) > 4) {
          held.moved = true;
          over.setPointerCapture(event.pointerId);
          map.hover(-1);
          this.look({ ...held.view, x: held.view.x - du / held.view.scale, y: held.view.y + dv / held.view.scale });
          return;
        }
      }
      if (event.pointerType === "mouse") map.hover(this.at(event), event);
    });
    over.addEventListener("pointerup", (event) => {
      const clicked = held && !held.moved;
      held = null;
      if (clicked) map.select(this.at(event));
    });
    over.addEventListener("pointercancel", () => { held = null; });
    over.addEventListener("pointerleave", () => map.hover(-1));
    over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== over) return; // the page scrolls
      event.preventDefault();
      const box = over.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    over.addEventListener("keydown", (event) => {
      const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (ways[event.key]) map.select(this.beside(ways[event.key]));
      else if (event.key === "+" || event.key === "=") this.zoom(1.5);
      else if (event.key === "-" || event.key === "−") this.zoom(1 / 1.5);
      else if (event.key === "0") this.fit();
      else if (event.key === "Escape") map.select(-1);
      else if (event.key === "Enter" && map.selected >= 0) map.play(map.selected);
      else return;
      event.preventDefault();
    });
  }

  /** The next dot in a direction. */
  beside([dx, dy]) {
    const { selected, shown, count } = this.map;
    const [x, y] = selected >= 0 ? [this.x[selected], this.y[selected]] : [this.view.x, this.view.y];
    let best = selected;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === selected || !shown[i]) continue;
      const [u, v] = [this.x[i] - x, this.y[i] - y];
      const along = u * dx + v * dy;
      const across = Math.abs(u * dy) + Math.abs(v * dx);
      if (along > 0 && across <= along && along + 2 * across < least) { least = along + 2 * across; best = i; }
    }
    return best;
  }
}

class Atlas {
  constructor(data) {
    this.data = data;
    this.count = data.count;
    this.items = textsOf(data.items);
    this.rows = unpacked(data.rows);
    this.held = data.held_out ? rawArray(data.held_out) : null;
    this.neighbors = data.neighbors ? rawArray(data.neighbors) : null;
    this.plane = 0;
    this.colour = 0;
    this.selected = -1;
    this.hovered = -1;
    this.off = new Set();
    this.shown = new Uint8Array(this.count).fill(1);
    this.panels = [];
    this.urls = new Map();
    this.columns = data.colours.map(opened);
    this.radius = this.count > 20000 ? 1.3 : this.count > 5000 ? 1.9 : this.count > 1200 ? 2.6 : this.count > 300 ? 3.4 : 4.2;
    this.opacity = this.count > 20000 ? 0.65 : this.count > 3000 ? 0.8 : 0.9;
    this.order = shuffled(this.count);
    this.media = new Map();
    page.data.media.position.forEach((position, k) => { if (!this.media.has(position)) this.media.set(position, []); this.media.get(position).push(k); });
    this.tools();
    this.replane();
  }

  titleOf(name) {
    if (this.data.pair) return { pca: "Side a", umap: "Side a", other: "Side b", other_umap: "Side b" }[name] ?? name;
    return name.startsWith("raw") ? `Raw: ${this.data.what_raw.replace(/^raw(?: data)?:? /, "")}` : "Representation";
  }

  tools() {
    const fill = (select, names) => select.replaceChildren(...names.map((name, i) => make("option", { value: i }, short(name, 40))));
    const colour = $("#colour");
    fill(colour, [...this.columns.map((one) => one.name), "nothing"]);
    colour.onchange = () => { this.colour = Number(colour.value); this.off.clear(); this.recolour(); };
    const plane = $("#plane");
    fill(plane, this.data.planes.map((one) => one.title));
    plane.closest("label").hidden = this.data.planes.length < 2;
    plane.onchange = () => { this.plane = Number(plane.value); this.replane(); };
    const shown = $("#shown");
    shown.closest("label").hidden = !this.held;
    shown.onchange = () => this.refilter();
    const sounds = page.data.media.mime.some((mime) => mime.startsWith("audio/"));
    if (sounds && !$("#aloud")) {
      shown.closest(".tools").prepend(make("label", { class: "pick" }, make("input", { type: "checkbox", id: "aloud" }), make("span", {}, "play on hover")));
    }
    const many = this.data.total > this.count ? `${figure(this.count)} of ${figure(this.data.total)}, drawn at random` : figure(this.count);
    const media = page.data.media;
    const seen = media.count < media.of ? ` ${figure(media.count)} of ${figure(media.of)} thumbnails and sounds are in this file.` : "";
    const what = this.data.pair ? "Pairs, both sides in one frame." : "The same items twice: as the model sees them, and as they came.";
    $("#mapnote").textContent = `${what} ${many} items.${seen}`;
    searching(this);
  }

  replane() {
    this.panels = [];
    for (const [index, found] of this.data.planes[this.plane].panels.entries()) this.panels.push(new Panel(this, found, index));
    $("#panels").replaceChildren(...this.panels.map((panel) => panel.element));
    for (const panel of this.panels) panel.resize();
    this.recolour();
  }

  recolour() {
    const column = this.columns[this.colour];
    const soft = rgb(ink("soft"));
    this.look = new Uint8Array(this.count);
    if (!column) {
      this.colours = [rgb(ink("s0"))]; this.shapes = [0];
    } else if (column.kind === "number") {
      const known = column.values.filter(Number.isFinite).sort();
      const [low, high] = known.length ? [known[Math.floor(0.01 * (known.length - 1))], known[Math.ceil(0.99 * (known.length - 1))]] : [0, 1];
      this.colours = [...ramp(), soft]; this.shapes = this.colours.map(() => 0); this.shapes[64] = 1;
      this.range = [low, high];
      for (let i = 0; i < this.count; i++) {
        const share = (column.values[i] - low) / (high - low || 1);
        this.look[i] = Number.isFinite(share) ? Math.max(0, Math.min(63, Math.round(share * 63))) : 64;
      }
    } else {
      const named = column.levels.length > MOST_LEVELS ? MOST_LEVELS - 1 : column.levels.length;
      const palette = (isDark() ? LEVELS_DARK : LEVELS_LIGHT).map(rgb);
      this.colours = [...Array.from({ length: named }, (_, i) => palette[i % 10]), soft];
      this.shapes = this.colours.map((_, i) => (i === named ? 1 : Math.floor(i / 10)));
      this.named = named;
      for (let i = 0; i < this.count; i++) this.look[i] = Math.min(column.values[i], named);
    }
    this.legend(column);
    this.refilter();
    $("#agreement").textContent = "";
    setTimeout(() => this.agreement(column), 0);
    if (this.selected >= 0) this.inspect();
  }

  refilter() {
    const which = $("#shown").value;
    for (let i = 0; i < this.count; i++) {
      const held = !this.held || which === "all" || (which === "held") === Boolean(this.held[i]);
      this.shown[i] = held && !this.off.has(this.look[i]) ? 1 : 0;
    }
    for (const panel of this.panels) panel.paint();
  }

  legend(column) {
    const legend = $("#legend");
    if (!column) return legend.replaceChildren();
    if (column.kind === "number") {
      const scale = make("canvas", { class: "scale", width: 64, height: 1, "aria-hidden": "true" });
      const context = scale.getContext("2d");
      ramp().forEach((colour, i) => { context.fillStyle = `rgb(${colour})`; context.fillRect(i, 0, 1, 1); });
      const gaps = this.look.includes(64) ? make("span", { class: "soft" }, "grey squares: unknown") : null;
      return legend.replaceChildren(...[make("span", {}, `≤ ${figure(this.range[0])}`), scale, make("span", {}, `≥ ${figure(this.range[1])}`), gaps].filter(Boolean));
    }
    const names = column.levels.slice(0, this.named);
    const rest = column.levels.length > this.named ? `${figure(column.levels.length - this.named)} others, unknown` : this.look.includes(this.named) ? "unknown" : null;
    if (rest) names.push(rest);
    return legend.replaceChildren(...names.map((name, i) => {
      const dot = make("canvas", { width: 28, height: 28, "aria-hidden": "true" });
      const context = dot.getContext("2d");
      const image = context.createImageData(28, 28);
      for (const [x, y, cover] of stamp(9, this.shapes[i])) {
        image.data.set([...this.colours[i], 255 * cover], 4 * ((14 + y) * 28 + 14 + x));
      }
      context.putImageData(image, 0, 0);
      const button = make("button", { type: "button", title: name, "aria-pressed": String(!this.off.has(i)) }, dot, short(name, 24));
      button.onclick = () => {
        if (this.off.has(i)) this.off.delete(i); else this.off.add(i);
        button.setAttribute("aria-pressed", String(!this.off.has(i)));
        this.refilter();
      };
      return button;
    }));
  }

  /** Of all items, how many of their nearest ones share their category. */
  agreement(column) {
    const said = $("#agreement");
    if (!this.neighbors || column?.kind !== "category" || column !== this.columns[this.colour]) return;
    const shares = [0, 1].map((space) => {
      let same = 0;
      let all = 0;
      const { values } = column;
      const width = this.data.neighbors.shape[2];
      for (let i = 0; i < this.count; i++) {
        if (values[i] === NOBODY) continue;
        const begin = (space * this.count + i) * width;
        for (let k = begin; k < begin + width; k++) {
          const other = this.neighbors[k];
          if (other === NOBODY || values[other] === NOBODY) continue;
          all++;
          if (values[other] === values[i]) same++;
        }
      }
      return all ? same / all : NaN;
    });
    if (!shares.every(Number.isFinite)) return;
    const [first, second] = shares.map((share) => `${(100 * share).toFixed(1)} %`);
    const [here, there] = this.spaces();
    said.textContent = `Of the 10 nearest items, ${first} share an item's ${column.name} ${here}, ${second} ${there}.`;
  }

  spaces() {
    return this.data.pair ? ["by side a", "by side b"] : ["in the representation", "in the raw data"];
  }

  nearestIn(space, i) {
    const width = this.data.neighbors.shape[2];
    const begin = (space * this.count + i) * width;
    const found = this.neighbors.subarray(begin, begin + width);
    const end = found.indexOf(NOBODY);
    return Array.from(end < 0 ? found : found.subarray(0, end));
  }

  nearest(i) {
    return this.neighbors ? [this.nearestIn(0, i), this.nearestIn(1, i)] : [[], []];
  }

  valueOf(column, i) {
    if (column.kind === "number") return figure(column.values[i]);
    return column.values[i] === NOBODY ? "–" : column.levels[column.values[i]];
  }

  mediaOf(i, type) {
    if (document.readyState === "loading") return []; // they are still on their way
    return (this.media.get(i) ?? []).filter((k) => page.data.media.mime[k].startsWith(type));
  }

  url(k) {
    if (!this.urls.has(k)) {
      page.media ??= bytesOf($("#media").textContent);
      const { offset, mime } = page.data.media;
      this.urls.set(k, URL.createObjectURL(new Blob([page.media.subarray(offset[k], offset[k + 1])], { type: mime[k] })));
    }
    return this.urls.get(k);
  }

  pictures(i, kind) {
    return this.mediaOf(i, "image/").map((k) => make("img", { src: this.url(k), class: kind, alt: `Thumbnail of ${this.items[i]}` }));
  }

  play(i, k = this.mediaOf(i, "audio/")[0]) {
    if (k === undefined) return;
    this.voice ??= new Audio();
    this.voice.src = this.url(k);
    this.voice.play().catch(() => {}); // a browser that was not touched yet stays silent
  }

  hover(i, event) {
    this.tip ??= document.body.appendChild(make("div", { class: "tip", hidden: true }));
    if (i !== this.hovered) {
      this.hovered = i;
      for (const panel of this.panels) panel.mark();
      if (i >= 0) {
        const column = this.columns[this.colour];
        const sound = this.mediaOf(i, "audio/").length;
        this.tip.replaceChildren(...this.pictures(i, "small"), make("strong", {}, this.items[i]),
          ...(column ? [make("span", {}, `${column.name}: ${this.valueOf(column, i)}`)] : []),
          ...(sound ? [make("span", { class: "soft" }, " · click to play")] : []));
        if (sound && $("#aloud")?.checked) this.play(i);
      }
      this.tip.hidden = i < 0;
    }
    if (i >= 0 && event) {
      const { offsetWidth: width, offsetHeight: height } = this.tip;
      this.tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
      this.tip.style.top = `${Math.max(8, Math.min(event.clientY + 14, innerHeight - height - 8))}px`;
    }
  }

  select(i) {
    this.selected = i;
    for (const panel of this.panels) panel.mark();
    if (i >= 0) { this.inspect(); this.play(i); } else this.hint ? $("#inspector").replaceChildren(this.hint) : null;
  }

  inspect() {
    const i = this.selected;
    const inspector = $("#inspector");
    this.hint ??= $(".hint", inspector);
    const lines = [["row", figure(this.rows[i])], ...(this.held ? [["held out", this.held[i] ? "yes" : "no"]] : []), ...this.columns.map((column) => [column.name, this.valueOf(column, i)])];
    const sounds = this.mediaOf(i, "audio/").map((k) => make("button", { type: "button", class: "play", onclick: () => this.play(i, k) }, "Play"));
    const [mine, raw] = this.nearest(i);
    const [here, there] = this.spaces();
    const list = (title, found, other) => make("div", {}, make("h3", {}, title), found.length ? make("ol", { class: "near" }, found.map((near, k) => this.entry(near, k, other.includes(near)))) : make("p", { class: "soft" }, "Unknown."));
    inspector.replaceChildren(
      make("div", {}, make("h3", {}, this.items[i]), this.pictures(i, "big"), sounds, described(lines.slice(0, FEW_LINES)), lines.length > FEW_LINES ? make("details", {}, make("summary", {}, `${lines.length - FEW_LINES} more`), described(lines.slice(FEW_LINES))) : null),
      list(`Nearest ${here}`, mine, raw),
      list(`Nearest ${there}`, raw, mine),
    );
  }

  entry(i, k, both) {
    const column = this.columns[this.colour];
    const what = column ? `${this.items[i]} · ${this.valueOf(column, i)}` : this.items[i];
    const pictures = this.pictures(i, "small").slice(0, 1);
    return make("li", {}, make("button", { type: "button", "data-item": i, onclick: () => this.select(i), onpointerenter: () => this.hover(i), onpointerleave: () => this.hover(-1) },
      make("span", { class: "place" }, k + 1), pictures, make("span", { class: "what" }, what), both ? make("span", { class: "both" }, "in both") : null));
  }
}

/** A column to colour by, unpacked when it is first asked for. */
function opened(one) {
  let values = null;
  const levels = one.levels ? textsOf(one.levels) : null;
  return { name: one.name, kind: one.kind, levels, get values() { return (values ??= one.kind === "number" ? unpacked(one.values) : rawArray(one.values)); } };
}

const FEW_LINES = 9;

function described(lines) {
  return make("dl", {}, lines.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** Places in a random order that is always the same. */
function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let seed = 12345;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const MOST_FOUND = 12;

function searching(map) {
  const input = $("#search");
  const list = $("#found");
  let found = [];
  let at = -1;
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); input.removeAttribute("aria-activedescendant"); };
  const take = (i) => { input.value = map.items[i]; close(); map.select(i); };
  const show = () => {
    list.replaceChildren(...(found.length ? found.map((i, k) => make("li", { id: `found${k}`, role: "option", "aria-selected": String(k === at), onpointerdown: (event) => { event.preventDefault(); take(i); } }, map.items[i])) : [make("li", { class: "none", role: "option", "aria-selected": "false" }, "Nothing by that name.")]));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    if (at >= 0) { input.setAttribute("aria-activedescendant", `found${at}`); $(`#found${at}`).scrollIntoView({ block: "nearest" }); }
  };
  input.oninput = () => {
    const wanted = input.value.trim().toLowerCase();
    at = -1;
    if (!wanted) return close();
    const exact = [], begins = [], within = [];
    for (let i = 0; i < map.count; i++) {
      const name = map.items[i].toLowerCase();
      const place = name.indexOf(wanted);
      if (name === wanted) exact.push(i); else if (place === 0 && begins.length < MOST_FOUND) begins.push(i); else if (place > 0 && within.length < MOST_FOUND) within.push(i);
    }
    found = [...exact, ...begins, ...within].slice(0, MOST_FOUND);
    return show();
  };
  input.onkeydown = (event) => {
    if (event.key === "Escape") return close();
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (found.length) at = (at + (event.key === "ArrowDown" ? 1 : -1) + found.length) % found.length;
      show();
    } else if (event.key === "Enter" && found.length) take(found[Math.max(at, 0)]);
    else return;
    event.preventDefault();
  };
  input.onblur = close;
}

tables.map = () => {
  const { map } = page;
  const planes = map.data.planes.flatMap((plane) => plane.panels.map((panel) => [panel.name, unpacked(panel.x), unpacked(panel.y)]));
  const header = ["item", "row", ...(map.held ? ["held_out"] : []), ...planes.flatMap(([name]) => [`${name}_x`, `${name}_y`]), ...map.columns.map((column) => column.name)];
  const value = (column, i) => (column.kind === "number" ? column.values[i] : column.levels[column.values[i]]);
  const rows = Array.from({ length: map.count }, (_, i) => [map.items[i], map.rows[i], ...(map.held ? [map.held[i]] : []), ...planes.flatMap(([, x, y]) => [x[i], y[i]]), ...map.columns.map((column) => value(column, i))]);
  return [header, ...rows];
};

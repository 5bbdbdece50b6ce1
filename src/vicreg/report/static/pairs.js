// Pairs: what is found on the other side, and what is not.

let side = "a";

function setUpPairs() {
  if (!$("#retrieval")) return;
  const retrieval = page.data.retrieval;
  $("#direction").hidden = !retrieval;
  setUpCross();
  if (!retrieval) return;
  const held = retrieval.held_out === false ? " that the fit learnt from" : retrieval.held_out ? " that no fit saw" : "";
  $("#retrievalnote").textContent = `Each is asked for among ${figure(retrieval.n)} pairs${held}; the partner is marked.`;
  for (const button of $$("#direction button")) button.onclick = () => { side = button.dataset.side; showExamples(); };
  showExamples();
}

function showExamples() {
  pressed($$("#direction button"), (button) => button.dataset.side === side);
  const every = page.data.retrieval.examples.filter((one) => one.query_side === side);
  const part = (title, found) => (found.length ? [make("h3", {}, title), make("div", { class: "examples" }, found.map(example))] : []);
  $("#retrieval").replaceChildren(...part("Found", every.filter((one) => one.rank === 1)), ...part("Not found", every.filter((one) => one.rank !== 1)));
}

/** An item as one side shows it: its picture, its sound, its name. */
function shownItem(i, of) {
  const { map } = page;
  if (!map) return [`item ${i}`];
  const mine = (kind) => map.mediaOf(i, kind).filter((k) => !page.data.media.side[k] || page.data.media.side[k] === of);
  return [
    ...mine("image/").map((k) => make("img", { src: map.url(k), alt: "" })),
    ...mine("audio/").map((k) => make("button", { type: "button", class: "play", "aria-label": `Play ${map.items[i]}`, onclick: () => map.play(i, k) })),
    ` ${map.items[i]}`,
  ];
}

function example(one) {
  const other = one.query_side === "a" ? "b" : "a";
  const rank = one.rank > one.found.length ? make("p", { class: "rank" }, `Its partner is at place ${figure(one.rank)}.`) : null;
  return make("div", { class: "example" },
    make("div", { class: "asked" }, shownItem(one.query, one.query_side)),
    make("ol", {}, one.found.map((i) => make("li", { class: i === one.query ? "partner" : null }, shownItem(i, other)))),
    rank);
}

tables.retrieval = () => {
  const name = (i) => page.map?.items[i] ?? i;
  const rows = page.data.retrieval?.examples.map((one) => [one.query_side, name(one.query), one.rank, ...one.found.map(name)]) ?? [];
  const cross = page.data.cross ? rowsOf(page.data.cross).flatMap((row, i) => row.map((value, j) => ["cross-correlation", i, j, value])) : [];
  return [["side", "asked", "rank", "first", "second", "third", "fourth", "fifth"], ...rows, ...cross];
};

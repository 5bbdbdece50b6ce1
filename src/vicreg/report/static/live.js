// A page that is served while its run goes on asks for news, and changes only what has changed.

const PAUSE = 2000;
const served = new Map(); // by part, as the server gave it

function remember(doc) {
  for (const part of $$("[data-part]", doc)) served.set(part.dataset.part, part.outerHTML);
}

async function follow() {
  let version = "";
  let lost = 0;
  for (;;) {
    await new Promise((done) => setTimeout(done, PAUSE));
    try {
      const answer = await fetch("/news", { headers: version ? { "If-None-Match": version } : {}, cache: "no-store" });
      lost = 0;
      if (answer.status === 304 || !answer.ok) continue;
      version = answer.headers.get("ETag") ?? "";
      await changed(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      lost += 1;
      if (lost > 2) break;
    }
  }
  const live = $("#live");
  live.classList.add("over");
  live.textContent = "the run has stopped";
}

/** Take over what differs: parts by their text, data by themselves. Nothing in it is ever run. */
async function changed(doc) {
  page.data = JSON.parse($("#data", doc).textContent);
  const packed = $("#pack", doc).textContent.trim();
  page.pack = packed ? await inflated(packed) : null;
  $("#media").textContent = $("#media", doc).textContent;
  page.media = null;
  const fresh = new Set();
  let before = null;
  for (const part of $$("main > [data-part], nav[data-part]", doc)) {
    const name = part.dataset.part;
    const here = $(`[data-part="${name}"]`);
    const text = part.outerHTML;
    if (!here) {
      const adopted = document.adoptNode(part);
      if (before) before.after(adopted); else $("main").prepend(adopted);
      fresh.add(name);
      before = adopted;
    } else if (served.get(name) !== text) {
      const adopted = document.adoptNode(part);
      here.replaceWith(adopted);
      fresh.add(name);
      before = adopted.matches("nav") ? before : adopted;
    } else if (!here.matches("nav")) before = here;
    served.set(name, text);
  }
  setUp();
  drawAll();
}

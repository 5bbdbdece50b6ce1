// Where the page begins.

/** Bring every part to life that is there; again after news. */
function setUp() {
  for (const button of $$(".csv")) {
    const name = button.dataset.csv;
    button.setAttribute("aria-label", `${name} as CSV`);
    button.onclick = () => download(`${page.data.runs.join("-")}-${button.dataset.key ?? name}`.replace(/[^\w.-]+/g, "_"), tables[name](button));
  }
  for (const button of $$(".copy")) {
    button.onclick = async () => {
      const code = $("code", button.closest(".recipe"));
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // not allowed here: select it, to be copied by hand
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
  }
  setUpTraining();
  setUpSpectrum();
  setUpInfluence();
  if (page.data.map && $("#panels") && !(page.map && $("#panels").childElementCount)) page.map = new Atlas(page.data.map);
  setUpPairs();
}

async function start() {
  remember(document);
  $("#theme").onclick = () => setTheme((theme + 1) % THEMES.length);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", recoloured);
  addEventListener("beforeprint", () => { for (const one of $$("details")) one.open = true; });
  for (const button of $$(".choice button")) button.setAttribute("aria-pressed", "false");
  const packed = $("#pack").textContent.trim();
  try {
    if (packed) page.pack = await inflated(packed);
    setUp();
  } catch (failure) {
    $("main").prepend(make("p", { class: "note broken" }, `What this page draws cannot be shown: ${failure.message}`));
    throw failure;
  }
  document.documentElement.dataset.ready = "yes";
  page.ready = performance.now();
  if (page.data.live) follow();
  await whole;
  (window.requestIdleCallback ?? setTimeout)(() => drawRest().then(() => { document.documentElement.dataset.drawn = "yes"; }), { timeout: 3000 });
}

start();

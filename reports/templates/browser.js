
// ---- the table: sort, filter, page -----------------------------------------------------
const CHOICES = ["strategy", "list", "verdict", "personal", "content"];
let lowered = null;
function holds(row, needle) {
  lowered ??= DATA.id.map((id, at) => `${id}\n${textOf(at)}`.toLowerCase());
  return lowered[row].includes(needle);
}

function passes(row) {
  return (wanted.strategy === "" || DATA.strategy[row] === Number(wanted.strategy)) &&
    (wanted.verdict === "" || DATA.verdict[row] === Number(wanted.verdict)) &&
    (wanted.list === "" ? isCandidate(row) : DATA.lists[wanted.list][row] !== null) &&
    (wanted.personal === "" || (wanted.personal === "any" ? DATA.personal[row].length > 0 :
      DATA.personal[row].some((item) => item[2] === Number(wanted.personal)))) &&
    (wanted.content === "" || DATA.content[row].includes(Number(wanted.content))) &&
    (!wanted.repeats || DATA.duplicate_of[row] === null) &&
    (wanted.text === "" || holds(row, wanted.text));
}

function refresh() {
  const value = COLUMNS.find((one) => one.key === state.sort).value;
  const keys = new Array(DATA.n);
  state.shown = [];
  for (let row = 0; row < DATA.n; row++) {
    if (!passes(row)) continue;
    keys[row] = value(row);
    state.shown.push(row);
  }
  const sign = state.down ? -1 : 1;
  // What has no value goes last in either direction; equals keep the order of the file.
  state.shown.sort((a, b) => {
    const x = keys[a], y = keys[b];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return x < y ? -sign : x > y ? sign : a - b;
  });
}

const nPages = () => Math.max(1, Math.ceil(state.shown.length / PAGE));


// ---- drawing ---------------------------------------------------------------------------
function excerpt(row) {
  const start = DATA.start[row];
  const from = start === null ? 0 : start;
  const part = textOf(row, from, from + 160).replace(/\s+/g, " ").trim();
  return (from > 0 ? "… " : "") + part;
}

function drawRow(row) {
  const open = state.open.has(row);
  const list = listOf(row);
  const rank = rankOf(row);
  const score = scoreOf(row);
  const verdict = DATA.verdict[row];
  const button = make("button", { type: "button", "aria-expanded": open }, DATA.id[row]);
  if (open) button.setAttribute("aria-controls", `detail-${row}`);
  const cells = [
    make("td", {}, button),
    make("td", {}, DATA.strategies[DATA.strategy[row]]),
    make("td", {}, make("span", { cls: `verdict v${verdict}` }, DATA.verdicts[verdict])),
    make("td", { cls: "number" }, whole(rank), list ? make("small", {}, ` ${list}`) : null),
    make("td", { cls: "number" }, score === null ? "–" : decimal(score)),
    make("td", { cls: "number" }, whole(column("match_n_tokens", row))),
    make("td", { cls: "number" }, whole(column("n_documents", row))),
    ...(HAS_PERSONAL ? [make("td", { cls: "number" }, whole(DATA.personal[row].length || null))] : []),
    make("td", { cls: "excerpt" }, excerpt(row)),
  ];
  const line = make("tr", { cls: open ? "row open" : "row", "data-row": row }, ...cells);
  return open ? [line, drawDetail(row)] : [line];
}

function draw() {
  const total = state.shown.length;
  state.page = Math.min(state.page, nPages() - 1);
  const first = state.page * PAGE;
  const rows = state.shown.slice(first, first + PAGE);
  const isControl = wanted.list === "random";
  get("rows").replaceChildren(...rows.flatMap(drawRow));
  get("count").textContent = total && isControl
    ? `${whole(first + 1)}–${whole(first + rows.length)} of ${whole(total)} samples of the random draw.`
    : total
    ? `${whole(first + 1)}–${whole(first + rows.length)} of ${whole(total)} candidates` +
      (total < N_CANDIDATES ? ` that match; ${whole(N_CANDIDATES)} in all.` : ". Choose one to read it.")
    : `None of ${whole(N_CANDIDATES)} candidates matches. Loosen a filter.`;
  drawHeads();
  drawPager();
}

function drawHeads() {
  for (const head of get("heads").children) {
    const active = head.dataset.key === state.sort;
    if (active) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function drawPager() {
  const pager = document.querySelector(".pager");
  const [first, back, place, next, last] = pager.children;
  pager.hidden = nPages() === 1;
  place.textContent = `Page ${whole(state.page + 1)} of ${whole(nPages())}`;
  first.disabled = back.disabled = state.page === 0;
  next.disabled = last.disabled = state.page === nPages() - 1;
}

// ---- doing -----------------------------------------------------------------------------
function change() { state.page = 0; refresh(); draw(); }

function turnTo(page) {
  state.page = page;
  draw();
  get("candidates").scrollIntoView();
}

function toggle(row) {
  const opening = !state.open.has(row);
  if (opening) state.open.add(row); else state.open.delete(row);
  const line = get("rows").querySelector(`[data-row="${row}"]`);
  if (line.classList.contains("open")) line.nextSibling.remove();
  const fresh = drawRow(row);
  line.replaceWith(...fresh);
  fresh[0].querySelector("button").focus({ preventScroll: true });
  const address = opening ? `#sample=${encodeURIComponent(DATA.id[row])}` : "#candidates";
  history.replaceState(null, "", address);
}

function show(row) {
  if (!passes(row)) {
    Object.assign(wanted, ANY, isCandidate(row) ? {} : { list: "random" });
    for (const name of [...CHOICES, "text"]) get(`f-${name}`).value = wanted[name];
    get("f-repeats").checked = false;
    refresh();
  }
  state.open.add(row);
  state.page = Math.floor(state.shown.indexOf(row) / PAGE);
  draw();
  const line = get("rows").querySelector(`[data-row="${row}"]`);
  line.scrollIntoView({ block: "start" });
  line.querySelector("button").focus({ preventScroll: true });
}

function followAddress() {
  const match = /^#sample=(.+)$/.exec(location.hash);
  if (!match) return;
  let id = match[1];
  try { id = decodeURIComponent(id); } catch { /* not ours to mend: look it up as it is */ }
  if (byId.has(id)) show(byId.get(id));
}

// ---- setting up ------------------------------------------------------------------------
function fill(select, pairs) {
  select.append(...pairs.map(([value, label]) => make("option", { value }, label)));
}

function setUp() {
  const present = [...new Set(DATA.verdict)].sort();
  fill(get("f-strategy"), [["", "all"], ...DATA.strategies.map((name, at) => [at, name])]);
  fill(get("f-list"), [["", "all"], ...LISTS.map((name) => [name, name])]);
  fill(get("f-verdict"), [["", "all"], ...present.map((at) => [at, DATA.verdicts[at]])]);
  const personal = [...new Set(DATA.personal.flat().map((item) => item[2]))].sort((a, b) => a - b);
  const contents = [...new Set(DATA.content.flat())].sort((a, b) => a - b);
  fill(get("f-personal"), [["", "all"], ["any", "any"], ...personal.map((at) => [at, DATA.kinds[at]])]);
  fill(get("f-content"), [["", "all"], ...contents.map((at) => [at, DATA.contents[at]])]);
  get("f-personal").parentNode.hidden = !personal.length;
  get("f-content").parentNode.hidden = !contents.length;
  for (const name of CHOICES) {
    get(`f-${name}`).addEventListener("change", (event) => {
      wanted[name] = event.target.value;
      change();
    });
  }
  get("f-repeats").addEventListener("change", (event) => {
    wanted.repeats = event.target.checked;
    change();
  });
  if (DATA.masks) {
    get("f-hide").addEventListener("change", (event) => {
      state.hide = event.target.checked;
      lowered = null;
      change();
    });
  }
  let timer = 0;
  get("f-text").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => { wanted.text = event.target.value.toLowerCase(); change(); }, 120);
  });
  for (const one of COLUMNS) {
    const button = make("button", { type: "button" }, one.label);
    button.addEventListener("click", () => {
      state.down = state.sort === one.key ? !state.down : Boolean(one.number && one.key !== "rank");
      state.sort = one.key;
      change();
    });
    const cls = one.number ? "number" : "";
    get("heads").append(make("th", { scope: "col", cls, "data-key": one.key }, button));
  }
  const turns = [["First", () => 0], ["Back", () => state.page - 1], null,
    ["Next", () => state.page + 1], ["Last", () => nPages() - 1]];
  document.querySelector(".pager").append(...turns.map((turn) => {
    if (turn === null) return make("span");
    const button = make("button", { type: "button" }, turn[0]);
    button.addEventListener("click", () => turnTo(turn[1]()));
    return button;
  }));
  get("rows").addEventListener("click", (event) => {
    const line = event.target.closest(".row");
    // Someone who selects text in a row does not mean to open it.
    if (line && String(getSelection()) === "") toggle(Number(line.dataset.row));
  });
  get("browser").hidden = false;
  addEventListener("hashchange", followAddress);
  refresh();
  draw();
  followAddress();
}
setUp();


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
    (wanted.personal === "" || (wanted.personal === "any" ? personalOf(row).length > 0 :
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
  const from = DATA.start[row] ?? 0, to = DATA.end[row] ?? DATA.text[row].length;
  const most = state.printing ? 1200 : 240;
  const part = textOf(row, from, Math.min(to, from + most)).replace(/\s+/g, " ").trim();
  return part + (to > from + most ? " …" : "");
}

function drawRow(row) {
  const open = state.open.has(row);
  const list = listOf(row);
  const rank = rankOf(row);
  const name = scoreName(row);
  const score = scoreOf(row);
  const verdict = DATA.verdict[row];
  const button = make("button", { type: "button", "aria-expanded": open }, DATA.id[row]);
  if (open) button.setAttribute("aria-controls", `detail-${row}`);
  const cells = [
    make("td", {}, button),
    make("td", {}, make("span", { cls: `verdict v${verdict}` }, DATA.verdicts[verdict])),
    make("td", { cls: "number" }, whole(rank), list ? make("small", {}, ` ${list}`) : null),
    make("td", { cls: "number" }, score === null ? "–" : decimal(score),
      name === list ? null : make("small", {}, ` ${name}`)),
    make("td", { cls: "number" }, whole(column("match_n_tokens", row))),
    make("td", { cls: "number" }, whole(column("match_n_chars", row))),
    make("td", { cls: "number" }, whole(column("n_documents", row))),
    ...(HAS_PERSONAL ? [make("td", { cls: "number" }, whole(personalOf(row).length || null))] : []),
    make("td", { cls: "excerpt" }, make("div", { dir: "auto" }, excerpt(row))),
  ];
  const line = make("tr", { cls: open ? "row open" : "row", "data-row": row }, ...cells);
  return open ? [line, drawDetail(row)] : [line];
}

function draw() {
  const total = state.shown.length;
  state.page = Math.min(state.page, nPages() - 1);
  const isControl = wanted.list === "random";
  const verified = state.printing ? state.shown.filter((row) => DATA.verdict[row] === 0) : [];
  const first = verified.length ? 0 : state.page * PAGE;
  const rows = verified.length ? verified : state.shown.slice(first, first + PAGE);
  get("rows").replaceChildren(...rows.flatMap(drawRow));
  get("count").textContent = total && isControl
    ? `${whole(first + 1)}–${whole(first + rows.length)} of ${whole(total)} samples of the random draw.`
    : verified.length
    ? `All ${whole(verified.length)} verbatim candidates of ${whole(total)}` +
      (total < N_CANDIDATES ? ` that match the filters; ${whole(N_CANDIDATES)} in all.` : ".")
    : total
    ? `${whole(first + 1)}–${whole(first + rows.length)} of ${whole(total)} candidates` +
      (total < N_CANDIDATES ? ` that match; ${whole(N_CANDIDATES)} in all.` : ". Choose one to read it.")
    : `None of ${whole(N_CANDIDATES)} candidates matches. Loosen a filter.`;
  if (state.sort === "score" && !wanted.list && total) {
    get("count").append(` Sorted by ${FIRST_SCORE}; choose another score above.`);
  }
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
function change() { state.page = 0; refresh(); draw(); remember(); }

// What is chosen is kept in the address, by names, so that it survives a reload and can be sent.
const NAMES = {
  strategy: [(at) => DATA.strategies[at], (name) => DATA.strategies.indexOf(name)],
  verdict: [(at) => DATA.verdicts[at], (name) => DATA.verdicts.indexOf(name)],
  content: [(at) => DATA.contents[at], (name) => DATA.contents.indexOf(name)],
  personal: [(at) => at === "any" ? at : DATA.kinds[at],
    (name) => name === "any" ? name : DATA.kinds.indexOf(name)],
  list: [(name) => name, (name) => name],
};

function remember(sample = null) {
  const parts = [];
  const add = (name, value) => parts.push(`${name}=${encodeURIComponent(value)}`);
  for (const name of CHOICES) if (wanted[name] !== "") add(name, NAMES[name][0](wanted[name]));
  if (wanted.text) add("text", wanted.text);
  if (wanted.repeats) add("repeats", "hidden");
  if (state.sort !== SORTED.sort || state.down !== SORTED.down) {
    add("sort", state.sort);
    if (state.down) add("order", "down");
  }
  if (state.page) add("page", state.page + 1);
  if (sample !== null) add("sample", sample);
  history.replaceState(null, "", parts.length ? `#${parts.join("&")}` : location.pathname + location.search);
}

function recall() {
  const given = new URLSearchParams(location.hash.slice(1));
  const has = (name) => given.has(name);
  if (![...CHOICES, "text", "repeats", "sort", "page"].some(has)) return;
  for (const name of CHOICES) {
    if (!has(name)) continue;
    const value = String(NAMES[name][1](given.get(name)));
    const select = get(`f-${name}`);
    // Names that this page does not have are ignored.
    if ([...select.options].some((option) => option.value === value)) wanted[name] = value;
  }
  wanted.text = (given.get("text") ?? "").toLowerCase();
  wanted.repeats = has("repeats");
  if (COLUMNS.some((one) => one.key === given.get("sort"))) {
    state.sort = given.get("sort");
    state.down = given.get("order") === "down";
  }
  state.page = Math.max(0, (Number(given.get("page")) || 1) - 1);
}

function showChoices() {
  for (const name of [...CHOICES, "text"]) get(`f-${name}`).value = wanted[name];
  get("f-repeats").checked = wanted.repeats;
}

function turnTo(page) {
  state.page = page;
  draw();
  remember();
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
  remember(opening ? DATA.id[row] : null);
}

function show(row) {
  if (!passes(row)) {
    Object.assign(wanted, ANY, isCandidate(row) ? {} : { list: "random" });
    showChoices();
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
  const id = new URLSearchParams(location.hash.slice(1)).get("sample");
  if (id !== null && byId.has(id)) show(byId.get(id));
}

// On paper there are no pages to turn: all verbatim candidates that pass the filters are printed.
function layOutForPaper(printing) {
  state.printing = printing;
  for (const one of document.querySelectorAll("details")) {
    if (printing) one.dataset.was = one.open;
    one.open = printing || one.dataset.was === "true";
  }
  draw();
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
  addEventListener("beforeprint", () => layOutForPaper(true));
  addEventListener("afterprint", () => layOutForPaper(false));
  recall();
  showChoices();
  refresh();
  draw();
  followAddress();
}
setUp();

// The candidates' data and small tools. Text reaches the page as text nodes only.
const packed = atob(document.getElementById("candidates-data").textContent);
const unzipped = new Blob([Uint8Array.from(packed, (char) => char.charCodeAt(0))]).stream()
  .pipeThrough(new DecompressionStream("gzip"));
const DATA = await new Response(unzipped).json();
const PAGE = 20;
const LISTS = Object.keys(DATA.lists);
const byId = new Map(DATA.id.map((id, at) => [id, at]));
const get = (id) => document.getElementById(id);
const ANY = { strategy: "", list: "", verdict: "", personal: "", content: "", text: "", repeats: false };
const wanted = { ...ANY };
// Verified rows come first; equals keep the order of the file, the best rank first.
const SORTED = { sort: "verdict", down: false };
const state = { ...SORTED, page: 0, open: new Set(), shown: [], hide: false };

// ---- small tools -----------------------------------------------------------------------
function make(tag, options = {}, ...children) {
  const { cls, ...attributes } = options;
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const number = (value) => value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
const whole = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
function decimal(value) {
  if (value === null || value === undefined) return "undefined";
  const shown = number(value);
  if (!Number.isFinite(shown)) return shown > 0 ? "∞" : "−∞";
  const tiny = shown !== 0 && Math.abs(shown) < 1e-4;
  const text = tiny ? shown.toExponential(3)
    : shown.toLocaleString("en", { maximumSignificantDigits: 5 });
  return text.replace(/-/g, "−");
}
const column = (name, row) => DATA[name] ? DATA[name][row] : null;

// The text of a row, or a part of it; its personal data masked if the reader asked for that.
function textOf(row, from = 0, to = DATA.text[row].length) {
  const text = DATA.text[row];
  if (!state.hide) return text.slice(from, to);
  let out = "", at = from;
  DATA.personal[row].forEach(([start, end], item) => {
    if (end <= from || start >= to) return;
    out += text.slice(at, Math.max(start, at)) + DATA.masks.text[row][item];
    at = end;
  });
  return out + text.slice(at, Math.max(at, to));
}

// A prompt or a document's name, likewise.
function nameOf(column, text) {
  const known = state.hide && text !== null ? DATA.masks[column] : null;
  return known && Object.hasOwn(known, text) ? known[text] : text;
}

// ---- what a row is ---------------------------------------------------------------------
// A sample that only the random draw lists is not a candidate: it is shown with that list alone.
const isCandidate = (row) => DATA.best_rank[row] !== null;
const N_CANDIDATES = DATA.best_rank.filter((rank) => rank !== null).length;

// The list that shows a candidate: the one asked for, or the one that ranks it best.
function listOf(row) {
  if (wanted.list) return wanted.list;
  let best = null;
  for (const name of LISTS) {
    const rank = DATA.lists[name][row];
    if (rank === null) continue;
    if (name !== "random" && (best === null || rank < DATA.lists[best][row])) best = name;
  }
  return best;
}
const rankOf = (row) => { const name = listOf(row); return name ? DATA.lists[name][row] : null; };
// Values of two scores cannot be compared: sorted by score, all rows show the same one.
const FIRST_SCORE = Object.keys(DATA.scores)[0];
const scoreName = (row) =>
  state.sort === "score" && !wanted.list ? FIRST_SCORE : listOf(row);
function scoreOf(row) {
  const name = scoreName(row);
  return name && DATA.scores[name] ? number(DATA.scores[name][row]) : null;
}

// Canary secrets are masked too, and do not count as personal data.
const personalOf = (row) =>
  DATA.personal[row].filter(([, , kind]) => DATA.kinds[kind] !== "canary secret");
const HAS_PERSONAL = DATA.personal.some((_, row) => personalOf(row).length);
const COLUMNS = [
  { key: "id", label: "Sample", value: (row) => DATA.id[row] },
  { key: "verdict", label: "Verdict", value: (row) => DATA.verdict[row] },
  { key: "rank", label: "Rank", number: true, value: rankOf },
  { key: "score", label: "Score", number: true, value: scoreOf },
  { key: "match_n_tokens", label: "Verbatim tokens", number: true,
    value: (row) => column("match_n_tokens", row) },
  { key: "match_n_chars", label: "Verbatim characters", number: true,
    value: (row) => column("match_n_chars", row) },
  { key: "n_documents", label: "Documents", number: true,
    value: (row) => column("n_documents", row) },
  ...(HAS_PERSONAL ? [{ key: "personal", label: "Personal data", number: true,
    value: (row) => personalOf(row).length }] : []),
  { key: "text", label: "Match, or start of the text", value: (row) => excerpt(row) },
];

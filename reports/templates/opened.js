
// ---- one candidate, opened -------------------------------------------------------------
function drawText(row) {
  const text = DATA.text[row];
  const lengths = DATA.lengths[row];
  const surprise = DATA.surprise[row];
  const ranks = DATA.ranks[row];
  const from = DATA.start[row] ?? -1, to = DATA.end[row] ?? -1;
  const items = DATA.personal[row];
  const cuts = [from, to, ...items.flatMap(([start, end]) => [start, end])].sort((a, b) => a - b);
  const box = make("div", { cls: "sample" });
  const found = make("mark", { title: "verbatim in the training text" });
  let masked = -1; // the piece of personal data whose mask stands already
  function put(start, end, token) {
    if (end <= start) return;
    const cut = cuts.find((at) => at > start && at < end);
    if (cut !== undefined) { put(start, cut, token); put(cut, end, token); return; }
    const item = items.findIndex(([first, last]) => start >= first && end <= last);
    if (state.hide && item >= 0 && item === masked) return;
    const piece = make("span", {}, textOf(row, start, end));
    if (item >= 0) {
      masked = item;
      piece.className = "personal";
      const kind = DATA.kinds[items[item][2]];
      piece.title = kind === "canary secret" ? kind : `${kind}, detected by rules`;
    }
    if (token !== null && surprise[token] && !(state.hide && item >= 0)) {
      piece.className = `${piece.className} tok p${shade(surprise[token])}`.trim();
      piece.title = describe(surprise[token], ranks[token]) + (piece.title && `; ${piece.title}`);
    }
    const inside = start >= from && end <= to;
    if (inside && !found.parentNode) box.append(found);
    (inside ? found : box).append(piece);
  }
  let at = 0;
  lengths.forEach((length, token) => { put(at, at + length, token); at += length; });
  put(at, text.length, null);
  return box;
}

// Tenths of a nat, plus one; 0 = the model gave no probability.
function shade(level) {
  if (!level) return 0;
  const nats = (level - 1) / 10;
  return nats <= 0.1 ? 4 : nats <= 0.7 ? 3 : nats <= 2.3 ? 2 : nats <= 4.6 ? 1 : 0;
}
function describe(level, rank) {
  const place = rank === undefined ? "" : rank === 0 ? ", first choice (rank 0)" : `, rank ${rank}`;
  const nats = (level - 1) / 10;
  return `log-probability ${nats ? "−" : ""}${nats.toFixed(1)} nats${place}`;
}

function legend(row) {
  const parts = [["p4", "90 % or more"], ["p3", "50–90 %"], ["p2", "10–50 %"], ["p1", "1–10 %"],
    ["", "less"]].map(([cls, label]) => make("i", { cls }, label));
  const line = make("p", { cls: "legend" }, "Probability of each token:", ...parts);
  if (DATA.personal[row].length) {
    line.append(make("span", { cls: "personal" }, DATA.masks && !state.hide ? "personal data" : "personal data, masked"));
  }
  if (DATA.start[row] !== null) line.append(make("mark", {}, "verbatim in the training text"));
  return line;
}

function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined);
  return make("dl", {}, ...kept.map(([label, value]) =>
    make("div", {}, make("dt", {}, label), make("dd", {}, value))));
}

function where(row) {
  const n = column("match_n_tokens", row), near = column("fuzzy_doc_id", row);
  const earlier = DATA.duplicate_of[row];
  const link = (id) => make("a", { href: `#sample=${encodeURIComponent(id)}` }, id);
  const offset = column("doc_offset", row);
  return facts([
    ["Verdict", DATA.verdicts[DATA.verdict[row]]],
    ["Length", n === null ? null : `${whole(n)} tokens, ${whole(column("match_n_chars", row))} characters`],
    ["Document", nameOf("doc_id", column("doc_id", row))],
    ["Offset", offset === null ? null : `${whole(offset)} characters`],
    ["Frequency", n === null ? null : `${whole(column("n_documents", row))} documents (k-eidetic), ` +
      `${whole(column("n_occurrences", row))} occurrences`],
    ["Nearest", near === null ? null : `${nameOf("fuzzy_doc_id", near)}, ${whole(column("fuzzy_n_words", row))} words`],
    ["Edits", column("near_distance", row) === null ? null :
      `${whole(column("near_distance", row))} in ${whole(column("near_n_tokens", row))} tokens`],
    ["Personal data", DATA.personal[row].length ? tally(row) : null],
    ["Kind of text", DATA.content[row].length ?
      DATA.content[row].map((at) => DATA.contents[at]).join(", ") : null],
    ["Repeats", earlier === null ? null : link(earlier)],
    ["Sample", `${whole(column("n_tokens", row))} tokens`],
    ["Attention", DATA.attention.includes(DATA.id[row]) ?
      make("a", { href: `attention/${encodeURIComponent(DATA.id[row])}.html` }, "by layer and head")
      : null],
    ["Link", link(DATA.id[row])],
  ]);
}

// "e-mail 2, telephone 1"
function tally(row) {
  const counts = new Map();
  for (const [, , kind] of DATA.personal[row]) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, n]) => `${DATA.kinds[kind]} ${n}`).join(", ");
}

function scoreTable(row) {
  const unit = (name) => make("small", {}, name === "zlib_bits" ? " bits" : " nats/token");
  const names = [...Object.keys(DATA.scores), ...LISTS.filter((name) =>
    !DATA.scores[name] && DATA.lists[name][row] !== null)];
  const line = (name, value, rank) => make("tr", {}, make("th", { scope: "row" }, name),
    make("td", { cls: "number" }, value), make("td", { cls: "number" }, rank));
  const head = make("tr", {}, ...["Score", "Value", "Rank"].map((name, at) =>
    make("th", { scope: "col", cls: at ? "number" : "" }, name)));
  const body = names.map((name) => line(name,
    DATA.scores[name] ? decimal(DATA.scores[name][row]) : "–",
    DATA.lists[name] ? whole(DATA.lists[name][row]) : "–"));
  const raw = Object.keys(DATA.raw).map((name) => 
    line(make("span", {}, name, unit(name)), decimal(DATA.raw[name][row]), ""));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body, ...raw));
}

function drawDetail(row) {
  const prompt = nameOf("prompt", DATA.prompts[DATA.prompt[row]]);
  const left = make("div", {},
    make("h3", {}, "Prompt"),
    make("p", { cls: "prompt" }, prompt || "None: generation started without a prompt."),
    make("h3", {}, "Generated text"), drawText(row), legend(row));
  const right = make("div", {}, make("h3", {}, "Match in the training text"), where(row),
    make("h3", {}, "Scores"), scoreTable(row));
  return make("tr", { cls: "detail", id: `detail-${row}` },
    make("td", { colspan: COLUMNS.length }, make("div", { cls: "opened" }, left, right)));
}

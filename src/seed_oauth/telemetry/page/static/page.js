// Shows the figures of the server and keeps them up to date. Text of the server is only ever set as text.

import { Charts, latency } from "./charts.js";

const PATIENCE = 15_000; // milliseconds without news until the page asks again, or says that there is no connection
const POLLING = 10_000;

const find = id => document.getElementById(id);
const charts = new Charts(find("charts"));
let figures = null;
let heard = 0;

const number = value => Math.round(value).toLocaleString("en");
const time = at => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
const words = name => name.replaceAll("_", " ");

function share(part, whole) {
  if (!whole) return "–";
  // Rounded down, so that 100 % means all.
  return part >= whole ? "100 %" : `${(Math.floor(part / whole * 1000) / 10).toFixed(1)} %`;
}

function level(part, whole) {
  return part / whole >= 0.95 ? "good" : part / whole >= 0.8 ? "warning" : "bad";
}

function element(tag, content = [], className = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...[content].flat());
  return made;
}

function bar(part, whole, className = "") {
  const filled = element("i", [], className);
  // What is not 0 is always visible.
  filled.style.width = whole && part ? `${Math.max(1, Math.min(1, part / whole) * 100)}%` : "0";
  const made = element("span", filled, "bar");
  made.ariaHidden = "true";
  return element("td", made, "track");
}

function row(name, cells, className = "") {
  const head = element("th", name);
  head.scope = "row";
  return element("tr", [head, ...cells.map(cell => cell instanceof Node ? cell : element("td", cell))], className);
}

function fill(id, rows, otherwise, columns = 4) {
  const none = element("tr", element("td", otherwise, "aside"));
  none.firstChild.colSpan = columns;
  find(id).tBodies[0].replaceChildren(...(rows.length ? rows : [none]));
}

/** Text with `code` in it, as elements. */
function prose(text) {
  return text.split("`").map((part, at) => at % 2 ? element("code", part) : part);
}

function tile(name, value, note) {
  return element("div", [element("dt", name), element("dd", value), element("dd", note)]);
}

function count(period, step) {
  return period.steps.find(taken => taken.step === step)?.count ?? 0;
}

function showTiles(period) {
  const [began, completed] = [count(period, "requested"), count(period, "exchanged")];
  const { exchange, wait } = figures.ceilings;
  const others = ([p50, , p99], ceiling) => `P50 ${latency(p50, ceiling)} · P99 ${latency(p99, ceiling)}`;
  // A refusal is an answer, too.
  const answers = period.idp.filter(({ outcome }) => outcome === "ok" || outcome === "http_4xx");
  const answered = answers.reduce((sum, { count }) => sum + count, 0);
  const asked = period.idp.reduce((sum, { count }) => sum + count, 0);
  find("tiles").replaceChildren(
    tile("Logins completed", number(completed), `${number(count(period, "refreshed"))} refreshes`),
    tile("Share of those that began", share(completed, began), `${number(began)} began`),
    tile("Exchange of a token, P95", latency(period.exchange[1], exchange), others(period.exchange, exchange)),
    tile("At the identity provider, P95", latency(period.wait[1], wait), others(period.wait, wait)),
    tile("Identity provider answers", share(answered, asked), `${number(asked)} requests`),
  );
}

function showFunnel(period) {
  const way = period.steps.filter(({ aside }) => !aside);
  const most = Math.max(...way.map(({ count }) => count));
  const of = ({ count, of: before }) => before && count <= before ? share(count, before) : "";
  const lost = period.loss;
  fill("funnel", [
    ...way.map(taken => row(words(taken.step), [
      bar(taken.count, most), number(taken.count), element("td", of(taken), taken.step === lost?.to ? "lost" : ""),
    ])),
    ...period.steps.filter(({ aside }) => aside)
      .map(taken => row(words(taken.step), [bar(taken.count, most), number(taken.count), ""], "aside")),
  ], "");
  find("loss").textContent = lost
    ? `Most are lost between ${words(lost.from)} and ${words(lost.to)}: ${number(lost.lost)} of ${number(lost.of)}.`
    : most ? "None were lost on the way." : "No logins.";
}

function showErrors(errors) {
  const items = errors.map(({ endpoint, reason, cause, count, why, remedy }) => element("li", [
    element("span", number(count), "times"),
    element("div", [
      element("div", [element("span", cause, `cause ${cause}`), " ", element("code", `${endpoint}: ${reason}`)]),
      ...(why ? [element("p", prose(why), "aside")] : []),
      element("p", prose(remedy)),
    ]),
  ]));
  find("errors").replaceChildren(...(items.length ? items : [element("li", "Nothing failed.", "none")]));
}

function showFailed(failed) {
  fill("failed", failed.map(({ at, endpoint, reason, cause, client_family: family, correlation_id: correlation, flow_id: flow }) =>
    row(time(at), [
      element("td", element("span", cause, `cause ${cause}`)), element("td", element("code", `${endpoint}: ${reason}`)), words(family),
      element("td", element("code", correlation)), element("td", element("code", flow || "–")),
    ])), "None failed.", 6);
}

function showNow({ workers, checks }) {
  const part = (name, good, otherwise) => element("li", good ? name : `${name}: ${otherwise}`, good ? "good" : "bad");
  find("parts").replaceChildren(
    ...workers.map(({ worker, up }) => part(`worker ${worker}`, up, "does not respond")),
    ...checks.map(({ check, passed }) => part(check === "idp" ? "identity provider" : words(check), passed, "not ready")),
  );
}

function show() {
  const chosen = Number(new FormData(document.querySelector("form")).get("period"));
  const period = figures.periods[chosen];
  find("instance").textContent = figures.title;
  document.title = `${period.verdict.level === "bad" ? "✕ " : ""}seed_oauth ${figures.title}`;
  find("verdict").className = `card ${period.verdict.level}`;
  const sentence = prose(period.verdict.text);
  // A screen reader is told what has changed only.
  if (find("sentence").textContent !== period.verdict.text.replaceAll("`", "")) find("sentence").replaceChildren(...sentence);
  showTiles(period);
  showFunnel(period);
  fill("families", period.families.map(({ family, requested, exchanged, used }) => row(words(family), [
    bar(exchanged, requested, level(exchanged, requested)), number(requested), share(exchanged, requested),
    used === null ? "–" : share(used, exchanged),
  ])), "Nobody began a login.", 5);
  fill("successes", period.successes.filter(({ all }) => all).map(({ name, good, all }) => row(name, [
    bar(good, all, level(good, all)), share(good, all), number(all),
  ])), "No requests.");
  showErrors(period.errors);
  fill("requests", period.idp.map(({ operation, outcome, count }) => row(operation, [
    words(outcome), bar(count, period.idp[0].count, outcome === "ok" ? "good" : "bad"), number(count),
  ])), "No requests.");
  showFailed(figures.failed);
  showNow(figures.now);
  const points = chosen ? figures.coarse : figures.fine;
  const last = figures.fine.at(-1)?.[0] ?? Date.now() / 1000;
  charts.show(figures.names, points, figures.ceilings, last - [600, 3600, 21_600][chosen], last);
  find("updated").textContent = `${covered(period.seconds)} · updated ${time(last)}`;
}

function covered(seconds) {
  if (seconds < 120) return `The last ${seconds} seconds`;
  return seconds < 7200 ? `The last ${Math.round(seconds / 60)} minutes` : `The last ${(seconds / 3600).toFixed(1)} hours`;
}

async function load() {
  const response = await fetch("figures", { signal: AbortSignal.timeout(PATIENCE) });
  if (!response.ok) throw new Error(response.statusText);
  figures = await response.json();
  heard = Date.now();
  show();
}

/** Events have the latest points only. */
function append(kept, latest, most) {
  return latest.length && latest[0][0] > (kept.at(-1)?.[0] ?? 0) ? [...kept, ...latest].slice(-most) : kept;
}

function hear(event) {
  const news = JSON.parse(event.data);
  if (news.tick !== figures?.tick + 1) return refresh();
  figures = { ...news, fine: append(figures.fine, news.fine, 120), coarse: append(figures.coarse, news.coarse, 180) };
  heard = Date.now();
  show();
}

function refresh() {
  load().catch(() => { find("updated").textContent = "No connection to the metrics listener. Trying again."; });
}

const events = new EventSource("events");
events.onmessage = hear;
document.querySelector("form").addEventListener("change", () => figures && show());
refresh();
// Where there are too many viewers the stream is refused, and the page polls.
setInterval(() => {
  if (events.readyState === EventSource.CLOSED || Date.now() - heard > PATIENCE) refresh();
}, POLLING);

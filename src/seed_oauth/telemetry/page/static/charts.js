// The charts, drawn by uPlot from the points of the server.

const CHARTS = [
  { title: "Logins per minute", lines: { requested: "--accent", exchanged: "--good" } },
  { title: "Failures per minute, by cause", lines: { client: "--client", user: "--user", idp: "--idp", server: "--server" } },
  {
    title: "Exchange with the identity provider", ceiling: "exchange",
    lines: { "exchange P50": "--p50", "exchange P95": "--p95", "exchange P99": "--p99" },
  },
  {
    title: "Time of users at the identity provider", ceiling: "wait",
    lines: { "wait P50": "--p50", "wait P95": "--p95", "wait P99": "--p99" },
  },
];
const HEIGHT = 170;
const MINUTES = [1, 2, 5, 10, 15, 30, 60, 120].map(minutes => minutes * 60);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)}\u00a0ms`;
  return `${seconds < 10 ? Number(seconds.toFixed(2)) : Math.round(seconds)}\u00a0s`;
}

/** A latency; that of the last bucket, which begins at the ceiling, may be longer. */
export function latency(seconds, ceiling) {
  return seconds === ceiling ? `≥ ${ceiling} s` : duration(seconds);
}

const clock = at => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
const rate = value => value === null || value === undefined ? "–" : `${Math.round(value * 10) / 10}`;
const DASHES = [[], [8, 3], [2, 3], [8, 3, 2, 3]];

const name = line => line.replace(/^(exchange|wait) /, "").replace("exchanged", "got tokens");

export class Charts {
  constructor(place) {
    this.drawn = CHARTS.map(chart => {
      const figure = place.appendChild(document.createElement("figure"));
      const caption = figure.appendChild(document.createElement("figcaption"));
      caption.textContent = chart.title;
      const canvas = figure.appendChild(document.createElement("div"));
      canvas.role = "img";
      return { ...chart, canvas, plot: null };
    });
    new ResizeObserver(() => this.drawn.forEach(({ canvas, plot }) => plot?.setSize({ width: canvas.clientWidth, height: HEIGHT })))
      .observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const chart of this.drawn) {
        chart.plot?.destroy();
        chart.plot = null;
      }
      if (this.shown) this.show(...this.shown);
    });
  }

  show(names, points, ceilings, from, to) {
    this.shown = [names, points, ceilings, from, to];
    const column = line => points.map(point => point[names.indexOf(line)]);
    for (const chart of this.drawn) {
      const lines = Object.keys(chart.lines);
      const data = [column("at"), ...lines.map(column)];
      const format = chart.ceiling ? value => latency(value, ceilings[chart.ceiling]) : rate;
      chart.canvas.ariaLabel = `${chart.title}, latest: ` + lines.map((line, at) => `${name(line)} ${format(data[at + 1].at(-1))}`).join(", ");
      chart.plot ??= new uPlot(options(chart, format), data, chart.canvas);
      chart.plot.setData(data, false);
      chart.plot.batch(() => {
        chart.plot.setScale("x", { min: Math.min(Math.max(from, data[0][0] ?? from), to - 60), max: to });
      });
    }
  }
}

function options({ lines, canvas, ceiling }, format) {
  const colour = variable => getComputedStyle(document.documentElement).getPropertyValue(variable);
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--track"), width: 1 }, ticks: { show: false } };
  return {
    width: canvas.clientWidth,
    height: HEIGHT,
    cursor: { sync: { key: "charts" }, drag: { x: false, y: false } },
    scales: { x: { auto: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    series: [
      // Without a pointer over the chart, the legend has the latest values.
      { label: "at", value: (plot, at) => clock(at ?? plot.data[0].at(-1)) },
      ...Object.entries(lines).map(([line, variable], at) => ({
        label: name(line), stroke: colour(variable), dash: DASHES[at], width: 2, spanGaps: true, points: { show: false },
        value: (plot, value, _, hovered) => format(hovered === null ? plot.data[at + 1].at(-1) : value),
      })),
    ],
    axes: [{ ...axis, size: 28, incrs: MINUTES, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 58, values: (_, ticks) => ticks.map(ceiling ? duration : rate) }],
  };
}

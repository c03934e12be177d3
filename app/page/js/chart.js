// A uPlot chart that grows. Raw values faint, smoothed bold, evaluations as points.
import { count } from "./format.js";
import { html, useEffect, useRef } from "./html.js";
import { t } from "./strings.js";
import uPlot from "../vendor/uplot.js";

const FONT = "12px ui-sans-serif, system-ui, sans-serif";
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Called when the colours change, by the switch or by the system. */
export function onTheme(call) {
  const watcher = new MutationObserver(call);
  watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  dark.addEventListener("change", call);
  return () => {
    watcher.disconnect();
    dark.removeEventListener("change", call);
  };
}

const compact = (n) => (n >= 1000 ? `${+(n / 1000).toFixed(2)}k` : String(n));

function options(width, { series, log, height, xName }) {
  const axis = { stroke: token("--subtle"), grid: { stroke: token("--grid"), width: 1 }, ticks: { show: false }, font: FONT };
  return {
    width,
    height,
    cursor: { drag: { x: true, y: false }, focus: { prox: 24 }, points: { size: 6 } },
    legend: { live: true },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
    axes: [
      { ...axis, size: 30, values: (_, values) => values.map(compact) },
      { ...axis, size: 52, values: (_, values) => values.map((n) => (n == null ? "" : +n.toPrecision(3))) },
    ],
    series: [
      { label: xName, value: (_, n) => count(n) },
      ...series.map((one) => ({
        label: one.label,
        stroke: token(one.color),
        alpha: one.alpha ?? 1,
        width: one.width ?? 1.5,
        spanGaps: true,
        paths: one.points ? () => null : undefined,
        points: one.points ? { show: true, size: 7, width: 1.5, fill: token("--surface") } : { show: false },
        value: (_, n) => (n == null ? "–" : n.toFixed(4)),
      })),
    ],
  };
}

/** `data()` gives the columns; `version` is the signal that says that they changed. */
export function Chart({ data, version, series, log = false, height = 260, label, xName = t("Step") }) {
  const box = useRef();
  const plot = useRef();
  useEffect(() => {
    // Its reference is gone before a last frame is.
    const element = box.current;
    // The columns grow in place, so the plot's own data do not tell what it has shown.
    let shown = [];
    const remember = () => {
      const [xs] = plot.current.data;
      shown = [xs[0], xs.at(-1)];
      element.dataset.to = plot.current.scales.x.max ?? "";
    };
    const build = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element.clientWidth, { series, log, height, xName }), data(), element);
      remember();
    };
    build();
    const resize = new ResizeObserver(([entry]) => plot.current.setSize({ width: entry.target.clientWidth, height }));
    resize.observe(element);
    const unwatch = onTheme(build);
    let frame = 0;
    const unsubscribe = version.subscribe(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        // A chart that somebody has zoomed into stays where it is.
        if (!plot.current) return;
        plot.current.setData(data(), !isZoomed(plot.current, shown));
        remember();
      });
    });
    return () => {
      cancelAnimationFrame(frame);
      unsubscribe();
      unwatch();
      resize.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [log, series, data]);
  return html`<div class="chart" ref=${box} role="img" aria-label=${label} />`;
}

function isZoomed(plot, [from, to]) {
  const { min, max } = plot.scales.x;
  return from !== to && min != null && (min > from || max < to);
}

/** A curve of a few dozen points, for a row of a table. */
export function Sparkline({ values }) {
  const canvas = useRef();
  useEffect(() => {
    const draw = () => {
      const { current } = canvas;
      const scale = devicePixelRatio;
      const [width, height] = [96, 20];
      current.width = width * scale;
      current.height = height * scale;
      const known = values.filter(Number.isFinite);
      if (known.length < 2) return;
      const low = Math.min(...known);
      const span = Math.max(...known) - low || 1;
      const pen = current.getContext("2d");
      pen.scale(scale, scale);
      pen.strokeStyle = token("--c1");
      pen.lineWidth = 1.5;
      pen.lineJoin = "round";
      pen.beginPath();
      known.forEach((value, i) => {
        pen.lineTo(1 + (i / (known.length - 1)) * (width - 2), height - 2 - ((value - low) / span) * (height - 4));
      });
      pen.stroke();
    };
    draw();
    return onTheme(draw);
  }, [values]);
  return html`<canvas class="spark" ref=${canvas} width="96" height="20" aria-hidden="true" />`;
}

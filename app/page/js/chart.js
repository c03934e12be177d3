// A uPlot chart that grows. Raw values faint, smoothed bold, evaluations as points.
import { html, useEffect, useRef, useSignal } from "./html.js";
import { t } from "./strings.js";
import uPlot from "../vendor/uplot.js";

const FONT = "12px ui-sans-serif, system-ui, sans-serif";
const MARK = 5;
/** Steps, tokens and seconds are counted in whole numbers. */
const WHOLE = Array.from({ length: 13 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** i)).flat();
/** Steps of an axis of bytes that are round numbers of KiB, MiB and GiB. */
const WHOLE_BYTES = Array.from({ length: 40 }, (_, i) => 2 ** (i + 10));
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

const compact = (n) => (n >= 1e6 ? `${+(n / 1e6).toFixed(2)}M` : n >= 1000 ? `${+(n / 1000).toFixed(2)}k` : String(+n.toPrecision(6)));
const exact = (n) => (n == null ? "–" : n !== 0 && Math.abs(n) < 0.001 ? n.toExponential(3) : n.toFixed(4));

function options(width, { series, log, height, xName, xText = compact, xIncrs, yText, fromZero, sync, marks, onZoom }) {
  const axis = { stroke: token("--subtle"), grid: { stroke: token("--grid"), width: 1 }, ticks: { show: false }, font: FONT };
  const shown = yText ?? exact;
  const y = fromZero ? { range: (_, __, max) => [0, (max || 1) * 1.08] } : { distr: log ? 3 : 1 };
  return {
    width,
    height,
    cursor: { drag: { x: true, y: false, dist: 4 }, focus: { prox: 24 }, points: { size: 6 }, sync: sync && { key: sync } },
    legend: { live: true },
    scales: { x: { time: false }, y },
    axes: [
      { ...axis, size: 30, incrs: xIncrs ?? WHOLE, space: 64, values: (_, values) => values.map(xText) },
      { ...axis, size: yText ? 66 : 52, ...(yText && { incrs: WHOLE_BYTES }), values: (_, values) => values.map((n) => (n == null ? "" : yText ? yText(n) : Math.abs(n) >= 10_000 ? compact(n) : +n.toPrecision(3))) },
    ],
    series: [
      { label: xName, value: (_, n) => (n == null ? "–" : xText(n)) },
      ...series.map((one) => ({
        label: one.label,
        stroke: token(one.color),
        alpha: one.alpha ?? 1,
        width: one.width ?? 1.5,
        dash: one.dash,
        spanGaps: true,
        paths: one.points ? () => null : undefined,
        points: one.points ? { show: true, size: 7, width: 1.5, fill: token("--surface") } : { show: false },
        value: (_, n) => (n == null ? "–" : shown(n)),
      })),
    ],
    hooks: { draw: marks ? [(plot) => drawMarks(plot, marks())] : [], setScale: [(plot, scale) => scale === "x" && onZoom(plot)] },
  };
}

/** Checkpoints as ticks on the axis; where another attempt went on, a line from top to bottom. */
function drawMarks({ ctx, bbox, valToPos }, marks) {
  const scale = devicePixelRatio;
  const bottom = bbox.top + bbox.height;
  ctx.save();
  for (const { x, color, isLine } of marks) {
    const left = valToPos(x, "x", true);
    if (!(left >= bbox.left - 1 && left <= bbox.left + bbox.width + 1)) continue;
    ctx.strokeStyle = ctx.fillStyle = token(color);
    ctx.lineWidth = scale;
    ctx.setLineDash([3 * scale, 3 * scale]);
    ctx.beginPath();
    if (isLine) {
      ctx.moveTo(left, bbox.top);
      ctx.lineTo(left, bottom);
      ctx.stroke();
    } else {
      ctx.moveTo(left, bottom - MARK * scale);
      ctx.lineTo(left - MARK * scale, bottom + MARK * scale);
      ctx.lineTo(left + MARK * scale, bottom + MARK * scale);
      ctx.fill();
    }
  }
  ctx.restore();
}

/**
 * `data()` gives the columns; `version` is the signal that says that they changed. Dragging zooms,
 * a double click goes back; `marks()` are shown on the axis.
 */
export function Chart(props) {
  const { data, version, series, height = 260, label, log = false, xName = t("Step"), xText, marks } = props;
  const box = useRef();
  const plot = useRef();
  const zoomed = useSignal(false);
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
    const onZoom = (one) => {
      const range = one.scales.x;
      zoomed.value = isZoomed(one, [one.data[0][0], one.data[0].at(-1)]);
      element.dataset.range = range.min == null ? "" : `${range.min}-${range.max}`;
    };
    const build = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element.clientWidth, { ...props, log, height, xName, onZoom }), data(), element);
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
  }, [log, series, data, xName, xText, marks]);
  const whole = () => {
    const [xs] = plot.current.data;
    plot.current.setScale("x", { min: xs[0], max: xs.at(-1) });
  };
  return html`<div class="chart-frame"><div class="chart" ref=${box} role="img" aria-label=${label} title=${t("Drag to zoom, double-click to go back")} />
    ${zoomed.value && html`<button class="mini unzoom" onClick=${whole}>${t("Whole curve")}</button>`}</div>`;
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

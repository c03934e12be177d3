// The charts of a job: losses, memory, and whatever else was logged.
import { download } from "./api.js";
import { AXES, AxisSwitch, PointTable, TableButton, axisOf, marksOf, xsOf } from "./axis.js";
import { Chart } from "./chart.js";
import { bytes, count, duration } from "./format.js";
import { html, useEffect, useRef, useSignal } from "./html.js";
import { isOver } from "./live.js";
import { Card, isTyping } from "./parts.js";
import { Smoother } from "./smooth.js";
import { t } from "./strings.js";

const OWN = ["step", "total_steps", "train_loss", "valid_loss", "epoch", "memory_bytes", "logged_at"];
const LOSSES = ["train_loss", "valid_loss"];
const DASH = [6, 4];
/** A capacity that is further above what is used would only press the curve flat. */
const NEAR = 4;

const positive = (values, log) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
const column = (columns, name) => (columns[name]?.length === columns.step.length ? columns[name] : columns.step.map(() => null));

/** Props of a chart whose x axis is the one that was chosen. */
function useAxis(live) {
  const marks = useRef(() => marksOf(live)).current;
  const name = axisOf(live.columns);
  return { name, props: { xName: t(AXES[name].name), xText: AXES[name].text, xIncrs: AXES[name].incrs, version: live.version, sync: live.id, marks } };
}

export function Losses({ live }) {
  const weight = useSignal(Number(localStorage.getItem("smoothing") ?? 0.8));
  const log = useSignal(false);
  const table = useSignal(false);
  const smoother = useRef(null);
  const slider = useRef();
  const kept = useRef(null);
  kept.current ??= {
    series: [
      { label: t("train"), color: "--c1", alpha: 0.28, width: 1 },
      { label: t("smoothed"), color: "--c1", width: 2 },
      { label: t("eval"), color: "--c2", points: true },
    ],
    data: () => {
      const { columns } = live;
      const train = column(columns, "train_loss");
      const state = smoother.current;
      const isSame = state?.of === train && state.smoother.weight === weight.value && state.smoother.out.length <= train.length;
      if (!isSame) smoother.current = { of: train, smoother: new Smoother(weight.value) };
      const smooth = smoother.current.smoother.extend(train);
      const lines = [train, smooth, column(columns, "valid_loss")];
      return [xsOf(columns, axisOf(columns)), ...lines.map((values) => positive(values, log.value))];
    },
  };
  useEffect(() => {
    const onKey = (event) => {
      if (isTyping(event)) return;
      if (event.key === "s") slider.current.focus();
      if (event.key === "y") log.value = !log.value;
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const setWeight = (value) => {
    weight.value = value;
    localStorage.setItem("smoothing", value);
    live.version.value++;
  };
  live.version.value;
  const { name, props } = useAxis(live);
  const points = live.columns.step.length;
  const label = t("Training and evaluation loss by step");
  const tools = html`<label>${t("Smoothing")} <input type="range" min="0" max="0.99" step="0.01" ref=${slider} value=${weight.value}
      onInput=${(e) => setWeight(Number(e.target.value))} /><output class="num">${weight.value.toFixed(2)}</output></label>
    <${AxisSwitch} columns=${live.columns} />
    <button aria-pressed=${String(log.value)} onClick=${() => (log.value = !log.value)}>${t("Log scale")}</button>
    <${TableButton} shown=${table} />
    <button onClick=${() => download(`${live.base}/metrics?format=csv`, `${live.id}.csv`)}>CSV</button>`;
  return html`<${Card} title=${t("Loss")} tools=${tools} data-points=${points}>
    ${points === 0 && html`<p class="empty">${waiting(live.job.value)}</p>`}
    ${table.value
      ? html`<${PointTable} columns=${live.columns} names=${LOSSES} label=${label} />`
      : html`<${Chart} key=${name} data=${kept.current.data} series=${kept.current.series} log=${log.value} label=${label} ...${props} />`}
    <${Legend} live=${live} /><//>`;
}

/** What the marks on the axis mean, once there are some. */
function Legend({ live }) {
  const again = (live.job.value.attempts ?? []).some((one) => one.number > 1 && one.resumed_from_step > 0);
  if (!again && live.checkpoints.value.length === 0) return null;
  return html`<p class="legend"><small>${live.checkpoints.value.length > 0 && html`<i class="tick" aria-hidden="true">▲</i> ${t("checkpoint")}`}
    ${again && html` <i class="again" aria-hidden="true">┆</i> ${t("another attempt went on here")}`}</small></p>`;
}

/** Why there is no curve yet, and when there will be. */
function waiting(job) {
  if (isOver(job)) return t("This job logged no losses.");
  if (job.status !== "running") return t("The curve begins when the job runs.");
  const n = job.training.logging_steps ?? 10;
  const first = t("The first point comes after step {n}.", { n: count(n) });
  const seconds = n * (job.plan?.seconds_per_step ?? 0);
  const about = seconds >= 1 ? ` ${t("That is about {time} of training.", { time: duration(seconds) })}` : "";
  return `${job.progress.phase && job.progress.phase !== "train" ? `${t("Now: {phase}.", { phase: t(job.progress.phase) })} ` : ""}${first}${about}`;
}

/** Memory over the job, against what was planned and what there is. */
export function MemoryChart({ live, workers }) {
  const table = useSignal(false);
  const kept = useRef(null);
  live.version.value;
  const { name, props } = useAxis(live);
  if (!live.columns.memory_bytes) return null;
  const job = live.job.value;
  const worker = workers.find((one) => one.id === job.attempts?.at(-1)?.worker);
  const isOnGpu = worker?.facts.device === "cuda";
  const capacity = job.resources?.memory ?? worker?.facts[isOnGpu ? "device_memory_bytes" : "memory_bytes"];
  const planned = job.plan?.peak_memory_bytes;
  const most = Math.max(planned ?? 0, live.columns.memory_bytes.reduce((high, value) => Math.max(high, value ?? 0), 0));
  const limit = capacity && capacity <= most * NEAR ? capacity : null;
  if (kept.current?.of !== `${planned} ${limit}`) {
    const lines = [
      { label: t("used"), color: "--c3" },
      planned && { label: t("planned peak"), color: "--c5", dash: DASH, value: planned },
      limit && { label: t("capacity"), color: "--failed", width: 1, value: limit },
    ].filter(Boolean);
    const flat = lines.slice(1).map((line) => line.value);
    kept.current = {
      of: `${planned} ${limit}`,
      series: lines,
      data: () => {
        const xs = xsOf(live.columns, axisOf(live.columns));
        return [xs, column(live.columns, "memory_bytes"), ...flat.map((value) => xs.map(() => value))];
      },
    };
  }
  const title = worker?.facts.device === "cuda" ? t("GPU memory") : t("Memory");
  return html`<${Card} title=${title} tools=${html`${capacity && !limit && html`<small class="num">${t("{all} on the worker", { all: bytes(capacity) })}</small>`}<${TableButton} shown=${table} />`}>
    ${table.value
      ? html`<${PointTable} columns=${live.columns} names=${["memory_bytes"]} label=${title} />`
      : html`<${Chart} key=${name} data=${kept.current.data} series=${kept.current.series} height=${180} yText=${bytes} fromZero label=${t("Memory used by step")} ...${props} />`}<//>`;
}

export function Others({ live }) {
  const chosen = useSignal(null);
  const table = useSignal(false);
  const kept = useRef({});
  live.version.value;
  const { name: axis, props } = useAxis(live);
  const names = Object.keys(live.columns).filter((name) => !OWN.includes(name));
  if (!names.length) return null;
  const name = chosen.value;
  if (name && kept.current.name !== name) {
    kept.current = {
      name,
      series: [{ label: name, color: "--c3", points: name.startsWith("valid_") }],
      data: () => [xsOf(live.columns, axisOf(live.columns)), column(live.columns, name)],
    };
  }
  return html`<${Card} title=${t("More metrics")} tools=${name && html`<${TableButton} shown=${table} />`}>
    <div class="tabs wrap">${names.map((one) => html`<button key=${one} class="mini" aria-pressed=${String(one === name)}
      onClick=${() => (chosen.value = one === name ? null : one)}>${one}</button>`)}</div>
    ${name && (table.value
      ? html`<${PointTable} columns=${live.columns} names=${[name]} label=${name} />`
      : html`<${Chart} key=${`${name} ${axis}`} data=${kept.current.data} series=${kept.current.series} height=${160} label=${name} ...${props} />`)}<//>`;
}

// Up to six jobs: their curves over each other, and what was set differently.
import { get } from "./api.js";
import { AXES, AxisSwitch, TableButton, axisOf, xsOf } from "./axis.js";
import { Chart } from "./chart.js";
import { html, signal, useEffect, useRef, useSignal } from "./html.js";
import { bytes, count, duration, loss, nameOf, plain } from "./format.js";
import { Card, Notice, Pill, stateOf } from "./parts.js";
import { place, setQuery } from "./router.js";
import { Smoother } from "./smooth.js";
import { t } from "./strings.js";

const MOST = 6;
const POINTS = 2000;
const JOBS = "/v1/fine_tuning/jobs";
const METRICS = { train_loss: "Train loss", valid_loss: "Eval loss" };

async function load(ids) {
  return Promise.all(
    ids.map(async (id) => {
      const [job, columns] = await Promise.all([get(`${JOBS}/${id}`), get(`${JOBS}/${id}/metrics?max_points=${POINTS}`)]);
      return { job, columns };
    }),
  );
}

/** One x axis for all; a job has a gap where another one has a point. */
function overlay(runs, metric, axis, weight) {
  const lines = runs.map(({ columns }) => {
    const xs = xsOf(columns, axis);
    const values = columns[metric] ?? xs.map(() => null);
    return { xs, values: metric === "train_loss" && weight ? new Smoother(weight).extend(values) : values };
  });
  const all = [...new Set(lines.flatMap((line) => line.xs))].sort((a, b) => a - b);
  const row = new Map(all.map((x, i) => [x, i]));
  const curves = lines.map(({ xs, values }) => {
    const out = all.map(() => null);
    xs.forEach((x, i) => (out[row.get(x)] = values[i] ?? out[row.get(x)]));
    return out;
  });
  return [all, ...curves];
}

const flat = (kind, values) => Object.fromEntries(Object.entries(values ?? {}).map(([name, value]) => [`${kind}.${name}`, value]));

/** What each job really used, where it got that far, else what was asked for. */
function settingsOf({ job }) {
  const { model, training_file, validation_file, seed } = job;
  return { model, training_file, validation_file, seed, ...job.training, ...job.resolved?.training, ...flat("peft", job.peft), ...flat("quantization", job.quantization), ...flat("dataset", job.dataset) };
}

const lowest = (values) => values?.reduce((low, value) => (value == null || (low != null && low <= value) ? low : value), null) ?? null;
const last = (values) => values?.findLast((value) => value != null) ?? null;

/** What came of it, a row for each. */
const RESULTS = [
  ["Train loss", (run) => loss(last(run.columns.train_loss))],
  ["Eval loss", (run) => loss(last(run.columns.valid_loss))],
  ["Best eval loss", (run) => loss(lowest(run.columns.valid_loss))],
  ["Steps", ({ job }) => count(job.progress.step)],
  ["Time", ({ job }) => duration(job.started_at && job.finished_at ? job.finished_at - job.started_at : null)],
  ["Peak memory", ({ job }) => bytes(job.measured?.peak_memory_bytes)],
];

export function Compare() {
  const ids = (place.value.query.get("ids") ?? "").split(",").filter(Boolean).slice(0, MOST);
  const runs = useSignal([]);
  const others = useSignal([]);
  const error = useSignal(null);
  useEffect(() => {
    load(ids).then((found) => (runs.value = found)).catch((problem) => (error.value = problem));
    get(`${JOBS}?limit=100`).then((page) => (others.value = page.data)).catch((problem) => (error.value = problem));
  }, [ids.join()]);
  const free = others.value.filter((job) => !ids.includes(job.id));
  const set = (list) => setQuery({ ids: list.join(",") });
  return html`<div class="title"><h1>${t("Compare")}</h1><span class="grow" />
      ${ids.length < MOST && html`<select aria-label=${t("Add a job")} value="" onChange=${(e) => e.target.value && set([...ids, e.target.value])}>
        <option value="">${t("Add a job")}</option>${free.map((job) => html`<option key=${job.id} value=${job.id}>${nameOf(job)}</option>`)}</select>`}</div>
    <${Notice} error=${error.value} />
    ${ids.length === 0 && html`<p class="card empty">${t("Choose up to six jobs to lay their curves over each other.")}</p>`}
    ${runs.value.length > 0 && html`<${Curves} runs=${runs.value} />
      <${Differences} runs=${runs.value} drop=${(id) => set(ids.filter((one) => one !== id))} />`}`;
}

function Curves({ runs }) {
  const metric = useSignal("train_loss");
  const weight = useSignal(0);
  const log = useSignal(false);
  const table = useSignal(false);
  const version = useRef(signal(0)).current;
  const axis = runs.every((run) => axisOf(run.columns) !== "step") ? axisOf(runs[0].columns) : "step";
  const kept = useRef({});
  const of = `${metric.value} ${weight.value} ${axis} ${log.value}`;
  if (kept.current.runs !== runs || kept.current.of !== of) {
    const data = overlay(runs, metric.value, axis, weight.value);
    if (log.value) for (const values of data.slice(1)) values.forEach((value, i) => value > 0 || (values[i] = null));
    kept.current = { runs, of, all: data, data: () => data, series: runs.map(({ job }, i) => ({ label: nameOf(job), color: `--c${i + 1}`, width: 1.5, points: metric.value === "valid_loss" && data[0].length < 2 })) };
  }
  const title = t(METRICS[metric.value]);
  const tools = html`${Object.entries(METRICS).map(([name, words]) => html`<button key=${name} aria-pressed=${String(metric.value === name)} onClick=${() => (metric.value = name)}>${t(words)}</button>`)}
    <label>${t("Smoothing")} <input type="range" min="0" max="0.99" step="0.01" value=${weight.value} onInput=${(e) => (weight.value = Number(e.target.value))} /><output class="num">${weight.value.toFixed(2)}</output></label>
    <${AxisSwitch} columns=${runs[0].columns} />
    <button aria-pressed=${String(log.value)} onClick=${() => (log.value = !log.value)}>${t("Log scale")}</button><${TableButton} shown=${table} />`;
  return html`<${Card} title=${title} tools=${tools}>${table.value
    ? html`<${Rows} data=${kept.current.all} runs=${runs} axis=${axis} label=${title} />`
    : html`<${Chart} key=${of} data=${kept.current.data} version=${version} series=${kept.current.series} height=${320} log=${log.value} label=${title} xName=${t(AXES[axis].name)} xText=${AXES[axis].text} xIncrs=${AXES[axis].incrs} />`}<//>`;
}

function Rows({ data: [xs, ...curves], runs, axis, label }) {
  return html`<div class="scroll-table" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr><th scope="col">${t(AXES[axis].name)}</th>${runs.map(({ job }) => html`<th scope="col" key=${job.id}><bdi>${nameOf(job)}</bdi></th>`)}</tr></thead>
    <tbody>${xs.slice(-200).map((x, i, shown) => html`<tr key=${x}><td class="num">${AXES[axis].text(x)}</td>${curves.map((values, k) => html`<td key=${k} class="num">${loss(values[xs.length - shown.length + i])}</td>`)}</tr>`)}</tbody></table></div>`;
}

function Differences({ runs, drop }) {
  const all = useSignal(false);
  const settings = runs.map(settingsOf);
  const names = [...new Set(settings.flatMap(Object.keys))];
  const differs = (name) => new Set(settings.map((one) => JSON.stringify(one[name] ?? null))).size > 1;
  const shown = names.filter((name) => all.value || runs.length === 1 || differs(name));
  const value = (one) => (one == null ? "–" : plain(typeof one === "string" ? one : JSON.stringify(one), 200));
  const tools = html`<button aria-pressed=${String(!all.value)} onClick=${() => (all.value = !all.value)}>${t("Differences only")}</button>`;
  return html`<${Card} title=${t("Settings")} tools=${tools}><div class="scroll-table" tabindex="0" role="region" aria-label=${t("Settings")}><table class="compared">
    <thead><tr><td />${runs.map(({ job }, i) => html`<th scope="col" key=${job.id}><i class=${`swatch c${i + 1}`} aria-hidden="true" /><a href=${`/jobs/${job.id}`}><bdi>${nameOf(job)}</bdi></a>
      <button class="mini" aria-label=${t("Remove {name}", { name: nameOf(job) })} onClick=${() => drop(job.id)}>×</button></th>`)}</tr></thead>
    <tbody><tr><th scope="row">${t("Status")}</th>${runs.map(({ job }) => html`<td key=${job.id}><${Pill} state=${stateOf(job)} /></td>`)}</tr>
      ${RESULTS.map(([name, text]) => html`<tr key=${name}><th scope="row">${t(name)}</th>${runs.map((run) => html`<td key=${run.job.id} class="num">${text(run)}</td>`)}</tr>`)}
      ${shown.map((name) => html`<tr key=${`set ${name}`} class=${differs(name) ? "differs" : ""}><th scope="row"><code>${name}</code></th>${settings.map((one, i) => html`<td key=${i} class="num"><bdi>${value(one[name])}</bdi></td>`)}</tr>`)}</tbody></table></div>
    ${shown.length === 0 && html`<p class="empty">${t("All settings are the same.")}</p>`}<//>`;
}

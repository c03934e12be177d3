// Up to six jobs: their curves over each other, and what was set differently.
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { html, signal, useEffect, useRef, useSignal } from "./html.js";
import { loss, nameOf, plain } from "./format.js";
import { Card, Notice, Pill, stateOf } from "./parts.js";
import { place, setQuery } from "./router.js";
import { t } from "./strings.js";

const MOST = 6;
const POINTS = 2000;
const JOBS = "/v1/fine_tuning/jobs";

async function load(ids) {
  return Promise.all(
    ids.map(async (id) => {
      const [job, columns] = await Promise.all([get(`${JOBS}/${id}`), get(`${JOBS}/${id}/metrics?max_points=${POINTS}`)]);
      return { job, columns };
    }),
  );
}

/** One x axis for all; a job has a gap where another one has a step. */
function overlay(runs) {
  const steps = [...new Set(runs.flatMap((run) => run.columns.step))].sort((a, b) => a - b);
  const row = new Map(steps.map((step, i) => [step, i]));
  const curves = runs.map(({ columns }) => {
    const values = steps.map(() => null);
    columns.step.forEach((step, i) => (values[row.get(step)] = columns.train_loss?.[i] ?? null));
    return values;
  });
  return [steps, ...curves];
}

function settingsOf({ job }) {
  return { model: job.model, training_file: job.training_file, seed: job.seed, ...job.training, peft: job.peft && JSON.stringify(job.peft) };
}

export function Compare() {
  const ids = (place.value.query.get("ids") ?? "").split(",").filter(Boolean).slice(0, MOST);
  const runs = useSignal([]);
  const others = useSignal([]);
  const error = useSignal(null);
  const version = useRef(signal(0)).current;
  useEffect(() => {
    load(ids).then((found) => (runs.value = found)).catch((problem) => (error.value = problem));
    get(`${JOBS}?limit=100`).then((page) => (others.value = page.data)).catch((problem) => (error.value = problem));
  }, [ids.join()]);
  const kept = useRef({});
  if (kept.current.runs !== runs.value) {
    const data = overlay(runs.value);
    kept.current = {
      runs: runs.value,
      data: () => data,
      series: runs.value.map(({ job }, i) => ({ label: nameOf(job), color: `--c${i + 1}`, width: 1.5 })),
    };
  }
  const free = others.value.filter((job) => !ids.includes(job.id));
  const set = (list) => setQuery({ ids: list.join(",") });
  return html`<div class="title"><h1>${t("Compare")}</h1><span class="grow" />
      ${ids.length < MOST && html`<select aria-label=${t("Add a job")} value="" onChange=${(e) => set([...ids, e.target.value])}>
        <option value="">${t("Add a job")}</option>${free.map((job) => html`<option key=${job.id} value=${job.id}>${nameOf(job)}</option>`)}</select>`}</div>
    <${Notice} error=${error.value} />
    ${runs.value.length > 0 && html`<${Card} title=${t("Train loss")}><${Chart} key=${ids.join()} data=${kept.current.data} version=${version} series=${kept.current.series} height=${320} label=${t("Train loss")} /><//>
      <${Differences} runs=${runs.value} drop=${(id) => set(ids.filter((one) => one !== id))} />`}`;
}

function Differences({ runs, drop }) {
  const all = useSignal(false);
  const settings = runs.map(settingsOf);
  const names = [...new Set(settings.flatMap(Object.keys))];
  const differs = (name) => new Set(settings.map((one) => JSON.stringify(one[name]))).size > 1;
  const shown = names.filter((name) => all.value || runs.length === 1 || differs(name));
  const last = (run) => run.columns.train_loss?.findLast((value) => value != null) ?? null;
  const tools = html`<button aria-pressed=${String(!all.value)} onClick=${() => (all.value = !all.value)}>${t("Differences only")}</button>`;
  return html`<${Card} title=${t("Settings")} tools=${tools}><div class="scroll-table" tabindex="0" role="region" aria-label=${t("Settings")}><table>
    <thead><tr><td />${runs.map(({ job }) => html`<th scope="col" key=${job.id}><a href=${`/jobs/${job.id}`}><bdi>${nameOf(job)}</bdi></a>
      <button class="mini" aria-label=${t("Remove {name}", { name: nameOf(job) })} onClick=${() => drop(job.id)}>×</button></th>`)}</tr></thead>
    <tbody><tr><th scope="row">${t("Status")}</th>${runs.map(({ job }) => html`<td key=${job.id}><${Pill} state=${stateOf(job)} /></td>`)}</tr>
      <tr><th scope="row">${t("Train loss")}</th>${runs.map((run) => html`<td key=${run.job.id} class="num">${loss(last(run))}</td>`)}</tr>
      ${shown.map((name) => html`<tr key=${name}><th scope="row">${name}</th>${settings.map((one, i) => html`<td key=${i} class="num"><bdi>${plain(String(one[name] ?? "–"), 200)}</bdi></td>`)}</tr>`)}</tbody></table></div><//>`;
}

// All jobs, live: what waits for what, how far it is, how it learns.
import { get } from "./api.js";
import { Sparkline } from "./chart.js";
import { absolute, ago, count, duration, loss, nameOf, percent, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { isOver } from "./live.js";
import { Bar, Copy, Notice, Pill, stateOf, usePoll } from "./parts.js";
import { go, place, setQuery } from "./router.js";
import { t } from "./strings.js";

const PAGE = 50;
const STATUSES = ["running", "queued", "paused", "succeeded", "failed", "cancelled"];
const EXAMPLE = "tuneyard submit MODEL --file train.jsonl --watch";

/** Short pictures of the curves by job; those of jobs that are over are fetched once. */
const curves = new Map();

async function drawCurves(jobs, changed) {
  for (const job of jobs) {
    const known = curves.get(job.id);
    if (!job.progress.step || (known && known.step === job.progress.step && known.status === job.status)) continue;
    const columns = await get(`/v1/fine_tuning/jobs/${job.id}/metrics?max_points=48`);
    curves.set(job.id, { step: job.progress.step, status: job.status, columns });
    changed();
  }
}

const lastOf = (values) => values?.findLast((value) => value != null) ?? null;

function order(jobs) {
  const rank = (job) => (isOver(job) ? 1 : 0);
  return [...jobs].sort((a, b) => rank(a) - rank(b) || b.created_at - a.created_at);
}

function matches(job, query) {
  const status = query.get("status");
  const wanted = (query.get("q") ?? "").toLowerCase();
  const text = `${job.id} ${job.user_provided_suffix ?? ""} ${job.model}`.toLowerCase();
  return (!status || job.status === status) && text.includes(wanted);
}

export function Jobs() {
  const jobs = useSignal(null);
  const more = useSignal(false);
  const pages = useSignal(1);
  const error = useSignal(null);
  const drawn = useSignal(0);
  const ticked = useSignal([]);
  const look = async () => {
    try {
      let all = [];
      let page = { has_more: true };
      for (let i = 0; i < pages.value && page.has_more; i++) {
        page = await get(`/v1/fine_tuning/jobs?limit=${PAGE}${page.last_id ? `&after=${page.last_id}` : ""}`);
        all = all.concat(page.data);
      }
      jobs.value = order(all);
      more.value = page.has_more;
      error.value = null;
      await drawCurves(jobs.value.filter((job) => matches(job, place.value.query)), () => drawn.value++);
    } catch (problem) {
      error.value = problem;
    }
  };
  usePoll(look, 2);
  drawn.value;
  const { query } = place.value;
  const shown = jobs.value?.filter((job) => matches(job, query));
  const tick = (id) =>
    (ticked.value = ticked.value.includes(id) ? ticked.value.filter((one) => one !== id) : [...ticked.value, id].slice(-6));
  return html`<div class="title"><h1>${t("Jobs")}</h1><span class="grow" />
      <input type="search" aria-label=${t("Search jobs")} placeholder=${t("Name, id or model")} value=${query.get("q") ?? ""}
        onInput=${(e) => setQuery({ q: e.target.value })} />
      <select aria-label=${t("Status")} value=${query.get("status") ?? ""} onChange=${(e) => setQuery({ status: e.target.value })}>
        <option value="">${t("All")}</option>${STATUSES.map((one) => html`<option key=${one} value=${one}>${t(one)}</option>`)}</select>
      <button disabled=${ticked.value.length < 2} onClick=${() => go(`/compare?ids=${ticked.value.join(",")}`)}>${t("Compare")}</button></div>
    <${Notice} error=${error.value} />
    ${shown && (jobs.value.length === 0 ? html`<${Empty} />` : html`<${Table} jobs=${shown} ticked=${ticked.value} tick=${tick} />`)}
    ${more.value && html`<p class="center"><button onClick=${() => (pages.value++, look())}>${t("Older jobs")}</button></p>`}`;
}

function Table({ jobs, ticked, tick }) {
  if (jobs.length === 0) return html`<p class="card empty">${t("No job matches these filters.")}</p>`;
  return html`<div class="card wide" role="region" aria-label=${t("Jobs")} tabindex="0"><table class="jobs"><thead><tr>
      <th><span class="hidden">${t("Compare")}</span></th>
      ${["Name", "Status", "Progress", "Train loss", "Eval loss", "Curve", "Time", "Created"].map((name) => html`<th key=${name} scope="col">${t(name)}</th>`)}
    </tr></thead><tbody>${jobs.map((job) => html`<${Row} key=${job.id} job=${job} isTicked=${ticked.includes(job.id)} tick=${tick} />`)}</tbody></table></div>`;
}

function Row({ job, isTicked, tick }) {
  const columns = curves.get(job.id)?.columns;
  const { fraction, step, total_steps } = job.progress;
  const name = nameOf(job);
  return html`<tr>
    <td><input type="checkbox" aria-label=${t("Compare {name}", { name })} checked=${isTicked} onChange=${() => tick(job.id)} /></td>
    <th scope="row"><a href=${`/jobs/${job.id}`}><bdi>${name}</bdi></a><small><bdi>${plain(job.model, 60)}</bdi>${job.peft ? " · LoRA" : ""}</small>
      ${job.error && html`<small class="bad">${plain(job.error.message, 160)}</small>`}</th>
    <td><${Pill} state=${stateOf(job)} />${job.queue && html`<small>${job.queue.reason}</small>`}</td>
    <td class="progress"><${Bar} fraction=${fraction} label=${t("Progress of {name}", { name })} />
      <small class="num">${percent(fraction)}${total_steps ? ` · ${count(step)} / ${count(total_steps)}` : ""}</small></td>
    <td class="num">${loss(lastOf(columns?.train_loss))}</td><td class="num">${loss(lastOf(columns?.valid_loss))}</td>
    <td>${columns?.train_loss && html`<${Sparkline} values=${columns.train_loss} />`}</td>
    <td class="num">${timeOf(job)}</td>
    <td class="num" title=${absolute(job.created_at)}>${ago(job.created_at)}</td></tr>`;
}

function timeOf(job) {
  if (job.estimated_finish) return t("{time} left", { time: duration(job.estimated_finish - Date.now() / 1000) });
  return job.started_at && job.finished_at ? duration(job.finished_at - job.started_at) : "–";
}

function Empty() {
  return html`<div class="card empty"><p>${t("No jobs yet. Start one here, or in a terminal:")}</p>
    <p><code>${EXAMPLE}</code> <${Copy} text=${EXAMPLE} /></p><p><a class="btn primary" href="/new">${t("New job")}</a></p></div>`;
}

// All jobs, live: what waits for what, how far it is, how it learns.
import { get, post } from "./api.js";
import { Sparkline } from "./chart.js";
import { absolute, ago, count, duration, loss, nameOf, percent, plain } from "./format.js";
import { html, useEffect, useSignal } from "./html.js";
import { isOver } from "./live.js";
import { Bar, Copy, Dialog, Loading, Notice, Pill, isTyping, stateOf, usePoll, waitsFor } from "./parts.js";
import { go, place, setQuery } from "./router.js";
import { t } from "./strings.js";

const JOBS = "/v1/fine_tuning/jobs";
const PAGE = 50;
const MOST_TICKED = 6;
const STATUSES = ["running", "queued", "paused", "succeeded", "failed", "cancelled"];
const EXAMPLE = "tuneyard submit MODEL --file train.jsonl --watch";

/** Short pictures of the curves by job; those of jobs that are over are fetched once. */
const curves = new Map();

async function drawCurves(jobs, changed) {
  for (const job of jobs) {
    const known = curves.get(job.id);
    if (!job.progress.step || (known && known.step === job.progress.step && known.status === job.status)) continue;
    const columns = await get(`${JOBS}/${job.id}/metrics?max_points=48`);
    curves.set(job.id, { step: job.progress.step, status: job.status, columns });
    changed();
  }
}

const lastOf = (values) => values?.findLast((value) => value != null) ?? null;

function order(jobs) {
  const rank = (job) => (isOver(job) ? 1 : 0);
  return [...jobs].sort((a, b) => rank(a) - rank(b) || b.created_at - a.created_at);
}

/** A page of jobs by the filters in the address; the server looks at all jobs, not at a page of them. */
function pageUrl(query, after) {
  const asked = new URLSearchParams({ limit: PAGE });
  if (query.get("status")) asked.set("status", query.get("status"));
  if (query.get("q")) asked.set("search", query.get("q"));
  for (const [name, value] of query) if (name.startsWith("metadata[")) asked.set(name, value);
  if (after) asked.set("after", after);
  return `${JOBS}?${asked}`;
}

/** `j` and `k` move, Enter opens, `x` ticks, `c` compares. */
function useListKeys(jobs, at, tick, compare) {
  useEffect(() => {
    const onKey = (event) => {
      const list = jobs.value ?? [];
      if (isTyping(event) || !list.length) return;
      const move = (by) => {
        at.value = Math.min(list.length - 1, Math.max(0, at.value + by));
        document.querySelectorAll("table.jobs tbody th a")[at.value]?.focus();
      };
      if (event.key === "j") move(1);
      else if (event.key === "k") move(-1);
      else if (event.key === "x" && at.value >= 0) tick(list[at.value].id);
      else if (event.key === "c") compare();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

export function Jobs() {
  const jobs = useSignal(null);
  const more = useSignal(false);
  const pages = useSignal(1);
  const error = useSignal(null);
  const drawn = useSignal(0);
  const ticked = useSignal([]);
  const at = useSignal(-1);
  const asking = useSignal(false);
  const { query } = place.value;
  const asked = pageUrl(query);
  const look = async () => {
    const now = place.value.query;
    try {
      let all = [];
      let page = { has_more: true };
      for (let i = 0; i < pages.value && page.has_more; i++) {
        page = await get(pageUrl(now, page.last_id));
        all = all.concat(page.data);
      }
      // A filter that changed meanwhile has its own answer coming.
      if (pageUrl(now) !== pageUrl(place.value.query)) return;
      jobs.value = order(all);
      more.value = page.has_more;
      error.value = null;
      await drawCurves(jobs.value, () => drawn.value++);
    } catch (problem) {
      error.value = problem;
    }
  };
  usePoll(look, 2, [asked]);
  drawn.value;
  const tick = (id) =>
    (ticked.value = ticked.value.includes(id) ? ticked.value.filter((one) => one !== id) : [...ticked.value, id].slice(-MOST_TICKED));
  const compare = () => ticked.value.length > 1 && go(`/compare?ids=${ticked.value.join(",")}`);
  useListKeys(jobs, at, tick, compare);
  const going = (jobs.value ?? []).filter((job) => ticked.value.includes(job.id) && !isOver(job));
  const cancel = async () => {
    asking.value = false;
    try {
      for (const job of going) await post(`${JOBS}/${job.id}/cancel`);
      ticked.value = [];
      await look();
    } catch (problem) {
      error.value = problem;
    }
  };
  const isFiltered = asked !== pageUrl(new URLSearchParams());
  return html`<div class="title"><h1>${t("Jobs")}</h1><span class="grow" />
      <input type="search" aria-label=${t("Search jobs")} placeholder=${t("Name, id or model")} value=${query.get("q") ?? ""}
        onInput=${(e) => setQuery({ q: e.target.value })} />
      <select aria-label=${t("Status")} value=${query.get("status") ?? ""} onChange=${(e) => setQuery({ status: e.target.value })}>
        <option value="">${t("All")}</option>${STATUSES.map((one) => html`<option key=${one} value=${one}>${t(one)}</option>`)}</select>
      ${going.length > 0 && html`<button class="danger" onClick=${() => (asking.value = true)}>${t("Cancel {n}", { n: going.length })}</button>`}
      <button disabled=${ticked.value.length < 2} onClick=${compare}>${t("Compare")}${ticked.value.length > 1 ? ` ${ticked.value.length}` : ""}</button></div>
    <${Notice} error=${error.value} isRetried />
    ${!jobs.value && !error.value && html`<${Loading} />`}
    ${jobs.value && (jobs.value.length === 0
      ? isFiltered ? html`<p class="card empty">${t("No job matches these filters.")}</p>` : html`<${Empty} />`
      : html`<${Table} jobs=${jobs.value} ticked=${ticked.value} tick=${tick} at=${at} />`)}
    ${more.value && html`<p class="center"><button onClick=${() => (pages.value++, look())}>${t("Older jobs")}</button></p>`}
    ${asking.value && html`<${Dialog} title=${t("Cancel {n} jobs?", { n: going.length })} onClose=${() => (asking.value = false)}>
      <ul>${going.map((job) => html`<li key=${job.id}><bdi>${nameOf(job)}</bdi> <small class="num">${percent(job.progress.fraction)}</small></li>`)}</ul>
      <p>${t("Each keeps its last checkpoint and loses the steps since.")}</p>
      <p class="actions"><button class="danger" onClick=${cancel}>${t("Cancel them")}</button><span class="grow" /><button onClick=${() => (asking.value = false)}>${t("Leave it")}</button></p><//>`}`;
}

const COLUMNS = ["Name", "Status", "Progress", "Train loss", "Eval loss", "Curve", "Time", "Created"];

function Table({ jobs, ticked, tick, at }) {
  return html`<div class="card wide" role="region" aria-label=${t("Jobs")} tabindex="0"><table class="jobs"><thead><tr>
      <th><span class="hidden">${t("Compare")}</span></th>
      ${COLUMNS.map((name) => html`<th key=${name} scope="col">${t(name)}</th>`)}<th><span class="hidden">${t("Clone")}</span></th>
    </tr></thead><tbody>${jobs.map((job, i) => html`<${Row} key=${job.id} job=${job} isTicked=${ticked.includes(job.id)} tick=${tick} onFocus=${() => (at.value = i)} />`)}</tbody></table></div>`;
}

function Row({ job, isTicked, tick, onFocus }) {
  const columns = curves.get(job.id)?.columns;
  const { fraction, step, total_steps } = job.progress;
  const name = nameOf(job);
  const method = job.peft ? ` · ${job.quantization ? "QLoRA" : "LoRA"} r${job.peft.r ?? 8}` : "";
  return html`<tr class=${isTicked ? "ticked" : ""} onFocusIn=${onFocus}>
    <td><input type="checkbox" aria-label=${t("Compare {name}", { name })} checked=${isTicked} onChange=${() => tick(job.id)} /></td>
    <th scope="row"><a href=${`/jobs/${job.id}`} title=${job.id}><bdi>${name}</bdi></a><small><bdi>${plain(job.model, 60)}</bdi>${method}</small>
      ${job.error && html`<small class="bad">${plain(job.error.message, 160)}</small>`}</th>
    <td><${Pill} state=${stateOf(job)} />${job.status === "running" && job.latest_attempt && html`<small><bdi>${attemptOf(job.latest_attempt)}</bdi></small>`}${job.queue && html`<small>${waitsFor(job.queue)}</small>`}
      ${job.pause_reason && html`<small>${plain(job.pause_reason, 160)}</small>`}
      ${job.status === "running" && job.progress.phase && job.progress.phase !== "train" && html`<small>${t(job.progress.phase)}</small>`}</td>
    <td class="progress"><${Bar} fraction=${fraction} label=${t("Progress of {name}", { name })} />
      <small class="num">${total_steps ? `${percent(fraction)} · ${count(step)} / ${count(total_steps)}` : "–"}</small></td>
    <td class="num">${loss(lastOf(columns?.train_loss))}</td><td class="num">${loss(lastOf(columns?.valid_loss))}</td>
    <td>${columns?.train_loss && html`<${Sparkline} values=${columns.train_loss} />`}</td>
    <td class="num">${timeOf(job)}</td>
    <td class="num" title=${absolute(job.created_at)}>${ago(job.created_at)}</td>
    <td><a class="btn mini" href=${`/new?from=${job.id}`} aria-label=${t("Clone {name}", { name })}>${t("Clone")}</a></td></tr>`;
}

/** Which worker has it, and which attempt it is when it is not the first. */
const attemptOf = ({ worker, number }) => plain(worker, 60) + (number > 1 ? ` · ${t("attempt {n}", { n: count(number) })}` : "");

function timeOf(job) {
  if (job.estimated_finish) return t("{time} left", { time: duration(job.estimated_finish - Date.now() / 1000) });
  return job.started_at && job.finished_at ? duration(job.finished_at - job.started_at) : "–";
}

function Empty() {
  return html`<div class="card empty"><p>${t("No jobs yet. Start one here, or in a terminal:")}</p>
    <p><code>${EXAMPLE}</code> <${Copy} text=${EXAMPLE} /></p><p><a class="btn primary" href="/new">${t("New job")}</a></p></div>`;
}

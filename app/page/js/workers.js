// The machines that train, and what waits for them.
import { get, post } from "./api.js";
import { ago, bytes, count, duration, nameOf, percent, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Bar, Card, Copy, Notice, Pill, stateOf, usePoll, waitsFor } from "./parts.js";
import { t } from "./strings.js";

const JOBS = "/v1/fine_tuning/jobs";
const LOST_AFTER_SECONDS = 60;
const LATE_AFTER_SECONDS = 30;
const FOLDED_AFTER_SECONDS = 86_400;
const QUEUE = 20;
const ADD = "tuneyard worker";
/** What is shown in its own way, or says nothing to a reader. */
const OWN = ["versions", "memory_bytes", "device_memory_bytes", "memory_free_bytes", "scratch_free_bytes", "scratch_total_bytes", "storage_free_bytes", "storage_total_bytes", "device", "cpus"];

const age = (worker) => worker.heartbeat_age_seconds;

export function Workers() {
  const workers = useSignal(null);
  const jobs = useSignal([]);
  const queue = useSignal([]);
  const error = useSignal(null);
  const look = async () => {
    try {
      const [found, running, queued] = await Promise.all([get("/v1/workers"), get(`${JOBS}?limit=100&status=running`), get(`${JOBS}?limit=${QUEUE}&status=queued`)]);
      jobs.value = running.data;
      workers.value = found.data;
      queue.value = queued.data.sort((a, b) => (a.queue?.position ?? 0) - (b.queue?.position ?? 0));
      error.value = null;
    } catch (problem) {
      error.value = problem;
    }
  };
  usePoll(look, 3);
  const refused = useSignal(null);
  const act = async (worker, verb) => {
    refused.value = null;
    try {
      await post(`/v1/workers/${encodeURIComponent(worker.id)}/${verb}`);
      await look();
    } catch (problem) {
      refused.value = problem;
    }
  };
  const seen = (workers.value ?? []).filter((one) => age(one) <= FOLDED_AFTER_SECONDS);
  const gone = (workers.value ?? []).filter((one) => age(one) > FOLDED_AFTER_SECONDS);
  const versions = differing(seen);
  const card = (one) => html`<${Worker} key=${one.id} worker=${one} versions=${versions} act=${act} jobs=${jobs.value.filter((job) => job.latest_attempt?.worker === one.id)} />`;
  return html`<div class="title"><h1>${t("Workers")}</h1></div><${Notice} error=${refused.value ?? error.value} isRetried=${!refused.value} />
    ${workers.value?.length === 0 && html`<div class="card empty"><p>${t("No worker was seen. Jobs wait until one appears:")}</p><p><code>${ADD}</code> <${Copy} text=${ADD} /></p></div>`}
    <div class="grid">${seen.map(card)}</div>
    ${gone.length > 0 && html`<details><summary>${t("{n} not seen for a day", { n: gone.length })}</summary><div class="grid">${gone.map(card)}</div></details>`}
    ${queue.value.length > 0 && html`<${Card} title=${t("Queue")}><ol class="queue">${queue.value.map((job) => html`<li key=${job.id}><a href=${`/jobs/${job.id}`}><bdi>${nameOf(job)}</bdi></a> <small>${job.queue && waitsFor(job.queue)}</small></li>`)}</ol><//>`}
    ${workers.value?.length > 0 && html`<p><small>${t("Add a worker on a machine that reaches the same database and storage:")} <code>${ADD}</code> <${Copy} text=${ADD} /></small></p>`}`;
}

/** Names of packages whose versions are not the same on all workers. */
function differing(workers) {
  const names = new Set(workers.flatMap((one) => Object.keys(one.facts.versions ?? {})));
  return [...names].filter((name) => new Set(workers.map((one) => one.facts.versions?.[name])).size > 1);
}

function stateOfWorker(worker, jobs) {
  if (age(worker) > LOST_AFTER_SECONDS) return "lost";
  if (worker.drained_at) return jobs.length ? "draining" : "drained";
  return jobs.length ? "busy" : "idle";
}

function Worker({ worker, jobs, versions, act }) {
  const { facts } = worker;
  const state = stateOfWorker(worker, jobs);
  const more = Object.entries(facts).filter(([name, value]) => !OWN.includes(name) && value !== null && typeof value !== "object");
  const rows = [
    [t("Last seen"), t("{time} ago", { time: duration(age(worker)) }), age(worker) > LATE_AFTER_SECONDS ? "bad" : ""],
    [t("Device"), facts.cpus && facts.device === "cpu" ? t("CPU, {n} cores", { n: count(facts.cpus) }) : plain(String(facts.device ?? "–"), 80)],
    [t("Slots"), t("{used} of {all} taken", { used: count(jobs.length), all: count(worker.slots) })],
    ...more.map(([name, value]) => [name.replaceAll("_", " "), value === true ? t("yes") : value === false ? t("no") : plain(String(value), 80)]),
  ];
  return html`<section class="card" aria-label=${worker.id}><header><h2><bdi>${plain(worker.id, 60)}</bdi></h2><span class=${`pill ${state}`}>${t(state)}</span><span class="grow" />
      ${worker.drained_at
        ? html`<button class="mini" onClick=${() => act(worker, "undrain")}>${t("Let it claim again")}</button>`
        : html`<button class="mini" title=${t("It finishes what it runs, and takes no more jobs.")} onClick=${() => act(worker, "drain")}>${t("Drain")}</button>`}</header>
    ${worker.drained_at && html`<p><small>${t("Takes no more jobs, since {time}.", { time: ago(worker.drained_at) })}</small></p>`}
    ${jobs.map((job) => html`<${Current} key=${job.id} job=${job} />`)}
    <dl class="facts">${rows.map(([name, value, mark]) => html`<div key=${name}><dt>${name}</dt><dd class=${`num ${mark ?? ""}`}>${value}</dd></div>`)}</dl>
    ${facts.device === "cuda"
      ? facts.devices?.map((gpu) => html`<${Room} key=${gpu.uuid} name=${plain(gpu.name, 60)} free=${gpu.memory_free_bytes} all=${gpu.memory_bytes} />`)
      : html`<${Room} name=${t("Memory")} free=${facts.memory_free_bytes} all=${facts.memory_bytes} />`}
    <${Room} name=${t("Scratch disk")} free=${facts.scratch_free_bytes} all=${facts.scratch_total_bytes} />
    ${facts.storage_total_bytes !== facts.scratch_total_bytes && html`<${Room} name=${t("Storage")} free=${facts.storage_free_bytes} all=${facts.storage_total_bytes} />`}
    <details open=${versions.length > 0}><summary>${t("Versions")}${versions.length > 0 ? html` <span class="tag bad">${t("not the same everywhere")}</span>` : ""}</summary>
      <dl class="facts">${Object.entries(facts.versions ?? {}).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class=${versions.includes(name) ? "bad" : ""}>${plain(String(value), 40)}</dd></div>`)}</dl></details></section>`;
}

function Current({ job }) {
  const name = nameOf(job);
  return html`<div class="current"><p class="checkpoint"><a href=${`/jobs/${job.id}`}><bdi>${name}</bdi></a><span class="grow" /><${Pill} state=${stateOf(job)} /></p>
    <${Bar} fraction=${job.progress.fraction} label=${t("Progress of {name}", { name })} />
    <small class="num">${percent(job.progress.fraction)}${job.estimated_finish ? ` · ${t("{time} left", { time: duration(job.estimated_finish - Date.now() / 1000) })}` : ""}</small></div>`;
}

/** How full something is. */
function Room({ name, free, all }) {
  if (free == null || !all) return null;
  return html`<div class="room"><span>${name}</span><small class="num">${t("{free} free of {all}", { free: bytes(free), all: bytes(all) })}</small>
    <${Bar} fraction=${1 - free / all} label=${t("{name} used", { name })} /></div>`;
}

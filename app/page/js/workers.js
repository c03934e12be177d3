// The machines that train.
import { get } from "./api.js";
import { bytes, duration, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Copy, Notice, usePoll } from "./parts.js";
import { t } from "./strings.js";

const LOST_AFTER_SECONDS = 60;
const ADD = "celery -A worker.celery_app worker -P threads -c 1";

export function Workers() {
  const workers = useSignal(null);
  const jobs = useSignal([]);
  const error = useSignal(null);
  usePoll(async () => {
    try {
      const [found, page] = await Promise.all([get("/v1/workers"), get("/v1/fine_tuning/jobs?limit=100")]);
      const running = page.data.filter((job) => job.status === "running");
      jobs.value = await Promise.all(running.map((job) => get(`/v1/fine_tuning/jobs/${job.id}`)));
      workers.value = found.data;
      error.value = null;
    } catch (problem) {
      error.value = problem;
    }
  }, 3);
  return html`<div class="title"><h1>${t("Workers")}</h1></div><${Notice} error=${error.value} />
    ${workers.value?.length === 0 && html`<div class="card empty"><p>${t("No worker was seen. Jobs wait until one appears:")}</p><p><code>${ADD}</code> <${Copy} text=${ADD} /></p></div>`}
    <div class="grid">${workers.value?.map((one) => html`<${Worker} key=${one.id} worker=${one} jobs=${jobs.value.filter((job) => job.attempts.at(-1)?.worker === one.id)} />`)}</div>`;
}

function Worker({ worker, jobs }) {
  const age = worker.heartbeat_age_seconds;
  const state = age > LOST_AFTER_SECONDS ? "lost" : worker.drained_at && !jobs.length ? "drained" : jobs.length ? "busy" : "idle";
  const { versions = {}, memory_bytes, ...facts } = worker.facts;
  const rows = [
    ...(worker.drained_at ? [[t("Takes no more jobs"), plain(`tuneyard workers undrain ${worker.id}`, 120)]] : []),
    [t("Last seen"), t("{time} ago", { time: duration(age) })],
    [t("Slots"), `${jobs.length} / ${worker.slots}`],
    [t("Memory"), bytes(memory_bytes)],
    ...Object.entries(facts).filter(([, value]) => typeof value !== "object").map(([name, value]) => [name.replaceAll("_", " "), plain(String(value), 80)]),
  ];
  return html`<section class="card" aria-label=${worker.id}><header><h2><bdi>${plain(worker.id, 60)}</bdi></h2><span class=${`pill ${state}`}>${t(state)}</span></header>
    <dl class="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>
    ${jobs.map((job) => html`<p key=${job.id}><a href=${`/jobs/${job.id}`}>${plain(job.user_provided_suffix ?? job.id, 60)}</a></p>`)}
    <details><summary>${t("Versions")}</summary><dl class="facts">${Object.entries(versions).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></details></section>`;
}

// One job: is it alive, when does it end, is it learning, what came out.
import { get, post } from "./api.js";
import { Attempts, Happened } from "./attempts.js";
import { Checkpoints } from "./checkpoints.js";
import { Losses, MemoryChart, Others } from "./curves.js";
import { Diagnosis } from "./diagnosis.js";
import { count, duration, loss, nameOf, percent, plain, short } from "./format.js";
import { html, useEffect, useRef, useSignal } from "./html.js";
import { isOver, useLiveJob } from "./live.js";
import { Logs } from "./logs.js";
import { NotifyButton } from "./notify.js";
import { Bar, Copy, Dialog, Loading, Notice, Pill, isTyping, stateOf, usePoll, waitsFor } from "./parts.js";
import { PlanAndMeasured } from "./measured.js";
import { DataReport } from "./report.js";
import { go } from "./router.js";
import { Samples } from "./samples.js";
import { Settings } from "./settings.js";
import { t } from "./strings.js";

const SILENT_SECONDS = 30;
const JOBS = "/v1/fine_tuning/jobs";
const lastOf = (values) => values?.findLast((value) => value != null) ?? null;

/** `[` and `]` go to the job that was made before or after this one. */
function useNeighbours(id) {
  useEffect(() => {
    const onKey = async (event) => {
      if (isTyping(event) || !["[", "]"].includes(event.key)) return;
      const ids = (await get(`${JOBS}?limit=100`)).data.map((job) => job.id);
      const next = ids[ids.indexOf(id) + (event.key === "[" ? 1 : -1)];
      if (next) go(`/jobs/${next}`);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [id]);
}

export function Job({ id }) {
  const live = useLiveJob(id);
  const workers = useSignal([]);
  const error = useSignal(null);
  const asking = useSignal(false);
  useNeighbours(id);
  usePoll(async () => {
    // While the server is away, the stream says so.
    const answer = await get("/v1/workers").catch(() => null);
    if (answer) workers.value = answer.data;
  }, 3, [id]);
  const job = live.job.value;
  useEffect(() => {
    if (job) document.title = `${isOver(job) ? "" : `${percent(job.progress.fraction)} `}${nameOf(job)} · Tuneyard`;
  }, [job]);
  if (!job) return html`<${Notice} error=${live.problem.value} />${!live.problem.value && html`<${Loading} />`}`;
  const act = async (verb, body) => {
    error.value = null;
    asking.value = false;
    try {
      const answer = await post(`${live.base}/${verb}`, body);
      if (verb === "retry") go(`/jobs/${answer.id}`);
      else live.job.value = answer;
    } catch (problem) {
      error.value = problem;
    }
  };
  return html`<p class="crumb"><a href="/">${t("Jobs")}</a> / <span class="num">${id}</span> <${Copy} text=${id} />
      ${job.retry_of && html` · ${t("retry of")} <a href=${`/jobs/${job.retry_of}`}>${job.retry_of}</a>`}</p>
    <${Title} job=${job} live=${live} workers=${workers.value} act=${act} ask=${() => (asking.value = true)} />
    <${Notice} error=${error.value ?? live.problem.value} />
    ${job.status === "failed" && html`<${Diagnosis} job=${job} live=${live} act=${act} />`}
    <${Strip} job=${job} live=${live} />
    <div class="cols"><div>
      <${Losses} live=${live} />
      <${MemoryChart} live=${live} workers=${workers.value} />
      <${Others} live=${live} />
    </div><aside>
      <${PlanAndMeasured} job=${job} live=${live} workers=${workers.value} />
      <${Attempts} job=${job} />
      <${Checkpoints} job=${job} live=${live} />
      <${Happened} live=${live} />
    </aside></div>
    <${Samples} live=${live} />
    <${Logs} live=${live} />
    <div class="cols even"><${Settings} job=${job} /><${DataReport} job=${job} /></div>
    ${asking.value && html`<${Cancel} job=${job} live=${live} act=${act} close=${() => (asking.value = false)} />`}`;
}

function Title({ job, live, workers, act, ask }) {
  const attempt = job.attempts?.at(-1);
  const worker = workers.find((one) => one.id === attempt?.worker);
  const isRunning = job.status === "running";
  const facts = [plain(job.model, 80), job.peft && `LoRA r${job.peft.r ?? 8}`, isRunning && attempt && t("worker {name}", { name: plain(attempt.worker, 60) })];
  return html`<div class="title"><h1><bdi>${nameOf(job)}</bdi></h1><span role="status"><${Pill} state=${stateOf(job)} /></span>
    <small>${live.link.value === "reconnecting" ? t("Reconnecting…") : html`<bdi>${facts.filter(Boolean).join(" · ")}</bdi>`}
      ${job.queue && html` · ${waitsFor(job.queue)}`}
      ${job.pause_reason && html` · ${plain(job.pause_reason, 300)}`}
      ${isRunning && job.progress.phase && html` · ${t(job.progress.phase)}`}
      ${isRunning && worker && html` · <span class=${worker.heartbeat_age_seconds > SILENT_SECONDS ? "bad" : ""}>
        ${t("seen {time} ago", { time: duration(worker.heartbeat_age_seconds) })}</span>`}</small>
    <span class="grow" />
    <${NotifyButton} live=${live} />
    <a class="btn" href=${`/new?from=${job.id}`}>${t("Clone")}</a><a class="btn" href=${`/compare?ids=${job.id}`}>${t("Compare")}</a>
    ${["queued", "running"].includes(job.status) && !job.pause_requested_at && html`<button onClick=${() => act("pause")}>${t("Pause")}</button>`}
    ${(job.status === "paused" || job.pause_requested_at) && html`<button class="primary" onClick=${() => act("resume")}>${t("Resume")}</button>`}
    ${job.status === "cancelled" && html`<button onClick=${() => act("retry", {})}>${t("Retry")}</button>`}
    ${!isOver(job) && !job.cancel_requested_at && html`<button class="danger" onClick=${ask}>${t("Cancel")}</button>`}</div>`;
}

/** Asked once, with what would be lost. */
function Cancel({ job, live, act, close }) {
  const saved = Math.max(0, ...live.checkpoints.value.map((one) => one.step_number));
  const lost = Math.max(0, job.progress.step - saved);
  const pace = job.measured?.seconds_per_step ?? (job.started_at && job.progress.step ? (Date.now() / 1000 - job.started_at) / job.progress.step : 0);
  const time = lost && pace ? ` (${duration(lost * pace)})` : "";
  const keeps = saved ? t("Keeps checkpoint {n}.", { n: count(saved) }) : t("No checkpoint is there to keep.");
  const loses = lost ? t("Loses {n} steps{time}.", { n: count(lost), time }) : t("Nothing trained is lost.");
  return html`<${Dialog} title=${t("Cancel this job?")} onClose=${close}><p>${keeps} ${loses}</p>
    <p class="actions"><button class="danger" onClick=${() => act("cancel")}>${t("Cancel the job")}</button>
      ${job.status === "running" && lost > 0 && html`<button onClick=${() => act("cancel?save=true")}>${t("Save, then cancel")}</button>`}
      <span class="grow" /><button onClick=${close}>${t("Leave it")}</button></p><//>`;
}

const SECONDS_OF_SPEED = 20;

/** Tokens a second: of the newest points where they tell the time, else of the whole attempt. */
function speedOf(columns, job, elapsed) {
  const { num_tokens: tokens = [], logged_at: at = [] } = columns;
  const last = tokens.findLastIndex((value, i) => value != null && at[i] != null);
  if (last > 0) {
    let first = last - 1;
    while (first > 0 && (tokens[first] == null || at[last] - at[first] < SECONDS_OF_SPEED)) first--;
    const speed = tokens[first] != null && (tokens[last] - tokens[first]) / (at[last] - at[first]);
    if (Number.isFinite(speed) && speed > 0) return speed;
  }
  const all = lastOf(tokens);
  return job.attempts?.length === 1 && elapsed > 1 && all ? all / elapsed : null;
}

function Strip({ job, live }) {
  live.version.value;
  const { columns } = live;
  const { step, total_steps, fraction } = job.progress;
  const now = useRef(0);
  now.current = Date.now() / 1000;
  const elapsed = job.started_at && (job.finished_at ?? now.current) - job.started_at;
  const left = job.estimated_finish && duration(job.estimated_finish - now.current);
  const finish = isOver(job) ? t(job.status === "succeeded" ? "done" : job.status) : left ? t("in {time}", { time: left }) : "–";
  const speed = speedOf(columns, job, elapsed);
  const numbers = [
    ["Step", `${count(step)} / ${count(total_steps)}`],
    ["Epoch", columns.epoch ? `${short(lastOf(columns.epoch))}${job.plan?.epochs ? ` / ${short(job.plan.epochs)}` : ""}` : "–"],
    ["Train loss", loss(lastOf(columns.train_loss))],
    ["Eval loss", loss(lastOf(columns.valid_loss))],
    ["Speed", speed ? `${short(speed)} tok/s` : "–"],
    ["Elapsed", duration(elapsed)],
    ["Finishes", finish],
  ];
  return html`<section class="card strip" aria-label=${t("Progress")}><${Bar} fraction=${fraction} label=${t("Progress")} />
    <dl>${numbers.map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd class="num">${value}</dd></div>`)}</dl></section>`;
}

// One job: is it alive, when does it end, is it learning, what came out.
import { download, get, post } from "./api.js";
import { Chart } from "./chart.js";
import { count, duration, loss, nameOf, percent, plain, short } from "./format.js";
import { html, useEffect, useRef, useSignal } from "./html.js";
import { Attempts, Checkpoints, DataReport, Memory, Samples, Settings } from "./job_parts.js";
import { isOver, useLiveJob } from "./live.js";
import { Logs } from "./logs.js";
import { Bar, Card, Notice, Pill, stateOf, usePoll } from "./parts.js";
import { go } from "./router.js";
import { Smoother } from "./smooth.js";
import { t } from "./strings.js";

const lastOf = (values) => values?.findLast((value) => value != null) ?? null;

export function Job({ id }) {
  const live = useLiveJob(id);
  const workers = useSignal([]);
  const error = useSignal(null);
  usePoll(async () => {
    // While the server is away, the stream says so.
    const answer = await get("/v1/workers").catch(() => null);
    if (answer) workers.value = answer.data;
  }, 3, [id]);
  const job = live.job.value;
  useEffect(() => {
    if (job) document.title = `${isOver(job) ? "" : `${percent(job.progress.fraction)} `}${nameOf(job)} · Tuneyard`;
  }, [job]);
  if (!job) return html`<${Notice} error=${live.problem.value} /><p class="empty">${live.problem.value ? "" : t("Loading")}</p>`;
  const act = async (verb, body) => {
    error.value = null;
    try {
      const answer = await post(`${live.base}/${verb}`, body);
      if (verb === "retry") go(`/jobs/${answer.id}`);
      else live.job.value = answer;
    } catch (problem) {
      error.value = problem;
    }
  };
  return html`<p class="crumb"><a href="/">${t("Jobs")}</a> / <span class="num">${id}</span></p>
    <${Title} job=${job} live=${live} workers=${workers.value} act=${act} />
    <${Notice} error=${error.value ?? live.problem.value} />
    ${job.status === "failed" && html`<${Diagnosis} job=${job} live=${live} act=${act} />`}
    <${Strip} job=${job} live=${live} />
    <div class="cols"><div>
      <${Losses} live=${live} />
      <${Others} live=${live} />
      <${Samples} live=${live} />
    </div><aside>
      <${Memory} job=${job} workers=${workers.value} />
      <${Attempts} job=${job} />
      <${Checkpoints} job=${job} live=${live} />
    </aside></div>
    <${Logs} live=${live} />
    <div class="cols even"><${Settings} job=${job} /><${DataReport} job=${job} /></div>`;
}

function Title({ job, live, workers, act }) {
  const attempt = job.attempts?.at(-1);
  const worker = workers.find((one) => one.id === attempt?.worker);
  const sure = (text, verb) => () => confirm(text) && act(verb);
  const saved = live.checkpoints.value[0]?.step_number ?? 0;
  const losing = t("Cancel this job? It keeps checkpoint {saved} and loses {lost} steps.", {
    saved: count(saved),
    lost: count(job.progress.step - saved),
  });
  const facts = [plain(job.model, 80), job.peft && `LoRA r${job.peft.r ?? 8}`, job.status === "running" && attempt?.worker];
  return html`<div class="title"><h1><bdi>${nameOf(job)}</bdi></h1><span role="status"><${Pill} state=${stateOf(job)} /></span>
    <small>${live.link.value === "reconnecting" ? t("Reconnecting…") : html`<bdi>${facts.filter(Boolean).join(" · ")}</bdi>`}
      ${job.queue && html` · ${job.queue.reason}`}
      ${job.status === "running" && job.progress.phase && html` · ${t(job.progress.phase)}`}
      ${job.status === "running" && worker && html` · <span class=${worker.heartbeat_age_seconds > 30 ? "bad" : ""}>
        ${t("seen {time} ago", { time: duration(worker.heartbeat_age_seconds) })}</span>`}</small>
    <span class="grow" />
    <a class="btn" href=${`/new?from=${job.id}`}>${t("Clone")}</a><a class="btn" href=${`/compare?ids=${job.id}`}>${t("Compare")}</a>
    ${["queued", "running"].includes(job.status) && !job.pause_requested_at && html`<button onClick=${() => act("pause")}>${t("Pause")}</button>`}
    ${(job.status === "paused" || job.pause_requested_at) && html`<button class="primary" onClick=${() => act("resume")}>${t("Resume")}</button>`}
    ${["cancelled"].includes(job.status) && html`<button onClick=${() => act("retry", {})}>${t("Retry")}</button>`}
    ${!isOver(job) && html`<button class="danger" onClick=${sure(losing, "cancel")}>${t("Cancel")}</button>`}</div>`;
}

function Diagnosis({ job, live, act }) {
  const { training, error } = job;
  const options = [];
  if (error.code === "out_of_memory") {
    const length = training.max_length ?? 1024;
    if (length > 64) options.push({ max_length: Math.floor(length / 2) });
    const batch = training.per_device_train_batch_size ?? 8;
    const steps = training.gradient_accumulation_steps ?? 1;
    if (batch > 1) options.push({ per_device_train_batch_size: 1, gradient_accumulation_steps: steps * batch });
  }
  if (error.code === "non_finite_loss") options.push({ learning_rate: (training.learning_rate ?? 2e-5) / 10 });
  const evidence = live.messages.value.findLast((one) => one.data?.log)?.data.log ?? [];
  const words = (change) => Object.entries(change).map(([name, value]) => `${name} ${value}`).join(", ");
  return html`<section class="card diagnosis" aria-label=${t("Why it failed")}>
    <h2>${plain(error.message, 1000)}</h2>
    <p><a href=${`/docs/guide/errors#${encodeURIComponent(error.code)}`}><code>${error.code}</code></a>${error.param && html` · <code>${plain(error.param, 100)}</code>`}</p>
    <p class="actions">${options.map((change) => html`<button class="primary" key=${words(change)} onClick=${() => act("retry", { training: change })}>
        ${t("Retry with {change}", { change: words(change) })}</button>`)}
      <button onClick=${() => act("retry", {})}>${t("Retry unchanged")}</button><a class="btn" href=${`/new?from=${job.id}`}>${t("Change and start again")}</a></p>
    ${evidence.length > 0 && html`<details><summary>${t("Evidence: the last {n} lines", { n: evidence.length })}</summary>
      <pre tabindex="0">${evidence.map((line) => plain(line, 2000)).join("\n")}</pre></details>`}</section>`;
}

function Strip({ job, live }) {
  live.version.value;
  const { columns } = live;
  const { step, total_steps, fraction } = job.progress;
  const elapsed = job.started_at && (job.finished_at ?? Date.now() / 1000) - job.started_at;
  const tokens = lastOf(columns.num_tokens);
  const single = job.attempts?.length === 1 && elapsed > 1;
  const finish = isOver(job) ? t("done") : job.estimated_finish ? t("in {time}", { time: duration(job.estimated_finish - Date.now() / 1000) }) : "–";
  const numbers = [
    ["Step", `${count(step)} / ${count(total_steps)}`],
    ["Epoch", columns.epoch ? short(lastOf(columns.epoch)) : "–"],
    ["Train loss", loss(lastOf(columns.train_loss))],
    ["Eval loss", loss(lastOf(columns.valid_loss))],
    ["Speed", single && tokens ? `${short(tokens / elapsed)} tok/s` : "–"],
    ["Elapsed", duration(elapsed)],
    ["Finishes", finish],
  ];
  return html`<section class="card strip" aria-label=${t("Progress")}><${Bar} fraction=${fraction} label=${t("Progress")} />
    <dl>${numbers.map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd class="num">${value}</dd></div>`)}</dl></section>`;
}

const hidden = (values, log) => (log ? values.map((value) => (value > 0 ? value : null)) : values);

function Losses({ live }) {
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
      const train = columns.train_loss ?? [];
      const state = smoother.current;
      const isSame = state?.of === train && state.smoother.weight === weight.value && state.smoother.out.length <= train.length;
      if (!isSame) smoother.current = { of: train, smoother: new Smoother(weight.value) };
      const smooth = smoother.current.smoother.extend(train);
      const rows = columns.step;
      const full = (values) => hidden(values?.length === rows.length ? values : rows.map(() => null), log.value);
      return [rows, full(train), full(smooth), full(columns.valid_loss)];
    },
  };
  useEffect(() => {
    const onKey = (event) => {
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey) return;
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
  const points = live.columns.step.length;
  const tools = html`<label>${t("Smoothing")} <input type="range" min="0" max="0.99" step="0.01" ref=${slider} value=${weight.value}
      onInput=${(e) => setWeight(Number(e.target.value))} /><output class="num">${weight.value.toFixed(2)}</output></label>
    <button aria-pressed=${String(log.value)} onClick=${() => (log.value = !log.value)}>${t("Log scale")}</button>
    <button aria-pressed=${String(table.value)} onClick=${() => (table.value = !table.value)}>${t("Table")}</button>
    <button onClick=${() => download(`${live.base}/metrics?format=csv`, `${live.id}.csv`)}>CSV</button>`;
  return html`<${Card} title=${t("Loss")} tools=${tools} data-points=${points}>
    ${points === 0 && html`<p class="empty">${waiting(live.job.value)}</p>`}
    ${table.value ? html`<${PointTable} columns=${live.columns} />` : html`<${Chart} data=${kept.current.data} version=${live.version}
      series=${kept.current.series} log=${log.value} label=${t("Training and evaluation loss by step")} />`}<//>`;
}

function waiting(job) {
  if (isOver(job)) return t("This job logged no losses.");
  if (job.status !== "running") return t("The curve begins when the job runs.");
  return t("The first point comes after step {n}.", { n: count(job.training.logging_steps ?? 10) });
}

function PointTable({ columns }) {
  const names = ["step", "train_loss", "valid_loss"].filter((name) => columns[name]);
  const rows = columns.step.map((_, i) => i).slice(-200).reverse();
  return html`<div class="scroll-table" tabindex="0" role="region" aria-label=${t("Loss")}><table><thead><tr>${names.map((name) => html`<th key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((i) => html`<tr key=${columns.step[i]}>${names.map((name) => html`<td key=${name} class="num">${columns[name][i] ?? "–"}</td>`)}</tr>`)}</tbody></table></div>`;
}

const OWN = ["step", "total_steps", "train_loss", "valid_loss", "epoch"];

function Others({ live }) {
  const chosen = useSignal(null);
  const kept = useRef({});
  live.version.value;
  const names = Object.keys(live.columns).filter((name) => !OWN.includes(name));
  if (!names.length) return null;
  const name = chosen.value;
  if (name && kept.current.name !== name) {
    kept.current = {
      name,
      series: [{ label: name, color: "--c3" }],
      data: () => [live.columns.step, live.columns[name]],
    };
  }
  return html`<${Card} title=${t("More metrics")}>
    <div class="tabs wrap">${names.map((one) => html`<button key=${one} class="mini" aria-pressed=${String(one === name)}
      onClick=${() => (chosen.value = one === name ? null : one)}>${one}</button>`)}</div>
    ${name && html`<${Chart} key=${name} data=${kept.current.data} version=${live.version} series=${kept.current.series} height=${160} label=${name} />`}<//>`;
}

// What was planned, beside what came of it.
import { bytes, count, duration } from "./format.js";
import { html } from "./html.js";
import { isOver } from "./live.js";
import { Bar, Card } from "./parts.js";
import { t } from "./strings.js";

const NEAR_LIMIT = 1.1;
/** The pace is that of so many points, not of pauses and attempts long ago. */
const PACE_POINTS = 50;

const pace = (seconds) => (seconds == null ? "–" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toPrecision(3)} s`);

/** Whether what was measured is within the plan and a tenth: a mark with a word for those who do not see it. */
function Verdict({ planned, now }) {
  if (planned == null || now == null) return html`<td />`;
  const isGood = now <= planned * NEAR_LIMIT;
  return html`<td class=${isGood ? "good" : "over"} title=${isGood ? t("within the plan") : t("more than planned")}>
    <span aria-hidden="true">${isGood ? "✓" : "!"}</span><span class="hidden">${isGood ? t("within the plan") : t("more than planned")}</span></td>`;
}

/** What the curve's own points tell of a job that still runs. */
function soFar({ step, memory_bytes = [], logged_at = [] }) {
  const last = logged_at.findLastIndex((at) => at != null);
  const first = Math.max(0, logged_at.findIndex((at) => at != null), last - PACE_POINTS);
  const seconds = (logged_at[last] - logged_at[first]) / (step[last] - step[first]);
  const most = memory_bytes.reduce((high, size) => Math.max(high, size ?? 0), 0);
  return { seconds: Number.isFinite(seconds) && seconds >= 0 ? seconds : null, memory: most };
}

export function PlanAndMeasured({ job, live, workers }) {
  live.version.value;
  const now = soFar(live.columns);
  const plan = job.plan ?? {};
  const measured = job.measured ?? {};
  const worker = workers.find((one) => one.id === job.attempts?.at(-1)?.worker);
  const capacity = job.resources?.memory ?? worker?.facts.memory_bytes;
  const peak = Math.max(0, ...(job.attempts ?? []).map((one) => one.peak_memory_bytes ?? 0));
  const held = measured.peak_memory_bytes ?? (Math.max(peak, now.memory) || null);
  const paced = measured.seconds_per_step ?? now.seconds;
  const steps = job.progress.total_steps;
  const total = (seconds) => (seconds != null && steps ? seconds * steps : null);
  const mark = plan.seconds_are === "guess" ? "guess" : "";
  const rows = [
    [t("Peak memory"), plan.peak_memory_bytes, held, bytes],
    [t("Time of a step"), plan.seconds_per_step, paced, pace, mark],
    [t("Time"), total(plan.seconds_per_step), total(paced), duration, mark],
    [t("Steps"), plan.steps ?? steps, job.progress.step, count, isOver(job) ? "" : "open"],
    [t("Disk"), plan.disk_bytes, measured.disk_bytes, bytes],
    [t("Trained tokens"), job.data_report?.train?.trained_tokens && plan.epochs ? Math.round(job.data_report.train.trained_tokens * plan.epochs) : null, job.trained_tokens, count],
  ];
  const choice = Object.entries(plan.reasons ?? {});
  return html`<${Card} title=${t("Plan and measured")}>
    <table><thead><tr><td /><th scope="col">${t("Plan")}</th><th scope="col">${isOver(job) ? t("Measured") : t("So far")}</th><td /></tr></thead>
      <tbody>${rows.map(([name, a, b, text, mark]) => html`<tr key=${name}><th scope="row">${name}</th>
        <td class="num">${mark === "guess" && a != null ? html`<span title=${t("A guess: nothing like it was measured yet.")}>≈ ${text(a)}</span>` : text(a)}</td><td class="num">${text(b)}</td>
        ${mark ? html`<td />` : html`<${Verdict} planned=${a} now=${b} />`}</tr>`)}</tbody></table>
    ${capacity && held && html`<p class="under"><${Bar} fraction=${held / capacity} label=${t("Memory used")} />
      <small class="num">${t("{used} of {all}", { used: bytes(held), all: bytes(capacity) })}</small></p>`}
    ${choice.length > 0 && html`<details><summary>${t("Why auto became this")}</summary><ul class="plain">${choice.map(([name, reason]) => html`<li key=${name}><code>${name}</code> <small>${String(reason)}</small></li>`)}</ul></details>`}<//>`;
}

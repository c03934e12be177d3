// What a job's charts have in common: the axis that they share, their marks, and their tables.
import { count, duration, short } from "./format.js";
import { html, signal } from "./html.js";
import { t } from "./strings.js";

const NEWEST = 200;
/** Steps of an axis of time: round numbers of seconds, minutes, hours and days. */
const SECONDS = [1, 2, 5, 10, 30, ...[1, 2, 5, 10, 30].map((n) => n * 60), ...[1, 2, 6, 12, 24, 48, 120, 240].map((n) => n * 3600)];

export const AXES = {
  step: { name: "Step", text: count },
  tokens: { name: "Tokens", column: "num_tokens", text: short },
  time: { name: "Time", column: "logged_at", text: duration, incrs: SECONDS },
};

/** Of all charts of all jobs, as their reader likes it. */
export const axis = signal(localStorage.getItem("axis") in AXES ? localStorage.getItem("axis") : "step");

function setAxis(name) {
  axis.value = name;
  localStorage.setItem("axis", name);
}

/** The axis that is asked for, if the columns have it. */
export function axisOf(columns) {
  const { column } = AXES[axis.value];
  return column && !columns[column] ? "step" : axis.value;
}

/** The x of each row. Where a row has none, as evaluations have no tokens, it is the one before. */
export function xsOf(columns, name) {
  const values = columns[AXES[name].column];
  if (!values) return columns.step;
  const first = name === "time" ? (values.find((value) => value != null) ?? 0) : 0;
  let last = first;
  return values.map((value) => (last = Math.max(last, value ?? last)) - first);
}

/** Where checkpoints were saved, and where a later attempt went on. */
export function marksOf(live) {
  const name = axisOf(live.columns);
  const steps = live.columns.step;
  const xs = xsOf(live.columns, name);
  const at = (step) => {
    const row = steps.findLastIndex((one) => one <= step);
    return name === "step" ? step : row < 0 ? 0 : xs[row];
  };
  const again = (live.job.value?.attempts ?? []).filter((one) => one.number > 1 && one.resumed_from_step > 0);
  return [
    ...again.map((one) => ({ x: at(one.resumed_from_step), color: "--recovering", isLine: true })),
    ...live.checkpoints.value.map((one) => ({ x: at(one.step_number), color: "--succeeded" })),
  ];
}

export function AxisSwitch({ columns }) {
  const chosen = axisOf(columns);
  return html`<label>${t("Over")} <select value=${chosen} onChange=${(e) => setAxis(e.target.value)}>
    ${Object.entries(AXES).map(([name, one]) => html`<option key=${name} value=${name} disabled=${one.column && !columns[one.column]}>${t(one.name)}</option>`)}</select></label>`;
}

/** A chart's numbers for those who read rather than look: the newest first. */
export function PointTable({ columns, names, label }) {
  const rows = [];
  for (let i = columns.step.length - 1; i >= 0 && rows.length < NEWEST; i--) {
    if (names.some((name) => columns[name]?.[i] != null)) rows.push(i);
  }
  return html`<div class="scroll-table" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${["step", ...names].map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows.map((i) => html`<tr key=${columns.step[i]}><td class="num">${columns.step[i]}</td>
      ${names.map((name) => html`<td key=${name} class="num">${columns[name]?.[i] ?? "–"}</td>`)}</tr>`)}</tbody></table></div>`;
}

/** Pressed while the table is shown in place of the chart. */
export const TableButton = ({ shown }) =>
  html`<button aria-pressed=${String(shown.value)} onClick=${() => (shown.value = !shown.value)}>${t("Table")}</button>`;

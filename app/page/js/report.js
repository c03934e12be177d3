// What is in the data, and what of it is learned: in numbers, as a histogram, and in three rows.
import { count, percent, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Card } from "./parts.js";
import { t } from "./strings.js";

const LINE = /\n/g;

export function DataReport({ job }) {
  const part = useSignal("train");
  const report = job.data_report;
  const parts = ["train", "eval"].filter((name) => report?.[name]);
  const tools = parts.length > 1 && parts.map((name) => html`<button key=${name} class="mini" aria-pressed=${String(part.value === name)} onClick=${() => (part.value = name)}>${t(name)}</button>`);
  return html`<${Card} title=${t("Data")} tools=${tools}>${parts.length
    ? html`<${TokenReport} report=${report[parts.includes(part.value) ? part.value : parts[0]]} />`
    : html`<p class="empty">${t("The report comes when the worker has read the data.")}</p>`}<//>`;
}

/** A number that is bad news when it is not zero. */
const warned = (value) => (value > 0 ? "over" : "");

/** The API's token report, of a job or before there is one. */
export function TokenReport({ report }) {
  const { rows, rows_used, tokens, trained_tokens, truncated_rows, dropped_rows, nothing_to_learn_rows, padding, sampled_rows, lengths } = report;
  const share = tokens ? trained_tokens / tokens : null;
  const facts = [
    [t("Rows"), rows_used === rows ? count(rows) : t("{used} of {all}", { used: count(rows_used), all: count(rows) })],
    [t("Tokens"), count(tokens)],
    [t("Trained tokens"), `${count(trained_tokens)} (${percent(share)})`],
    [t("Trained on"), t(report.trained_on)],
    [t("Rows that are cut"), count(truncated_rows), warned(truncated_rows)],
    [t("Rows left out"), count(dropped_rows), warned(dropped_rows)],
    [t("Rows with nothing to learn"), count(nothing_to_learn_rows), warned(nothing_to_learn_rows)],
    [t("Longest row"), t("{n} tokens", { n: count(report.longest_row_tokens) })],
    [t("Half of the rows are up to"), t("{n} tokens", { n: count(lengths?.p50) })],
    [t("Padding"), padding && t("{a}, packed {b}", { a: percent(padding.unpacked), b: percent(padding.packed) })],
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value, mark]) => html`<div key=${name}><dt>${name}</dt><dd class=${`num ${mark ?? ""}`}>${value}</dd></div>`)}</dl>
    ${sampled_rows && html`<p><small>${t("From a sample of {n} rows.", { n: count(sampled_rows) })}</small></p>`}
    <${Histogram} bins=${report.histogram ?? []} />
    ${(report.samples ?? []).map((sample) => html`<${MaskedRow} key=${sample.place} sample=${sample} />`)}
    ${report.samples?.length > 0 && html`<p><small><mark class="trained">${t("Tinted text is trained on")}</mark> ${t("the rest is only read.")}</small></p>`}`;
}

function Histogram({ bins }) {
  if (bins.length < 2) return null;
  const most = Math.max(...bins.map((bin) => bin.rows));
  const words = t("Rows by length in tokens: {list}", { list: bins.map((bin) => `${bin.up_to}: ${bin.rows}`).join(", ") });
  return html`<figure class="histogram"><div role="img" aria-label=${words}>${bins.map((bin) => html`<i key=${bin.up_to} title=${`≤ ${bin.up_to}: ${bin.rows}`} style=${{ height: `${most ? (bin.rows / most) * 100 : 0}%` }} />`)}</div>
    <figcaption><small class="num">0</small><small>${t("rows by length in tokens")}</small><small class="num">${count(bins.at(-1).up_to)}</small></figcaption></figure>`;
}

const shown = (text) => text.split(LINE).map((line) => plain(line, 4000)).join("\n");

function MaskedRow({ sample }) {
  return html`<div class="masked" tabindex="0" role="group" aria-label=${sample.place}><small>${plain(sample.place, 60)} · ${t("{n} tokens", { n: count(sample.tokens) })}${sample.is_cut ? ` · ${t("cut here")}` : ""}</small>
    <bdi>${sample.segments.map((part, i) => (part.trained ? html`<mark key=${i} class="trained">${shown(part.text)}</mark>` : html`<span key=${i}>${shown(part.text)}</span>`))}</bdi></div>`;
}

/** What an upload was found to be. */
export function FileReport({ report }) {
  const facts = [
    [t("Shape"), report.shape],
    [t("Rows"), count(report.rows)],
    [t("Format"), [report.format, report.compression].filter(Boolean).join(" + ")],
    [t("Duplicate rows"), `${report.duplicates_are_estimated ? "≈ " : ""}${count(report.duplicate_rows)}`, warned(report.duplicate_rows)],
    [t("Empty rows"), count(report.empty_rows), warned(report.empty_rows)],
    [t("Errors"), count(report.error_count), warned(report.error_count)],
    [t("Characters, half up to"), report.lengths && count(report.lengths.p50)],
    [t("Characters, longest"), report.lengths && count(report.lengths.max)],
  ];
  const roles = Object.entries(report.roles ?? {});
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value, mark]) => html`<div key=${name}><dt>${name}</dt><dd class=${`num ${mark ?? ""}`}>${value}</dd></div>`)}
      ${roles.map(([role, n]) => html`<div key=${role}><dt>${t("role {name}", { name: plain(role, 40) })}</dt><dd class="num">${count(n)}</dd></div>`)}</dl>
    ${report.errors?.length > 0 && html`<pre tabindex="0">${report.errors.map((error) => plain(typeof error === "string" ? error : JSON.stringify(error), 500)).join("\n")}</pre>`}
    ${report.sample && html`<p><small>${t("The first row")}</small></p><pre tabindex="0">${shown(JSON.stringify(report.sample, null, 2).slice(0, 5000))}</pre>`}`;
}

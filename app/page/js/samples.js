// What the model said to the job's prompts at each checkpoint: prompts down, checkpoints across.
import { count, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Card } from "./parts.js";
import { t } from "./strings.js";

const SHOWN = 5;
const MANY_BREAKS = /\n{3,}/g;
const LONGEST_WORDS = 400;

/** Text of a model, readable: many empty lines are counted, not shown. */
function folded(text) {
  const lines = text.replace(MANY_BREAKS, (run) => `\n⟨${t("{n} line breaks", { n: run.length })}⟩\n`).trim().split("\n");
  return lines.map((line) => plain(line, 2000)).join("\n");
}

const answerOf = (sample) => sample?.completion ?? sample?.error ?? "–";

/** The words of `now`, each with whether `before` lacks it: the longest common ones are kept. */
function changesOf(before, now) {
  const [a, b] = [before, now].map((text) => text.split(/(\s+)/).slice(0, LONGEST_WORDS));
  const length = a.map(() => null).concat(null).map(() => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let k = b.length - 1; k >= 0; k--) {
      length[i][k] = a[i] === b[k] ? length[i + 1][k + 1] + 1 : Math.max(length[i + 1][k], length[i][k + 1]);
    }
  }
  let i = 0;
  return b.map((word, k) => {
    while (i < a.length && a[i] !== word && length[i + 1][k] >= length[i][k + 1]) i++;
    const isSame = i < a.length && a[i] === word;
    if (isSame) i++;
    return { word, isNew: !isSame && word.trim() !== "" };
  });
}

function Answer({ sample, before }) {
  const text = folded(answerOf(sample));
  if (!text) return html`<small>${t("nothing but space")}</small>`;
  if (before === undefined) return html`<bdi>${text}</bdi>`;
  return html`<bdi>${changesOf(folded(answerOf(before)), text).map(({ word, isNew }) => (isNew ? html`<ins>${word}</ins>` : word))}</bdi>`;
}

export function Samples({ live }) {
  const all = useSignal(false);
  const isCompared = useSignal(false);
  const byStep = new Map(live.messages.value.filter((one) => one.data?.samples).map((one) => [one.data.step, one]));
  const events = [...byStep.values()].sort((a, b) => a.data.step - b.data.step);
  if (!events.length) return null;
  // The first one is before the training; the rest is what came of it.
  const shown = all.value || events.length <= SHOWN + 1 ? events : [events[0], ...events.slice(-SHOWN)];
  const prompts = events[0].data.samples.map((sample) => sample.prompt);
  const tools = html`${events.length > 1 && html`<button aria-pressed=${String(isCompared.value)} onClick=${() => (isCompared.value = !isCompared.value)}>${t("Mark changes")}</button>`}
    ${events.length > shown.length && html`<button onClick=${() => (all.value = true)}>${t("Show all {n}", { n: events.length })}</button>`}`;
  const title = (step) => (step === 0 ? t("before training") : t("step {n}", { n: count(step) }));
  return html`<${Card} title=${t("Samples")} tools=${tools}><div class="scroll-table" tabindex="0" role="region" aria-label=${t("Samples")}><table class="samples">
    <thead><tr><th scope="col">${t("Prompt")}</th>${shown.map((one) => html`<th scope="col" key=${one.data.step}>${title(one.data.step)}</th>`)}</tr></thead>
    <tbody>${prompts.map((prompt, row) => html`<tr key=${row}><th scope="row"><bdi>${folded(prompt)}</bdi></th>
      ${shown.map((one, i) => html`<td key=${one.data.step}><${Answer} sample=${one.data.samples[row]} before=${isCompared.value && i ? shown[i - 1].data.samples[row] : undefined} /></td>`)}</tr>`)}</tbody></table></div><//>`;
}

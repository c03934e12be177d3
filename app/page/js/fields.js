// Fields of a form, made from the API's own schema.
import { html, useSignal } from "./html.js";
import { Card } from "./parts.js";
import { t } from "./strings.js";

const isSettable = (field) => ["user", "mapped"].includes(field.class);

/** A labelled control; `problem` is what the server says of it. */
export function Field({ label, hint, problem, wide, children }) {
  return html`<label class=${`field ${problem ? "bad-field" : ""} ${wide ? "wide-field" : ""}`}><span>${label}</span>${children}
    ${problem ? html`<small class="bad" role="alert">${problem}</small>` : hint && html`<small>${hint}</small>`}</label>`;
}

/** What a value may be, in a few signs. */
function boundsOf(field) {
  const low = field.minimum ?? field.exclusiveMinimum;
  const high = field.maximum ?? field.exclusiveMaximum;
  const parts = [low != null && `${field.minimum == null ? ">" : "≥"} ${low}`, high != null && `${field.maximum == null ? "<" : "≤"} ${high}`, field.auto && "auto"];
  return parts.filter(Boolean).join(", ");
}

function Input({ kind, name, field, text, problem, onSet }) {
  const usual = field.default === undefined ? "" : typeof field.default === "string" ? field.default : JSON.stringify(field.default);
  const choices = field.enum ?? ([field.type].flat().includes("boolean") ? ["true", "false"] : null);
  const change = (e) => onSet(e.target.value);
  const bounds = boundsOf(field);
  const hint = html`${field.description}${bounds && html` <span class="num">(${bounds})</span>`}`;
  const control = choices
    ? html`<select name=${name} value=${text} aria-invalid=${String(Boolean(problem))} onChange=${change}><option value="">${usual || "–"}</option>${choices.map((one) => html`<option key=${one} value=${String(one)}>${String(one)}</option>`)}</select>`
    : html`<input name=${name} value=${text} placeholder=${usual} aria-invalid=${String(Boolean(problem))} onInput=${change} autocomplete="off" spellcheck="false" />`;
  return html`<${Field} label=${name} hint=${hint} problem=${problem}>${control}<//>`;
}

/** The settings of one kind: the usual ones, and all others with a search. */
export function Fields({ title, kind, first, fields, texts, error, onSet, children }) {
  const query = useSignal("");
  const isOpen = useSignal(false);
  const names = Object.keys(fields).filter((name) => isSettable(fields[name]));
  const wanted = query.value.toLowerCase();
  const matches = (name) => `${name} ${fields[name].description ?? ""}`.toLowerCase().includes(wanted);
  const isSet = (name) => (texts[name] ?? "") !== "";
  // What is set stays in sight, and so does what the server complains of.
  const others = names.filter((name) => !first.includes(name));
  const chosen = others.filter((name) => isSet(name) || error?.param === `${kind}.${name}`);
  const rest = others.filter((name) => !chosen.includes(name) && matches(name));
  const problemOf = (name) => (error?.param === `${kind}.${name}` ? error.message : null);
  const input = (name) => html`<${Input} key=${name} kind=${kind} name=${name} field=${fields[name]} text=${texts[name] ?? ""} problem=${problemOf(name)}
    onSet=${(text) => onSet({ ...texts, [name]: text })} />`;
  return html`<${Card} title=${title}><div class="fields">${first.filter((name) => fields[name]).map(input)}${isOpen.value ? null : chosen.map(input)}</div>${children}
    <details open=${isOpen.value} onToggle=${(e) => (isOpen.value = e.target.open)}><summary>${t("All {n} settings", { n: names.length })}</summary>
      ${isOpen.value && html`<input type="search" aria-label=${t("Search settings")} placeholder=${t("Search settings")} onInput=${(e) => (query.value = e.target.value)} />
        <div class="fields">${chosen.map(input)}${rest.map(input)}</div>
        ${rest.length + chosen.length === 0 && html`<p class="empty">${t("No setting has this in its name or text.")}</p>`}`}</details><//>`;
}

// Keys of this project: who may do what here.
import { get, post, remove, signIn, signOut } from "./api.js";
import { ago, plain } from "./format.js";
import { html, useSignal } from "./html.js";
import { Copy, Notice, usePoll } from "./parts.js";
import { t } from "./strings.js";

const SCOPES = ["admin", "write", "read"];

export function Keys() {
  const keys = useSignal(null);
  const made = useSignal(null);
  const error = useSignal(null);
  const look = async () => {
    try {
      keys.value = (await get("/v1/keys")).data;
    } catch (problem) {
      error.value = problem;
    }
  };
  usePoll(look, 30);
  const attempt = (call) => async (event) => {
    event.preventDefault();
    error.value = null;
    try {
      await call(event);
      await look();
    } catch (problem) {
      error.value = problem;
    }
  };
  const isFirst = keys.value?.length === 0;
  const create = attempt(async (event) => {
    const form = new FormData(event.target);
    const key = await post("/v1/keys", { name: form.get("name"), scope: isFirst ? "admin" : form.get("scope") });
    made.value = key;
    // From its first key on the server knows nobody without one, and this browser is to stay in.
    if (isFirst) await signIn(key.key);
  });
  const leave = attempt(async () => {
    await signOut();
    made.value = null;
  });
  return html`<div class="title"><h1>${t("Keys")}</h1><span class="grow" />
      ${keys.value?.length > 0 && html`<button onClick=${leave}>${t("Sign out")}</button>`}</div><${Notice} error=${error.value} />
    ${isFirst && html`<p class="card">${t("Without a key this server answers this machine only. With the first key, everybody needs one.")}</p>`}
    ${keys.value && html`<form class="card inline" onSubmit=${create}><label class="field"><span>${t("Name")}</span><input name="name" maxlength="100" required autocomplete="off" /></label>
        ${!isFirst && html`<label class="field"><span>${t("May")}</span><select name="scope">${SCOPES.map((scope) => html`<option key=${scope} value=${scope} selected=${scope === "write"}>${t(scope)}</option>`)}</select></label>`}
        <button class="primary">${t("Create key")}</button></form>`}
    ${made.value && html`<div class="card" role="status"><p>${t("Shown once:")}</p><code>${made.value.key}</code> <${Copy} text=${made.value.key} /></div>`}
    ${keys.value?.length > 0 && html`<ul class="card plain">${keys.value.map((key) => html`<li key=${key.id} class="checkpoint"><b><bdi>${plain(key.name, 100)}</bdi></b>
        <span class="tag">${t(key.scope)}</span><code>${key.beginning}…</code><span class="grow" /><small>${ago(key.created_at)}</small>
        ${key.revoked_at ? html`<small>${t("revoked")}</small>` : html`<button class="mini danger" aria-label=${t("Revoke {name}", { name: plain(key.name, 100) })} onClick=${attempt(() => remove(`/v1/keys/${key.id}`))}>${t("Revoke")}</button>`}</li>`)}</ul>`}`;
}

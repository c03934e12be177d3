// The key goes in the body of one POST; it is never in an address, nor in the browser's storage.
import { signIn } from "./api.js";
import { html, useSignal } from "./html.js";
import { Notice } from "./parts.js";
import { t } from "./strings.js";

export function SignIn() {
  const error = useSignal(null);
  const send = async (event) => {
    event.preventDefault();
    error.value = null;
    try {
      await signIn(new FormData(event.target).get("key"));
    } catch (problem) {
      error.value = problem;
    }
  };
  return html`<form class="card narrow" onSubmit=${send}><h1>${t("Sign in")}</h1>
    <p>${t("This server wants an API key.")}</p>
    <label class="field"><span>${t("API key")}</span><input name="key" type="password" autocomplete="current-password" required autofocus /></label>
    <${Notice} error=${error.value} />
    <button class="primary">${t("Sign in")}</button></form>`;
}

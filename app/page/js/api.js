// The public API, as any other client uses it.
import { signal } from "./html.js";
import { t } from "./strings.js";

/** Whether the server wants a key before it says more. */
export const signedOut = signal(false);

// Only for servers without sessions: in this variable, and gone with the page.
let heldKey = null;
export const holdsKey = () => heldKey !== null;

export class Problem extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
  }
}

export const headers = (more = {}) => (heldKey ? { ...more, authorization: `Bearer ${heldKey}` } : more);

/** What the server says is wrong, in its words where it has any. */
export async function problemOf(response) {
  if (response.status === 401) signedOut.value = true;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? t("The server answered {status}.", { status: response.status });
  return new Problem(response.status, { ...body?.error, message });
}

export async function request(method, path, { body, signal, ...rest } = {}) {
  const options = { method, signal, credentials: "same-origin", headers: headers(rest.headers) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { message: t("The server cannot be reached.") });
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

export const get = async (path, options) => (await request("GET", path, options)).json();
export const post = async (path, body) => (await request("POST", path, { body })).json();
export const remove = async (path) => (await request("DELETE", path)).json();

/** Exchange a key for a session; a server that has none gets the key with each request. */
export async function signIn(key) {
  const response = await fetch("/session", {
    method: "POST",
    credentials: "same-origin",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ key }),
  });
  if (!response.ok && ![401, 404, 405].includes(response.status)) throw await problemOf(response);
  heldKey = response.ok ? null : key;
  const check = await fetch("/v1/models", { credentials: "same-origin", headers: headers() });
  if (!check.ok) {
    heldKey = null;
    throw await problemOf(check);
  }
  signedOut.value = false;
}

/** Save what a GET answers. A plain link does, unless the key is only held here. */
export async function download(path, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = holdsKey() ? URL.createObjectURL(await (await request("GET", path)).blob()) : path;
  link.click();
}

/** Upload with progress, which fetch cannot tell. */
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", file);
    const call = new XMLHttpRequest();
    call.open("POST", "/v1/files");
    for (const [name, value] of Object.entries(headers())) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    call.onerror = () => reject(new Problem(0, { message: t("The server cannot be reached.") }));
    call.onload = async () => {
      const response = new Response(call.responseText, { status: call.status });
      response.ok ? resolve(await response.json()) : reject(await problemOf(response));
    };
    call.send(form);
  });
}

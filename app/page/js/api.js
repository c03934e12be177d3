// The public API, as any other client uses it.
import { signal } from "./html.js";
import { t } from "./strings.js";

/** Whether the server wants a key before it says more. */
export const signedOut = signal(false);

export class Problem extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
  }
}

/** What the server says is wrong, in its words where it has any. */
export async function problemOf(response) {
  if (response.status === 401) signedOut.value = true;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? t("The server answered {status}.", { status: response.status });
  return new Problem(response.status, { ...body?.error, message });
}

export async function request(method, path, { body, signal, headers } = {}) {
  const options = { method, signal, headers, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { ...headers, "content-type": "application/json" };
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

/** Exchange a key for a cookie that no script can read. */
export async function signIn(key) {
  await request("POST", "/session", { body: { key } });
  signedOut.value = false;
}

export async function signOut() {
  await request("DELETE", "/session");
}

/** Save what a GET answers. */
export function download(path, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = path;
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
    call.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    call.onerror = () => reject(new Problem(0, { message: t("The server cannot be reached.") }));
    call.onload = async () => {
      const response = new Response(call.responseText, { status: call.status });
      response.ok ? resolve(await response.json()) : reject(await problemOf(response));
    };
    call.send(form);
  });
}

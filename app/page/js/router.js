// Where the reader is: the address is the state.
import { signal } from "./html.js";

export const place = signal(read());

function read() {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

export function go(url) {
  history.pushState(null, "", url);
  scrollTo(0, 0);
  place.value = read();
}

/** Change parts of the query in place, as filters do. */
export function setQuery(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text && `?${text}`));
  place.value = read();
}

addEventListener("popstate", () => (place.value = read()));
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  const plainClick = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (!link || !plainClick || link.target || link.download || /^\/(v1|docs)/.test(link.pathname)) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

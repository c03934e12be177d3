// Words of the page. A text is its own key; strings.ja.js has the Japanese for it.
const wanted = localStorage.getItem("language") ?? navigator.language.slice(0, 2);

export const language = wanted === "ja" ? "ja" : "en";
document.documentElement.lang = language;

const words = language === "ja" ? (await import("./strings.ja.js")).default : {};

/** The text in the reader's language; {names} are filled from `values`. */
export function t(text, values = {}) {
  return (words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function setLanguage(code) {
  localStorage.setItem("language", code);
  location.reload();
}

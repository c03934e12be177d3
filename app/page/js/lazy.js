// Views that are fetched when somebody first goes there, so that the first one is there sooner.
import { Problem } from "./api.js";
import { html, useEffect, useSignal } from "./html.js";
import { Notice } from "./parts.js";
import { t } from "./strings.js";

/** A component that `load` brings, by its name in the module. */
export function lazy(load, name) {
  return function Lazy(props) {
    const found = useSignal(null);
    const error = useSignal(null);
    useEffect(() => {
      const failed = () => (error.value = new Problem(0, { message: t("The server cannot be reached.") }));
      load().then((module) => (found.value = module)).catch(failed);
    }, []);
    if (!found.value) return error.value && html`<${Notice} error=${error.value} />`;
    return html`<${found.value[name]} ...${props} />`;
  };
}

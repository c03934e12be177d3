// The one place that knows which libraries draw the page.
import { h, render, Fragment } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { useEffect, useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
export { batch, computed, signal, useComputed, useSignal } from "../vendor/signals.js";
export { Fragment, h, render };
export const html = htm.bind(h);

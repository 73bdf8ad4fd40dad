// Small parts that both rooms are made of.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { t } from "./texts.js";

const ICONS = {
  close: "M6 6l12 12M18 6L6 18",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.500 9.500h.01",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 16.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7",
  send: "M5 12h13M12 5l7 7-7 7",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  again: "M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5",
  branch: "M7 4v16M7 13c6 0 10-2 10-7M14 8l3-3 3 3",
  more: "M5.500 12h1M11.500 12h1M17.500 12h1",
  plus: "M12 5v14M5 12h14",
  list: "M5 7h14M5 12h14M5 17h9",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  talk: "M4 5h16v11H10l-5 4v-4H4z",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

// A modal dialog; focus goes in and comes back by itself
export function Dialog({ title, onClose, onKeyDown, wide, children }) {
  const dialog = useRef();
  useEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  const outside = (event) => { if (event.target === dialog.current) onClose(); };
  return html`
    <dialog ref=${dialog} class=${wide ? "wide" : ""} aria-label=${title} onClick=${outside} onKeyDown=${onKeyDown}
      onCancel=${(event) => { event.preventDefault(); onClose(); }}>
      <div class="sheet">
        <div class="sheet-head">
          <h2>${title}</h2>
          <button type="button" class="bare" aria-label=${t("close")} onClick=${onClose}><${Icon} name="close" /></button>
        </div>
        ${children}
      </div>
    </dialog>`;
}

// Who goes by keyboard would lose the place with a button that goes away
export function moveFocus(selector) {
  if (document.activeElement.matches(":focus-visible")) document.querySelector(selector).focus();
}

// Does something other than send a page away
export const submitting = (act) => (event) => { event.preventDefault(); act(event); };

export function CopyButton({ text, label = t("copy"), quiet }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await copyText(text());
    setCopied(true);
    setTimeout(() => setCopied(false), 1600);
  };
  return html`<button type="button" class=${quiet ? "action" : "soft"} onClick=${copy}>
    <${Icon} name="copy" /><span aria-live="polite">${isCopied ? t("copied") : label}</span></button>`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // over plain http there is no clipboard but this one
    const focused = document.activeElement;
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused.focus();
  }
}

export const Problem = ({ text, onRetry }) => html`
  <div class="problem" role="alert"><${Icon} name="warn" /><p>${text}</p>
    ${onRetry && html`<button type="button" class="soft" onClick=${onRetry}>${t("retry")}</button>`}</div>`;

export const Curl = ({ text }) => html`
  <div class="curl"><span class="label">${t("as_curl")}</span>
    <pre tabindex="0" aria-label=${t("as_curl")}>${text()}</pre><${CopyButton} text=${text} /></div>`;

export const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

// The head of a request on a command line; with its key where this tab has one
export function curlHead(url, hasKey) {
  return `curl -s ${quoted(url)}${hasKey ? ' \\\n  -H "Authorization: Bearer $VISCPM_API_KEY"' : ""}`;
}

// A number's field: empty is the service's own choice
export const NumberField = ({ label, value, placeholder, onInput, ...limits }) => html`
  <label class="field"><span class="label">${label}</span>
    <input type="number" inputmode="decimal" value=${value} placeholder=${placeholder} ...${limits}
      onInput=${(event) => onInput(event.target.value)} /></label>`;

export const numberOf = (text) => (String(text).trim() === "" ? undefined : Number(text));

export function blobOf(base64, type = "image/png") {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

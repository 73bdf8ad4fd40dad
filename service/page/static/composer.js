// What is asked next: a picture, a question, and how the answer is to be found.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { address, hasKey } from "./api.js";
import { Curl, Icon, NumberField, curlHead, moveFocus, quoted, submitting } from "./pieces.js";
import { talks } from "./talk_store.js";
import { t } from "./texts.js";

export function Composer() {
  const [question, setQuestion] = useState("");
  const area = useRef();
  const fold = useRef();
  const isRunning = Boolean(talks.running);
  useEffect(() => { if (talks.attached) area.current.focus(); }, [talks.attached]);
  useEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${Math.min(area.current.scrollHeight, 200)}px`;
  }, [question]);
  const ask = () => {
    if (!question.trim() || isRunning) return;
    talks.ask(question.trim());
    setQuestion("");
    fold.current.open = false;
    moveFocus(".line textarea");
  };
  const stop = () => {
    talks.stop();
    moveFocus(".line textarea");
  };
  // Enter that ends a Chinese word is not yet the question's end
  const typed = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      ask();
    }
  };
  return html`
    <form class="composer" onSubmit=${submitting(ask)}>
      ${talks.attached && html`
        <div class="attached"><img src=${talks.attached.url} alt=${t("alt_attached")} />
          <button type="button" class="bare" aria-label=${t("take_off")} onClick=${() => talks.detach()}><${Icon} name="close" /></button></div>`}
      <div class="line">
        <${FileButton} icon="picture" label=${t("choose")} />
        <${FileButton} icon="camera" label=${t("photograph")} capture="environment" />
        <textarea ref=${area} rows="1" value=${question} placeholder=${t("question_hint")} aria-label=${t("question")}
          onInput=${(event) => setQuestion(event.target.value)} onKeyDown=${typed}></textarea>
        ${isRunning
    ? html`<button type="button" class="main" aria-label=${t("stop")} onClick=${stop}><${Icon} name="stop" /><span>${t("stop")}</span></button>`
    : html`<button type="submit" class="main" aria-label=${t("ask")} disabled=${!question.trim()}><${Icon} name="send" /><span>${t("ask")}</span></button>`}
      </div>
      <${Settings} question=${question} fold=${fold} />
    </form>`;
}

function FileButton({ icon, label, capture }) {
  const chosen = (event) => {
    if (event.target.files[0]) talks.attach(event.target.files[0]);
    event.target.value = "";
  };
  return html`<label class=${`file ${capture ? "on-phones" : ""}`} title=${label}><${Icon} name=${icon} />
    <input type="file" accept="image/*" capture=${capture} aria-label=${label} onChange=${chosen} /></label>`;
}

function Settings({ question, fold }) {
  const { settings } = talks;
  const set = (name) => (value) => { settings[name] = value; talks.changed(); };
  const way = (samples, text) => html`<label class="choice"><input type="radio" name="search" checked=${settings.samples === samples}
    onChange=${() => set("samples")(samples)} />${text}</label>`;
  return html`
    <details class="fold" ref=${fold} onToggle=${() => { if (fold.current.open) fold.current.scrollIntoView({ block: "nearest" }); }}><summary>${t("settings")}</summary>
      <fieldset><legend class="label">${t("search")}</legend>${way(false, t("search_beam"))}${way(true, t("search_sample"))}</fieldset>
      <div class="fields">
        ${settings.samples
    ? html`<${NumberField} label=${t("temperature")} value=${settings.temperature} placeholder="0.7" min="0" max="10" step="0.1" onInput=${set("temperature")} />`
    : html`<${NumberField} label=${t("beams")} value=${settings.beams} placeholder="3" min="1" max="8" step="1" onInput=${set("beams")} />`}
        <${NumberField} label=${t("length")} value=${settings.length} placeholder="514" min="2" max="4096" step="1" onInput=${set("length")} />
      </div>
      <${Curl} text=${() => curl(question)} />
    </details>`;
}

function curl(question) {
  const fields = { ...(talks.id && { conversation_id: talks.id }), question: question.trim() || t("example_apple"), ...talks.fields() };
  const head = curlHead(address("chat"), hasKey());
  if (!talks.attached) return `${head} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(fields))}`;
  const parts = Object.entries(fields).map(([name, value]) => ` \\\n  -F ${quoted(`${name}=${value}`)}`);
  return `${head} \\\n  -F image=@${quoted(talks.attached.blob.name || "picture.png")}${parts.join("")}`;
}

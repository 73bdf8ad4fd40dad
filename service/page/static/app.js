// The page: its head, the room that is open, the state of the service, and the question for a key.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { forgetKey, hasKey, keepKey, onKeyNeeded } from "./api.js";
import { prompts } from "./kept.js";
import { PaintRoom } from "./paint.js";
import { Dialog, submitting } from "./pieces.js";
import { StateLine, useReadiness } from "./state.js";
import { useStore } from "./store.js";
import { TalkRoom } from "./talk.js";
import { language, t } from "./texts.js";

const ROOMS = { talk: TalkRoom, paint: PaintRoom };
const MODEL_OF = { talk: "chat", paint: "paint" };

function roomOfAddress() {
  const name = location.hash.slice(1);
  return name in ROOMS ? name : "talk";
}

function App() {
  useStore(language);
  const [room, setRoom] = useState(roomOfAddress());
  const [question, setQuestion] = useState(null); // for a key: {isWrong, answer}
  const report = useReadiness();
  useEffect(() => {
    const moved = () => setRoom(roomOfAddress());
    addEventListener("hashchange", moved);
    onKeyNeeded((isWrong) => new Promise((answer) => setQuestion({ isWrong, answer })));
    return () => removeEventListener("hashchange", moved);
  }, []);
  const served = Object.keys(ROOMS).filter((name) => !report?.models || MODEL_OF[name] in report.models);
  const shown = served.includes(room) ? room : served[0];
  useEffect(() => { document.title = `${t(shown)} · VisCPM`; }, [shown, language.code]);
  const Room = ROOMS[shown];
  return html`
    <a class="skip" href="#main" onClick=${submitting(() => document.getElementById("main").focus())}>${t("skip")}</a>
    <header class="top">
      <span class="mark">VisCPM</span>
      <nav class="rooms">${served.map((name) => html`<a href=${`#${name}`} aria-current=${name === shown ? "page" : undefined}
        onClick=${submitting(() => { location.hash = `#${name}`; })}>${t(name)}</a>`)}</nav>
      <div class="corner">
        ${hasKey() && html`<button type="button" class="link" onClick=${forget}>${t("key_forget")}</button>`}
        <a class="link" href="docs">${t("api")}</a>
        <button type="button" class="link" lang=${language.code === "zh" ? "en" : "zh-CN"} onClick=${() => language.switch()}>${t("other_language")}</button>
      </div>
    </header>
    <${Room} />
    <${StateLine} report=${report} />
    ${question && html`<${KeyQuestion} ...${question} onDone=${() => setQuestion(null)} />`}`;
}

// With the key goes what was asked under it
function forget() {
  forgetKey();
  prompts.forgetAll();
  location.reload();
}

function KeyQuestion({ isWrong, answer, onDone }) {
  const [key, setKey] = useState("");
  const end = (isGiven) => { onDone(); answer(isGiven); };
  const use = () => {
    if (!key.trim()) return;
    keepKey(key);
    end(true);
  };
  return html`<${Dialog} title=${t("key_title")} onClose=${() => end(false)}>
    <form onSubmit=${submitting(use)}>
      <p>${isWrong ? t("key_wrong") : t("key_lead")}</p>
      <label class="field"><span class="label">${t("key")}</span>
        <input type="password" autocomplete="off" spellcheck="false" placeholder="vk-…" value=${key} autofocus onInput=${(event) => setKey(event.target.value)} /></label>
      <div class="row end"><button type="button" class="soft" onClick=${() => end(false)}>${t("cancel")}</button><button class="main">${t("key_use")}</button></div>
    </form><//>`;
}

render(html`<${App} />`, document.getElementById("app"));

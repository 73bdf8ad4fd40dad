// Paintings as they come, and those that are there.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Dialog, Icon, Problem, moveFocus, save } from "./pieces.js";
import { paintings } from "./paint_store.js";
import { talks } from "./talk_store.js";
import { sentence, t } from "./texts.js";

export function Gallery() {
  const [enlarged, setEnlarged] = useState(null); // {job, index}
  return html`
    <section class="gallery" aria-label=${t("gallery")}>
      ${paintings.problem && html`<${Problem} text=${sentence(paintings.problem)} onRetry=${() => paintings.load()} />`}
      ${paintings.isLoaded && paintings.jobs.length === 0 && html`<div class="empty"><${Icon} name="picture" /><p>${t("gallery_empty")}</p></div>`}
      ${paintings.jobs.map((job) => html`<${Painting} key=${job.key} job=${job} onEnlarge=${(index) => setEnlarged({ job, index })} />`)}
      ${enlarged && html`<${Enlarged} ...${enlarged} onClose=${() => setEnlarged(null)} />`}
    </section>`;
}

// What was asked elsewhere is known by its time alone
const promptOf = (job) => job.asked?.prompt || t("painted_at", { time: timeOf(job) });
const timeOf = (job) => new Date(job.created * 1000).toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });

function Painting({ job, onEnlarge }) {
  const isOver = job.state === "done" || job.state === "failed";
  const card = useRef();
  const leaving = (act) => () => {
    act();
    moveFocus(".request textarea");
  };
  useEffect(() => { if (job.isNew) card.current.scrollIntoView({ block: "nearest" }); }, []);
  return html`
    <article ref=${card} class="painting" data-state=${job.state}>
      <header><h2 class=${job.asked ? "" : "quiet"}>${promptOf(job)}</h2>
        ${!isOver && html`<button type="button" class="soft" onClick=${leaving(() => paintings.stop(job))}><${Icon} name="stop" />${t("stop")}</button>`}
        ${job.problem && html`<button type="button" class="bare" aria-label=${t("close")} onClick=${leaving(() => paintings.dismiss(job))}><${Icon} name="close" /></button>`}</header>
      ${job.problem && html`<${Problem} text=${sentence(job.problem)} />`}
      ${!isOver && html`<${Progress} job=${job} />`}
      ${job.pictures.length > 0 && html`<div class=${`pictures of-${Math.min(job.pictures.length, 4)}`}>
        ${job.pictures.map((picture, index) => html`<${Picture} job=${job} picture=${picture} index=${index} onEnlarge=${() => onEnlarge(index)} />`)}</div>`}
      ${job.unknown?.length > 0 && html`<p class="note">${t("unknown_words", { words: job.unknown.join(", ") })}</p>`}
      ${job.untrained && html`<p class="note">${t("untrained")}</p>`}
      ${job.state === "done" && job.asked?.count > job.pictures.length && job.pictures.length > 0
        && html`<p class="note">${t("fewer", { n: job.asked.count - job.pictures.length, total: job.asked.count })}</p>`}
    </article>`;
}

function Progress({ job }) {
  const words = [];
  if (job.isLost) words.push(t("reconnecting"));
  else if (job.state === "generated" || (job.total && job.step === job.total)) words.push(t("checking"));
  else if (job.step) words.push(t("at_step", { n: job.step, total: job.total }));
  else words.push(job.place ? t("at_place", { n: job.place }) : t("in_queue"));
  if (!job.isLost && job.etaS >= 1) words.push(t("eta", { s: Math.round(job.etaS) }));
  return html`
    <div class="progress">
      ${job.previews.length > 0 && html`<div class="pictures of-1"><div class="picture">
        <img class="preview" src=${job.previews[0]} alt=${t("preview_alt", { n: 1 })} /></div></div>`}
      <progress max=${job.total || 1} value=${job.total ? job.step : undefined} aria-label=${t("painting")}></progress>
      <p class="note">${words.join(" · ")}</p>
    </div>`;
}

function Picture({ job, picture, index, onEnlarge }) {
  const alt = t("picture_alt", { n: index + 1, prompt: promptOf(job) });
  return html`
    <figure class="picture">
      <button type="button" class="enlarge" onClick=${onEnlarge} title=${t("enlarge")}><img src=${picture.url} alt=${alt} /></button>
      <figcaption>${facts(picture)}</figcaption>
    </figure>`;
}

function facts(picture) {
  const score = typeof picture.score === "number" ? [t("score", { n: picture.score.toFixed(3) })] : [];
  return [...score, t("seed_is", { n: picture.seed })].join(" · ");
}

function Enlarged({ job, index, onClose }) {
  const [shown, setShown] = useState(index);
  const picture = job.pictures[shown];
  const step = (by) => setShown((shown + by + job.pictures.length) % job.pictures.length);
  const keys = (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  };
  const talk = () => {
    onClose();
    talks.begin();
    talks.attach(picture.blob);
    location.hash = "#talk";
  };
  const again = () => { paintings.takeSeed(job, picture); onClose(); };
  return html`<${Dialog} title=${promptOf(job)} onClose=${onClose} onKeyDown=${keys} wide>
    <div>
      <img class="large" src=${picture.url} alt=${t("picture_alt", { n: shown + 1, prompt: promptOf(job) })} />
      ${job.pictures.length > 1 && html`<div class="thumbs">${job.pictures.map((one, i) => html`
        <button type="button" class="thumb" aria-pressed=${i === shown ? "true" : "false"} aria-label=${t("picture_alt", { n: i + 1, prompt: promptOf(job) })}
          onClick=${() => setShown(i)}><img src=${one.url} alt="" /></button>`)}</div>`}
      <p class="note">${facts(picture)}</p>
      <div class="row">
        <button type="button" class="soft" onClick=${() => save(picture.blob, `viscpm-${picture.seed}.${picture.format}`)}><${Icon} name="download" />${t("download")}</button>
        <button type="button" class="soft" onClick=${again}><${Icon} name="again" />${t("again")}</button>
        <button type="button" class="soft" onClick=${talk}><${Icon} name="talk" />${t("talk_about")}</button>
      </div>
    </div><//>`;
}

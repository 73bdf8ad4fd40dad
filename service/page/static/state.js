// One quiet line: which models run, screened or not, how much is in work, how much memory that takes.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { SUBMITTED, address } from "./api.js";
import { t } from "./texts.js";

const CALM_MS = 8000;
const BUSY_MS = 2000; // while something is in work, or not there yet

async function readiness() {
  try {
    const report = await (await fetch(address("health/ready"), { cache: "no-store" })).json();
    return report.models ? report : null; // else a proxy's own words
  } catch {
    return null;
  }
}

export function useReadiness() {
  const [report, setReport] = useState(undefined);
  useEffect(() => {
    let timer = 0;
    let busyUntil = 0;
    const look = async () => {
      clearTimeout(timer);
      const found = document.hidden ? undefined : await readiness();
      if (found !== undefined) setReport(found);
      timer = setTimeout(look, isCalm(found) && Date.now() > busyUntil ? CALM_MS : BUSY_MS);
    };
    const onShown = () => { if (!document.hidden) look(); };
    look();
    document.addEventListener("visibilitychange", onShown);
    const onSubmitted = () => { busyUntil = Date.now() + CALM_MS; look(); };
    addEventListener(SUBMITTED, onSubmitted);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onShown);
      removeEventListener(SUBMITTED, onSubmitted);
    };
  }, []);
  return report;
}

const isCalm = (report) => report?.status === "ready" && !sum(report, "jobs");

export function StateLine({ report }) {
  if (report === undefined) return html`<footer class="state"></footer>`;
  const isReady = report?.status === "ready";
  const word = report === null ? t("state_away")
    : isReady ? t("state_ready") : t("state_down", { parts: report.down.map((part) => t(`part_${part}`)).join(", ") });
  return html`
    <footer class="state">
      <p role="status"><span class=${`dot ${isReady ? "good" : "bad"}`}></span>${word}</p>
      ${report && details(report).map((text) => html`<span>${text}</span>`)}
    </footer>`;
}

function details(report) {
  const models = Object.entries(report.models).map(([kind, model]) => {
    const state = model.state === "ready" ? (model.untrained ? t("is_untrained") : t("is_trained")) : t(`is_${model.state}`);
    return `${t(`model_${kind}`)}: ${model.name ? `${model.name}, ` : ""}${state}`;
  });
  const [jobs, waiting, memory] = ["jobs", "waiting", "memory_bytes"].map((field) => sum(report, field));
  const queue = jobs ? t("jobs_some", { n: jobs }) : t("jobs_none");
  return [
    ...models,
    t(report.screens === "open" ? "screens_off" : "screens_on"),
    waiting ? `${queue}, ${t("jobs_waiting", { n: waiting })}` : queue,
    ...(memory ? [t("memory", { size: size(memory) })] : []),
  ];
}

function sum(report, field) {
  const workers = [...Object.values(report.models), report.safety].flatMap((one) => one.workers || []);
  return workers.reduce((total, worker) => total + (worker[field] || 0), 0);
}

const size = (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

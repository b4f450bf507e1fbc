// Work of the server that tells its progress line by line: see work.py.
import { ApiError, current } from "./api.js";

/** Ask `path` with {text}; `onStep({step, done, total})` is called as it goes on. Returns what it came to. */
export async function told(path, body, onStep, signal) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": current().csrf };
  let response;
  try {
    response = await fetch(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { text: "hams-web does not answer", hint: "is it still running?" });
  }
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line) continue;
      const told = JSON.parse(line);
      if (told.error) throw Object.assign(new ApiError(response.status, told.error), { findings: told.error.findings ?? [] });
      if ("done" in told && !("step" in told)) return told.done;
      onStep(told);
    }
    if (done) throw new ApiError(0, { text: "the answer ended early", hint: "see the state under Overview" });
  }
}

/** Send files as a form; `onPart(0–1)` is called as they are sent. Returns {answer, abort}. */
export function sendFiles(path, files, onPart) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.open("POST", `api/${path}`);
    request.setRequestHeader("X-CSRF-Token", current().csrf);
    request.responseType = "json";
    request.upload.onprogress = (event) => onPart(event.lengthComputable ? event.loaded / event.total : null);
    request.onload = () => (request.status < 300 ? resolve(request.response) : reject(new ApiError(request.status, request.response ?? {})));
    request.onerror = () => reject(new ApiError(0, { text: "the upload was interrupted", hint: "is hams-web still running?" }));
    request.onabort = () => reject(new ApiError(0, { text: "the upload was ended" }));
    const form = new FormData();
    for (const one of files) form.append("file", one, one.name);
    request.send(form);
  });
  return { answer, abort: () => request.abort() };
}

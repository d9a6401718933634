// Files in and out of a page, and what it says when something is wrong.

// Hands bytes to the person as a file.
export function save(bytes, name, type = "application/octet-stream") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export async function bytesOf(file) {
  return new Uint8Array(await file.arrayBuffer());
}

// Shows what is wrong where a screen reader says it, or takes it away.
export function tell(message) {
  const place = document.getElementById("problem");
  place.textContent = message;
  place.hidden = message === "";
  if (message !== "") place.scrollIntoView({ block: "nearest" });
}

// Asks the API as the person who is signed in; throws an Error with what to change.
export async function ask(method, path, body) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let answer;
  try {
    answer = await fetch(path, { method, credentials: "same-origin", ...sent });
  } catch {
    throw new Error("the service does not answer: check the connection and try again; nothing here is lost");
  }
  if (answer.status === 401) throw new Error("your session has ended: sign in again in another tab and try again here; nothing is lost");
  const value = await answer.json().catch(() => null);
  if (!answer.ok) {
    const errors = (value?.errors ?? []).map((each) => `${each.pointer} ${each.message}`.trim());
    throw Object.assign(new Error([value?.detail ?? `the service answered ${answer.status}`, ...errors.filter((each) => !each.includes(value?.detail))].join("; ")), { problem: value });
  }
  return value;
}

// Runs what a button does: once at a time, with its problem told.
export async function doing(button, work) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  tell("");
  try {
    return await work();
  } catch (error) {
    tell(error.message);
    return undefined;
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

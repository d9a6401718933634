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

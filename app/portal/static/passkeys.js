// Passkeys: before a form marked `data-passkey` is sent, the authenticator's answer to a fresh challenge is put into it.
// The service decides everything else, and answers with a page as to any form.

function say(form, message) {
  const place = form.querySelector("[data-problem]");
  place.textContent = message;
  place.hidden = message === "";
}

async function challenge(form) {
  const answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  if (!answer.headers.get("Content-Type")?.startsWith("application/json")) {
    throw new Error("Your session has ended, or the service is busy: reload this page and try again.");
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.problem);
  return told;
}

async function ask(form) {
  if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
    throw new Error("This browser cannot use passkeys here: use a newer one, or ask for a one-time link.");
  }
  const told = await challenge(form);
  return form.dataset.passkey === "make"
    ? navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(told) })
    : navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(told) });
}

function words(error) {
  // What browsers call the two ways in which people meet this.
  if (error.name === "NotAllowedError") return "No passkey was used: it was cancelled, or took too long. Try again.";
  if (error.name === "InvalidStateError") return "A passkey of yours is on this device already: use it to sign in.";
  return error.message;
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button[type=submit]");
    say(form, "");
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      form.elements.credential.value = JSON.stringify((await ask(form)).toJSON());
      form.submit(); // sends without asking again
    } catch (error) {
      say(form, words(error));
    } finally {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  });
}

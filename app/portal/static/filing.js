// Signs a filing record with the vendor's key file, in this tab, and files it.

import { openVendorKey } from "./keys.js";
import { hex, utf8 } from "./protocol.js";
import { post } from "./service.js";

const form = document.getElementById("filing");
const said = document.getElementById("filing-said");

const tell = (words, isProblem = false) => {
  said.textContent = words;
  said.className = isProblem ? "problem" : "";
};

async function file() {
  const [chosen] = form.querySelector("#vendor-key").files;
  const key = await openVendorKey(new Uint8Array(await chosen.arrayBuffer()));
  if (hex(key.publicKey) !== form.dataset.vendorKey) throw new Error("this is not the vendor key that registered the watermark: choose the key file of your vendor");
  // Exactly the bytes that the page shows.
  const record = document.getElementById("record").textContent;
  const signature = hex(await key.sign(utf8(record)));
  return post("/v1/disputes", { suspect_id: form.dataset.suspect, record, signature, covers: form.dataset.covers || null });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  tell("Signing and filing…");
  try {
    const { id } = await file();
    location.assign(`/disputes/${encodeURIComponent(id)}`);
  } catch (error) {
    tell(`Not filed: ${error.message}`, true);
    button.disabled = false;
  }
});

form.hidden = false;

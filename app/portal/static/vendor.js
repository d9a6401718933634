// Becoming a vendor: makes the signing key, and signs the service's challenge with it.

import { bytesOf, doing, save } from "./files.js";
import { newVendorKey, openVendorKey } from "./keys.js";
import { PROTOCOL, canonicalJson, hex, utf8 } from "./protocol.js";
import * as service from "./service.js";

const form = document.getElementById("vendor");
const making = document.getElementById("make-key");

making.addEventListener("click", () => doing(making, async () => save((await newVendorKey()).encode(), "vendor.key", "text/plain")));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  doing(form.querySelector("button[type=submit]"), async () => {
    const key = await openVendorKey(await bytesOf(document.getElementById("vendor-key").files[0]));
    const { challenge } = await service.post("/v1/vendors/challenges", {});
    // As the service reads them: without spaces around.
    const [name, contact] = ["name", "contact"].map((field) => form.elements[field].value.trim());
    const claim = { challenge, contact, name, public_key: hex(key.publicKey) };
    const signature = await key.sign(utf8(canonicalJson({ type: `${PROTOCOL}/vendor-registration`, ...claim })));
    for (const [field, value] of Object.entries({ ...claim, signature: hex(signature) })) form.elements[field].value = value;
    form.submit();
  });
});

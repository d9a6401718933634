// Uploads a cover set, which is too large for a form, and puts its digest where the form expects it.

import { upload } from "./service.js";

const place = document.getElementById("upload");

place?.querySelector("input").addEventListener("change", async ({ target }) => {
  const said = document.getElementById("upload-said");
  const [file] = target.files;
  if (!file) return;
  said.className = "";
  said.textContent = `Uploading ${file.name}…`;
  try {
    const { sha256 } = await upload(file, "application/json");
    document.getElementById("covers").value = sha256;
    said.textContent = `Uploaded ${file.name}.`;
  } catch (error) {
    said.className = "problem";
    said.textContent = `Not uploaded: ${error.message}`;
  }
});

if (place) place.hidden = false;

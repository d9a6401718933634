// Uploads a cover file, which may be large, and puts its digest into the form that derives an interface.

const form = document.getElementById("derive-form");
const file = document.getElementById("covers-file");

if (form !== null) {
  const field = document.getElementById("covers");
  const state = document.getElementById("covers-state");
  // Without this script there is no way to send the file, so it stays hidden.
  document.getElementById("covers-upload").hidden = false;
  form.addEventListener("submit", async (event) => {
    if (file.files.length === 0) return;
    event.preventDefault();
    state.textContent = "Uploading the covers …";
    try {
      const answer = await fetch("/v1/artifacts", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: file.files[0],
      });
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.detail ?? said.title);
      field.value = said.sha256;
      // Not submit events again: the file is there now.
      form.submit();
    } catch (error) {
      state.textContent = `The covers were not uploaded: ${error.message}. Choose the file again, then derive.`;
    }
  });
}

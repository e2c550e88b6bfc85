// A page of a run that is still going on: ask its server for what is new, and draw it anew.

const PATIENCE = 5000; // milliseconds between two questions

/** Ask again and again; `draw` puts a new document into this one. */
export function follow(draw) {
  let known = "";
  const status = document.querySelector("#live");
  const ask = async () => {
    try {
      const answer = await fetch("state", { cache: "no-store" });
      const { version } = await answer.json();
      if (known && version !== known && !busy()) {
        const page = await fetch("page", { cache: "no-store" });
        draw(new DOMParser().parseFromString(await page.text(), "text/html"));
      }
      if (!known || !busy()) known = version;
      if (status) status.textContent = "Live: this page follows the run.";
    } catch {
      if (status) status.textContent = "The run is not followed any more: foveate watch has ended.";
    }
    setTimeout(ask, PATIENCE);
  };
  ask();
}

/** Whether somebody is at work on the page: then it stays as it is for a while. */
function busy() {
  return document.activeElement?.matches("main input, main select, main canvas") ?? false;
}

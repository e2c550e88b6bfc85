// What the theme leaves out for readers with a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll('p.caption[role="heading"]')) {
    caption.setAttribute("aria-level", "2");
  }
  for (const wide of document.querySelectorAll("article table.docutils, article pre")) {
    wide.tabIndex = 0; // it scrolls sideways
  }
});

// What the theme leaves to do for readers without a mouse or without eyes.
function mend() {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
  for (const box of document.querySelectorAll("pre, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; // the arrow keys then scroll it
  }
  for (const head of document.querySelectorAll("th")) {
    if (!head.textContent.trim()) head.replaceWith(cell(head));
  }
  document.querySelector("aside.sidebar-drawer")?.setAttribute("aria-label", "Pages");
  document.querySelector("aside.toc-drawer")?.setAttribute("aria-label", "On this page");
}

function cell(head) {
  const empty = document.createElement("td");
  empty.className = head.className;
  return empty;
}

addEventListener("DOMContentLoaded", mend);
addEventListener("resize", mend);

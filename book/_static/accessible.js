document.addEventListener("DOMContentLoaded", () => {
  // The bibliography marks itself as a list but its entries as something else; screen readers
  // then announce an empty list. Without the role they read the entries.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");

  // What is wider than its box scrolls sideways in it; the keyboard has to get there too.
  const boxes = document.querySelectorAll(
    ".bd-article :is(pre, .pst-scrollable-table-container, .cell_output .text_html, .math.display, mjx-container)"
  );
  const reach = () => {
    for (const box of boxes) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  };
  addEventListener("load", reach);
  addEventListener("resize", reach);
});

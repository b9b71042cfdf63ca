document.addEventListener("DOMContentLoaded", () => {
  // The bibliography marks itself as a list but its entries as something else; screen readers
  // then announce an empty list. Without the role they read the entries.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");

  // A drawing of several panels would shrink until nobody can read it on a phone: it scrolls instead.
  const widen = () => {
    for (const picture of document.querySelectorAll(".bd-article .cell_output figure img")) {
      if (picture.naturalWidth <= 750 || picture.parentElement.className === "wide-picture") continue;
      const box = document.createElement("div");
      box.className = "wide-picture";
      picture.replaceWith(box);
      box.append(picture);
      picture.style.minWidth = `${0.66 * picture.naturalWidth}px`;
    }
  };

  // What is wider than its box scrolls sideways in it; the keyboard has to get there too.
  const wide = "pre, .pst-scrollable-table-container, .cell_output .text_html, .math.display, mjx-container, .wide-picture";
  const reach = () => {
    for (const box of document.querySelectorAll(`.bd-article :is(${wide})`)) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    // A long output in a box of its own scrolls up and down.
    for (const box of document.querySelectorAll(".bd-article .tag_output_scroll > .cell_output")) box.tabIndex = 0;
  };
  addEventListener("load", () => {
    widen();
    reach();
  });
  addEventListener("resize", reach);
});

// The bibliography marks itself as a list but its entries as something else; screen readers
// then announce an empty list. Without the role they read the entries.
document.addEventListener("DOMContentLoaded", () => {
  for (const list of document.querySelectorAll(".citation-list[role=list]")) list.removeAttribute("role");
});

// Controls for a rating, one kind for each kind of scale: stars, buttons, thumbs or a slider. All are the browser's own
// inputs underneath, so that arrow keys, fingers and screen readers get what they are used to.
(function () {
  "use strict";

  // h makes elements; valueOf(film) is the rating now, or null; rate(film, value, event) is called with a new one, or
  // with null when stars are taken back.
  window.TryItControls = function (h, model, valueOf, rate) {
    const { low, high, kind, grid, values, decimals } = model.scale;
    let boxes = 0;

    const text = (value) => value.toFixed(decimals).replace("-", "\u2212");

    // A rating in words.
    function say(value) {
      if (value === null) return "not rated";
      if (kind === "thumbs") return value === high ? "liked" : "disliked";
      if (kind === "stars") return `${value} star${value === 1 ? "" : "s"}`;
      return `${text(value)} on the scale from ${text(low)} to ${text(high)}`;
    }

    // A rating with the film it is of, after "your".
    function own(value, title) {
      if (kind === "thumbs") return `${value === high ? "like" : "dislike"} of ${title}`;
      return `${kind === "stars" ? value : text(value)} for ${title}`;
    }

    // Stars over a slider that begins at 0, which means none.
    function stars(film, about) {
      const input = h("input", {
        type: "range", min: 0, max: high, step: grid, "aria-label": about,
        oninput: (event) => {
          const value = Number(input.value);
          rate(film, value ? Math.max(value, low) : null, event);
        },
      });
      return h("span", { class: "try-it-rate", "data-film": film, style: `--count: ${high}; --steps: ${high / grid}` },
        h("span", { class: "try-it-stars" }, h("span", { class: "try-it-stars-fill", "aria-hidden": "true" }), input),
        h("span", { class: "try-it-value", "aria-hidden": "true" }));
    }

    function buttons(film, about) {
      const name = `try-it-${++boxes}`;
      const label = (value) => (kind === "thumbs" ? (value === high ? "Like" : "Dislike") : text(value));
      const columns = values.length > 6 ? Math.ceil(values.length / 2) : values.length; // where the window is narrow
      return h("fieldset", { class: "try-it-rate try-it-buttons", "data-film": film, style: `--columns: ${columns}` },
        h("legend", { class: "try-it-unseen" }, about),
        ...values.map((value) => h("label", null,
          h("input", { type: "radio", name, value, onchange: (event) => rate(film, value, event) }),
          h("span", null, label(value)))));
    }

    function slider(film, about) {
      const set = (event) => rate(film, Number(Number(input.value).toFixed(decimals)), event);
      const input = h("input", {
        type: "range", min: low, max: high, step: grid, "aria-label": about, oninput: set,
        // A click on the place where the thumb lies already changes nothing, and is meant all the same.
        onclick: (event) => { if (valueOf(film) === null) set(event); },
      });
      return h("span", { class: "try-it-rate try-it-slider", "data-film": film }, input,
        h("span", { class: "try-it-value", "aria-hidden": "true" }));
    }

    // What a box shows is the rating now.
    function show(box) {
      const value = valueOf(Number(box.dataset.film));
      if (box.classList.contains("try-it-buttons")) {
        for (const radio of box.querySelectorAll("input")) radio.checked = Number(radio.value) === value;
        return;
      }
      const input = box.querySelector("input");
      const place = value ?? (kind === "stars" ? 0 : (low + high) / 2);
      if (Number(input.value) !== place) input.value = place;
      input.setAttribute("aria-valuetext", say(value));
      box.classList.toggle("try-it-unset", value === null);
      box.style.setProperty("--stars", value ?? 0);
      box.lastChild.textContent = value === null ? (kind === "stars" ? "" : "\u2013") : text(value);
    }

    function control(film) {
      const make = { stars, slider }[kind] || buttons;
      const box = make(film, `Your rating of ${model.titles[film]}`);
      show(box);
      return box;
    }

    return { control, show, own };
  };
})();

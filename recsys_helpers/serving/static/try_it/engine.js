// The numbers behind the page "Try it": no document, no network, no state. The page loads it as a classic
// script (modules do not load from file://), node's test runner as a CommonJS module.
(function (root, make) {
  if (typeof module === "object" && module.exports) module.exports = make();
  else root.TryItEngine = make();
})(typeof self === "undefined" ? this : self, function () {
  "use strict";

  const FORMAT = "recsys_helpers.try_it";
  const VERSION = 3;
  const ASKED = 500; // films that are asked about where the file does not say: the most rated
  const LEAST_CHANCE = 0.01; // a regression on noughts and ones may say nought or less
  const TYPES = { uint8: 1, uint16: 2, int16: 2, uint32: 4, int32: 4 };

  // ---- the model file ----------------------------------------------------------------------------

  function unpack(packed, name) {
    const bytes = packed && TYPES[packed.type];
    if (!bytes || typeof packed.data !== "string") throw new Error(`its column ${name} is missing or damaged`);
    const raw = atob(packed.data);
    if (raw.length % bytes) throw new Error(`its column ${name} is cut off`);
    const view = new DataView(new ArrayBuffer(raw.length));
    for (let i = 0; i < raw.length; i++) view.setUint8(i, raw.charCodeAt(i));
    const read = `get${packed.type[0].toUpperCase()}${packed.type.slice(1)}`; // of DataView: getInt16 and so on
    const out = new Float64Array(raw.length / bytes);
    for (let i = 0; i < out.length; i++) out[i] = view[read](i * bytes, true);
    return out;
  }

  // Ids are differences of whole numbers, or a list: of text, or of numbers too large for JavaScript, as text.
  function readIds(ids) {
    if (Array.isArray(ids)) {
      if (!ids.every((id) => typeof id === "string" && id)) throw new Error("its ids are damaged");
      return ids;
    }
    const out = unpack(ids, "item_ids");
    for (let i = 1; i < out.length; i++) out[i] += out[i - 1];
    return Array.from(out);
  }

  // How ratings are given and shown. step: the distance of two ratings, or null where there is none.
  // kind: "thumbs" for two values; "stars" from half a star or one up to five; "buttons" up to eleven values;
  // else "slider". digits: decimals of a prediction; decimals: of a rating.
  function ratingScale(low, high, step) {
    if (!(low < high) || !(step === null || (step > 0 && step <= high - low))) throw new Error("its scale is damaged");
    const span = high - low;
    const count = step ? Math.round(span / step) + 1 : Infinity;
    const starred = (step === 1 || step === 0.5) && low > 0 && low <= 1 && high >= 3 && high <= 5 &&
      Number.isInteger(high) && Number.isInteger(low / step);
    const kind = count === 2 ? "thumbs" : starred ? "stars" : count <= 11 ? "buttons" : "slider";
    const digits = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(span / 3))));
    let grid = step;
    if (kind === "slider" && count > 401) {
      const power = 10 ** Math.floor(Math.log10(span / 100));
      grid = [1, 2, 5, 10].map((times) => times * power).find((nice) => nice >= span / 201);
    }
    let decimals = 0;
    while (decimals < 4 && Math.abs(grid * 10 ** decimals - Math.round(grid * 10 ** decimals)) > 1e-6) decimals++;
    while (decimals < 4 && Math.abs(low * 10 ** decimals - Math.round(low * 10 ** decimals)) > 1e-6) decimals++;
    const values = kind === "slider" ? [] : Array.from({ length: count }, (_, at) => Number((low + at * step).toFixed(decimals)));
    return { low, high, step, kind, grid, digits, decimals, values };
  }

  // Whether a number can be a rating: inside the scale, and on its steps.
  function isRating(scale, value) {
    if (typeof value !== "number" || !(value >= scale.low && value <= scale.high)) return false;
    const steps = (value - scale.low) / scale.step;
    return scale.step === null || Math.abs(steps - Math.round(steps)) < 1e-3;
  }

  // The second model, of likes: factors, and Q'Q, which every person's equations begin with.
  function decodeLikes(file, n) {
    if (!file) return null;
    const k = file.factors;
    const x = unpack(file.films, "likes.films");
    const likedBy = unpack(file.liked_by, "likes.liked_by");
    if (x.length !== n * k || file.steps.length !== k || likedBy.length !== n) throw new Error("its likes are incomplete");
    const numbers = [file.weight, file.reg, file.exponent, ...file.steps];
    if (!numbers.every(Number.isFinite)) throw new Error("a number in its likes is missing");
    for (let i = 0; i < x.length; i++) x[i] *= file.steps[i % k];
    const gram = new Float64Array(k * k);
    for (let at = 0; at < x.length; at += k) {
      for (let i = 0; i < k; i++) {
        for (let j = 0; j <= i; j++) gram[i * k + j] += x[at + i] * x[at + j];
      }
    }
    const threshold = typeof file.threshold === "number" ? file.threshold : -Infinity;
    return { k, width: k, x, likedBy, gram, threshold, weight: file.weight, reg: file.reg, exponent: file.exponent };
  }

  // The model of who has rated what, a table of noughts and ones: its films are the most rated, in this order.
  function decodeKnowing(file, n) {
    if (!file) return null;
    const k = file.factors;
    const width = k + 1;
    const x = unpack(file.films, "knowing.films");
    const count = x.length / width;
    const whole = Number.isInteger(count) && count >= 1 && count <= n && file.steps.length === width;
    if (!whole) throw new Error("its model of what people know is incomplete");
    const numbers = [file.mean, file.reg, file.bias_reg, ...file.steps];
    if (!numbers.every(Number.isFinite)) throw new Error("a number in its model of what people know is missing");
    for (let i = 0; i < x.length; i++) x[i] *= file.steps[i % width];
    return { n: count, k, width, x, mean: file.mean, reg: file.reg, biasReg: file.bias_reg, weighted: false };
  }

  // What questions begin with in place of the penalties, the lower triangle row after row; null where the file has none.
  function decodePrior(file, width) {
    if (!file) return null;
    const sound = Array.isArray(file) && file.length === (width * (width + 1)) / 2 && file.every(Number.isFinite);
    if (!sound) throw new Error("its prior is damaged");
    const out = new Float64Array(width * width);
    for (let i = 0, at = 0; i < width; i++) {
      for (let j = 0; j <= i; j++) out[i * width + j] = file[at++];
    }
    return out;
  }

  // The mean of x x' over all films, each as often as it was rated: S of recsys_helpers.serving.questions.
  function meanSquare(x, width, counts) {
    const out = new Float64Array(width * width);
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    const row = new Float64Array(width);
    row[width - 1] = 1; // of the person's bias
    counts.forEach((count, film) => {
      for (let i = 0; i < width - 1; i++) row[i] = x[film * width + i];
      for (let i = 0; i < width; i++) {
        for (let j = 0; j < width; j++) out[i * width + j] += (count / total) * row[i] * row[j];
      }
    });
    return out;
  }

  // What export.py wrote, as arrays. x holds, film after film, the k factors and the bias.
  function decode(file) {
    if (!file || file.format !== FORMAT) throw new Error("it is not a model of this page");
    if (file.version !== VERSION) {
      throw new Error(`its version is ${file.version}, and this page reads version ${VERSION}`);
    }
    const k = file.factors;
    const width = k + 1;
    const x = unpack(file.films, "films");
    const n = x.length / width;
    if (!Number.isInteger(n) || n < 1 || file.steps.length !== width) throw new Error("its factors are incomplete");
    for (let i = 0; i < x.length; i++) x[i] *= file.steps[i % width];
    const ids = readIds(file.item_ids);
    const counts = unpack(file.counts, "counts");
    const years = unpack(file.years, "years").map((y) => (y ? y + file.first_year - 1 : 0));
    const genreOf = unpack(file.genre_of, "genre_of");
    for (const column of [ids, counts, years, genreOf, file.titles]) {
      if (column.length !== n) throw new Error(`its columns have different lengths, ${n} and ${column.length}`);
    }
    const numbers = [file.mean, file.reg, file.bias_reg, ...file.scale, ...file.steps];
    if (!numbers.every(Number.isFinite)) throw new Error("a number in it is missing");
    const order = Array.from(counts.keys()).sort((a, b) => counts[b] - counts[a] || a - b);
    const popularityRank = new Int32Array(n);
    order.forEach((film, rank) => (popularityRank[film] = rank));
    return {
      n, k, width, x, ids, counts, years, order, popularityRank,
      titles: file.titles.map((title, i) => (years[i] ? `${title} (${years[i]})` : title)),
      genreNames: file.genres,
      genres: Array.from(genreOf, (at) => file.genre_sets[at]),
      codeOf: new Map(ids.map((id, i) => [id, i])), noun: file.noun, columns: file.columns, reader: file.reader,
      mean: file.mean, reg: file.reg, biasReg: file.bias_reg, weighted: file.weighted,
      scale: ratingScale(file.scale[0], file.scale[1], file.step),
      likes: decodeLikes(file.likes, n),
      noise: typeof file.noise === "number" && file.noise > 0 ? file.noise : null,
      knowing: decodeKnowing(file.knowing, n), prior: decodePrior(file.prior, width),
      met: meanSquare(x, width, counts),
    };
  }

  // ---- least squares -----------------------------------------------------------------------------

  // Lower triangle L with L L' = a, in place of a (d x d, row after row).
  function cholesky(a, d) {
    for (let j = 0; j < d; j++) {
      const whole = a[j * d + j];
      for (let i = j; i < d; i++) {
        let sum = a[i * d + j];
        for (let t = 0; t < j; t++) sum -= a[i * d + t] * a[j * d + t];
        if (i === j) {
          if (!(sum > 1e-12 * whole)) throw new Error("the normal equations have no unique solution");
          a[j * d + j] = Math.sqrt(sum);
        } else a[i * d + j] = sum / a[j * d + j];
      }
    }
    return a;
  }

  // z with L L' z = b.
  function solve(l, d, b) {
    const z = new Float64Array(b);
    for (let i = 0; i < d; i++) {
      for (let t = 0; t < i; t++) z[i] -= l[i * d + t] * z[t];
      z[i] /= l[i * d + i];
    }
    for (let i = d - 1; i >= 0; i--) {
      for (let t = i + 1; t < d; t++) z[i] -= l[t * d + i] * z[t];
      z[i] /= l[i * d + i];
    }
    return z;
  }

  // x of a film as a person meets it: the factors, and 1 for the person's bias.
  function rowOf(model, film, row) {
    const { x, width: d, k } = model;
    for (let i = 0; i < k; i++) row[i] = x[film * d + i];
    row[k] = 1;
    return row;
  }

  // a + row row', its lower triangle, in place.
  function addSquare(a, d, row) {
    for (let i = 0; i < d; i++) {
      for (let j = 0; j <= i; j++) a[i * d + j] += row[i] * row[j];
    }
  }

  // A of the person who rated these films: X'X and the penalties, the lower triangle.
  function normalMatrix(model, films) {
    const { width: d, k } = model;
    const a = new Float64Array(d * d);
    const row = new Float64Array(d);
    for (const film of films) addSquare(a, d, rowOf(model, film, row));
    const times = model.weighted ? Math.max(films.length, 1) : 1;
    for (let i = 0; i < d; i++) a[i * d + i] += times * (i < k ? model.reg : model.biasReg);
    return a;
  }

  // Factors and bias of a person from (film, value) pairs: BiasedALS.fold_in, chapter 4's normal equations.
  function foldIn(model, ratings) {
    const { x, width: d, k } = model;
    const films = Int32Array.from(ratings, ([film]) => film);
    const values = Float64Array.from(ratings, ([, value]) => value);
    const target = values.map((value, at) => value - model.mean - x[films[at] * d + k]);
    const right = new Float64Array(d);
    const row = new Float64Array(d);
    films.forEach((film, at) => {
      rowOf(model, film, row);
      for (let i = 0; i < d; i++) right[i] += row[i] * target[at];
    });
    const a = cholesky(normalMatrix(model, films), d);
    return { films, values, target, triangle: a, theta: solve(a, d, right) };
  }

  // How far the person's rating of a film may lie from its prediction: one standard deviation, noise included.
  // x' A^-1 x is the squared length of L^-1 x.
  function deviation(model, person, film) {
    const d = model.width;
    const z = rowOf(model, film, new Float64Array(d));
    let variance = 1;
    for (let i = 0; i < d; i++) {
      for (let t = 0; t < i; t++) z[i] -= person.triangle[i * d + t] * z[t];
      z[i] /= person.triangle[i * d + i];
      variance += z[i] * z[i];
    }
    return model.noise * Math.sqrt(variance);
  }

  // The inverse of L L'.
  function inverseOf(triangle, d) {
    const out = new Float64Array(d * d);
    for (let i = 0; i < d; i++) out.set(solve(triangle, d, Float64Array.from({ length: d }, (_, at) => Number(at === i))), i * d);
    return out;
  }

  function product(a, b, d) {
    const out = new Float64Array(d * d);
    for (let i = 0; i < d; i++) {
      for (let t = 0; t < d; t++) {
        for (let j = 0; j < d; j++) out[i * d + j] += a[i * d + t] * b[t * d + j];
      }
    }
    return out;
  }

  // row' a row, of a symmetric a.
  function square(a, row, d) {
    let out = 0;
    for (let i = 0; i < d; i++) {
      let sum = a[i * d + i] * row[i];
      for (let j = 0; j < i; j++) sum += 2 * a[i * d + j] * row[j];
      out += sum * row[i];
    }
    return out;
  }

  // ---- questions -----------------------------------------------------------------------------------

  // How much a rating of each of these films would take from the mean predictive variance, in multiples of the noise's:
  // x' A^-1 S A^-1 x / (1 + x' A^-1 x). Without a prior and penalties there may be no A^-1 yet: then none is better than another.
  function reductions(model, a, films) {
    const { width: d, met } = model;
    let triangle;
    try {
      triangle = cholesky(a.slice(), d);
    } catch {
      return films.map(() => 1);
    }
    const inverse = inverseOf(triangle, d);
    const spread = product(product(inverse, met, d), inverse, d);
    const row = new Float64Array(d);
    return films.map((film) => {
      rowOf(model, film, row);
      return square(spread, row, d) / (1 + square(inverse, row, d));
    });
  }

  // How probable it is that the person knows each film that may be asked about. Without a model of who has rated what,
  // in proportion to its ratings.
  function chances(model, films, rated, unseen) {
    const { knowing, counts, popularityRank } = model;
    if (!knowing) return films.map((film) => counts[film]);
    const told = [...rated.map((film) => [film, 1]), ...unseen.map((film) => [film, 0])]
      .map(([film, known]) => [popularityRank[film], known]).filter(([place]) => place < knowing.n);
    const score = scores(knowing, foldIn(knowing, told));
    return films.map((film) => Math.min(1, Math.max(LEAST_CHANCE, score[popularityRank[film]])));
  }

  // The n films to ask about next, Questions.ask of the package: the largest product of chance and reduction, and then
  // again as if the films before were answered. rated, unseen: arrays of films; exclude: a function of the film.
  function ask(model, { rated = [], unseen = [], n = 1, exclude = () => false } = {}) {
    const films = model.order.slice(0, model.knowing ? model.knowing.n : ASKED);
    const chance = chances(model, films, rated, unseen);
    const closed = new Set([...rated, ...unseen]);
    const a = model.prior ? model.prior.slice() : normalMatrix(model, rated);
    const row = new Float64Array(model.width);
    if (model.prior) for (const film of rated) addSquare(a, model.width, rowOf(model, film, row));
    const chosen = [];
    while (chosen.length < n) {
      const gain = reductions(model, a, films).map((reduction, at) => chance[at] * reduction);
      const [at] = best(gain, 1, (place) => !closed.has(films[place]) && !exclude(films[place]));
      if (at === undefined) break;
      chosen.push(films[at]);
      closed.add(films[at]);
      addSquare(a, model.width, rowOf(model, films[at], row));
    }
    return chosen;
  }

  // A person of likes alone, ImplicitALS.fold_in: (w Q'Q + sum of q q' over the likes + penalty) p = (1 + w) sum of q.
  // Without a like there is nothing to solve, and the list is what most people like.
  function likeIn(model, ratings) {
    const { x, k, gram, threshold, weight, reg, exponent } = model.likes;
    const liked = ratings.filter(([, value]) => value >= threshold);
    const films = Int32Array.from(liked, ([film]) => film);
    const values = Float64Array.from(liked, ([, value]) => value);
    const person = { likes: true, films, values, theta: null };
    if (!liked.length) return person;
    const a = gram.map((value) => weight * value);
    const right = new Float64Array(k);
    for (const film of films) {
      for (let i = 0; i < k; i++) {
        right[i] += (1 + weight) * x[film * k + i];
        for (let j = 0; j <= i; j++) a[i * k + j] += x[film * k + i] * x[film * k + j];
      }
    }
    const penalty = reg * (films.length + weight * model.n) ** exponent;
    for (let i = 0; i < k; i++) a[i * k + i] += penalty;
    cholesky(a, k);
    return { ...person, triangle: a, theta: solve(a, k, right) };
  }

  function likeScores(model, person) {
    const { x, k, likedBy } = model.likes;
    if (!person.theta) return likedBy.slice();
    const out = new Float64Array(model.n);
    for (let film = 0, at = 0; film < model.n; film++, at += k) {
      for (let i = 0; i < k; i++) out[film] += x[at + i] * person.theta[i];
    }
    return out;
  }

  // How much each like speaks for a film, the most first; they sum to its score.
  function likeReasons(model, person, film) {
    const { x, k, weight } = model.likes;
    if (!person.theta) return { baseline: 0, parts: [] };
    const turned = solve(person.triangle, k, x.slice(film * k, film * k + k));
    const parts = Array.from(person.films, (other, at) => {
      let closeness = 0;
      for (let i = 0; i < k; i++) closeness += x[other * k + i] * turned[i];
      return { film: other, value: person.values[at], contribution: (1 + weight) * closeness };
    });
    parts.sort((a, b) => b.contribution - a.contribution || a.film - b.film);
    return { baseline: 0, parts };
  }

  function scores(model, person) {
    if (person.likes) return likeScores(model, person);
    const { x, width: d, k, n } = model;
    const out = new Float64Array(n);
    for (let film = 0, at = 0; film < n; film++, at += d) {
      let sum = model.mean + person.theta[k] + x[at + k];
      for (let i = 0; i < k; i++) sum += x[at + i] * person.theta[i];
      out[film] = sum;
    }
    return out;
  }

  // The n best films by score, the smaller code on a tie, among those that `allowed` lets pass.
  function best(score, n, allowed) {
    const top = [];
    for (let film = 0; film < score.length; film++) {
      if (!Number.isFinite(score[film])) continue;
      if (top.length === n && score[film] <= score[top[n - 1]]) continue;
      if (!allowed(film)) continue;
      let at = top.length;
      while (at > 0 && score[film] > score[top[at - 1]]) at--;
      top.splice(at, 0, film);
      if (top.length > n) top.pop();
    }
    return top;
  }

  // options: n; genre, a position in genreNames or -1; skip, how many of the most rated films to leave out;
  // atLeast, the fewest ratings of a film; exclude, a function of the film.
  function recommend(model, person, { n = 10, genre = -1, skip = 0, atLeast = 0, exclude = () => false } = {}) {
    const score = scores(model, person);
    const allowed = (film) =>
      model.popularityRank[film] >= skip && model.counts[film] >= atLeast &&
      (genre < 0 || model.genres[film].includes(genre)) && !exclude(film);
    return best(score, n, allowed).map((film) => ({ film, score: score[film] }));
  }

  // What each own rating contributed to one prediction, the largest first; with the baseline they sum to it.
  function explain(model, person, film) {
    if (person.likes) return likeReasons(model, person, film);
    const { x, width: d, k } = model;
    const own = x.slice(film * d, film * d + d);
    own[k] = 1;
    const turned = solve(person.triangle, d, own);
    const parts = Array.from(person.films, (other, at) => {
      let weight = turned[k];
      for (let i = 0; i < k; i++) weight += x[other * d + i] * turned[i];
      return { film: other, value: person.values[at], contribution: weight * person.target[at] };
    });
    parts.sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution) || a.film - b.film);
    return { baseline: model.mean + x[film * d + k], parts };
  }

  // Films whose factors point in the most similar direction, as similar_items of the model, or of the one of likes.
  function similar(model, film, n = 6, minRatings = 20, { x, width: d, k } = model) {
    const score = new Float64Array(model.n);
    let own = 0;
    for (let i = 0; i < k; i++) own += x[film * d + i] ** 2;
    for (let other = 0; other < model.n; other++) {
      let dot = 0;
      let length = 0;
      for (let i = 0; i < k; i++) {
        dot += x[other * d + i] * x[film * d + i];
        length += x[other * d + i] ** 2;
      }
      score[other] = length && own ? dot / Math.sqrt(length * own) : NaN;
    }
    const allowed = (other) => other !== film && model.counts[other] >= minRatings;
    return best(score, n, allowed).map((other) => ({ film: other, score: score[other] }));
  }

  // ---- search ------------------------------------------------------------------------------------

  const ARTICLES = new Set("the a an le la les l el los las il lo gli i der die das".split(" "));
  const ROMAN = { ii: "2", iii: "3", iv: "4", v: "5", vi: "6", vii: "7", viii: "8" };
  const LETTERS = { ø: "o", æ: "ae", œ: "oe", ß: "ss", ł: "l", đ: "d", ð: "d", þ: "th", ı: "i" };

  function words(text) {
    const plain = text
      .normalize("NFD")
      .replace(/[\u0300-\u036f'’‘`]/g, "")
      .toLowerCase()
      .replace(/[øæœßłđðþı]/g, (letter) => LETTERS[letter])
      .replace(/&/g, " and ");
    return plain.match(/[\p{L}\p{N}]+/gu) || [];
  }

  // Which of 32 groups of characters occur in a word: a letter that is missing costs an edit.
  function letters(word) {
    let mask = 0;
    for (let i = 0; i < word.length; i++) mask |= 1 << (word.charCodeAt(i) & 31);
    return mask;
  }

  function bits(mask) {
    let count = 0;
    for (; mask; mask &= mask - 1) count++;
    return count;
  }

  const LONGEST = 40; // letters of a word in a query
  const rows = Array.from({ length: 3 }, () => new Uint8Array(LONGEST + 8));

  // Fewest edits (replace, drop, add, swap neighbors) that make `token` a beginning of `word`; > limit: limit + 1.
  function prefixDistance(token, word, limit) {
    const columns = Math.min(word.length, token.length + limit);
    let [before, above, row] = rows;
    for (let j = 0; j <= columns; j++) above[j] = j;
    for (let i = 1; i <= token.length; i++) {
      const letter = token.charCodeAt(i - 1);
      let least = (row[0] = i);
      for (let j = 1; j <= columns; j++) {
        const other = word.charCodeAt(j - 1);
        let edits = Math.min(above[j - 1] + (letter === other ? 0 : 1), above[j] + 1, row[j - 1] + 1);
        if (i > 1 && j > 1 && letter === word.charCodeAt(j - 2) && token.charCodeAt(i - 2) === other) {
          edits = Math.min(edits, before[j - 2] + 1);
        }
        row[j] = edits;
        least = Math.min(least, edits);
      }
      if (least > limit) return limit + 1;
      [before, above, row] = [above, row, before];
    }
    let least = limit + 1;
    for (let j = 0; j <= columns; j++) least = Math.min(least, above[j]);
    return least;
  }

  // A function (query, limit) -> films. Forgives accents, articles, word order, missing spaces and typing errors,
  // and reads the numbers of sequels in either script.
  function searcher(model) {
    const found = new Map();
    const firsts = [];
    const lengths = new Uint16Array(model.n);
    model.titles.forEach((title, film) => {
      const own = words(title);
      const joined = own.slice(1).map((word, at) => own[at] + word); // "star" + "wars"
      const numbers = own.filter((word) => ROMAN[word]).map((word) => ROMAN[word]);
      for (const word of new Set([...own, ...joined, ...numbers])) {
        if (!found.has(word)) found.set(word, []);
        found.get(word).push(film);
      }
      firsts[film] = own.find((word) => !ARTICLES.has(word)) || own[0] || "";
      lengths[film] = own.filter((word) => !ARTICLES.has(word)).length;
    });
    const vocabulary = Array.from(found.keys()).sort();
    const masks = Int32Array.from(vocabulary, letters);

    function start(token) {
      let low = 0;
      let high = vocabulary.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (vocabulary[middle] < token) low = middle + 1;
        else high = middle;
      }
      return low;
    }

    function match(token, fuzzy, quality) {
      quality.fill(0);
      const credit = (word, value) => {
        for (const film of found.get(word)) quality[film] = Math.max(quality[film], value);
      };
      for (let at = start(token); at < vocabulary.length && vocabulary[at].startsWith(token); at++) {
        credit(vocabulary[at], 2 + token.length / vocabulary[at].length);
      }
      const limit = token.length < 4 ? 0 : token.length < 7 ? 1 : 2;
      if (!fuzzy || !limit) return;
      const mask = letters(token);
      for (let at = 0; at < vocabulary.length; at++) {
        const word = vocabulary[at];
        if (word.length < token.length - limit || bits(mask & ~masks[at]) > limit) continue;
        const edits = prefixDistance(token, word, limit);
        if (edits && edits <= limit) credit(word, 2 - 0.6 * edits + (token.length / word.length) * 0.3);
      }
    }

    const quality = new Float32Array(model.n);
    return function search(query, limit = 8) {
      let tokens = words(String(query)).slice(0, 12).map((word) => word.slice(0, LONGEST));
      const telling = tokens.filter((word) => !ARTICLES.has(word));
      if (telling.length) tokens = telling;
      if (!tokens.length) return [];
      for (const fuzzy of [false, true]) {
        const total = new Float64Array(model.n);
        const matched = new Uint8Array(model.n);
        for (const token of tokens) {
          match(token, fuzzy, quality);
          for (let film = 0; film < model.n; film++) {
            if (quality[film]) {
              total[film] += quality[film];
              matched[film]++;
            }
          }
        }
        let most = 0;
        for (let film = 0; film < model.n; film++) most = Math.max(most, matched[film]);
        if (!most || (!fuzzy && most < tokens.length)) continue;
        for (let film = 0; film < model.n; film++) {
          if (matched[film] < most) total[film] = NaN;
          else {
            if (firsts[film].startsWith(tokens[0])) total[film] += 0.5;
            total[film] += most / Math.max(lengths[film], most) + 0.25 * Math.log1p(model.counts[film]);
          }
        }
        return best(total, limit, () => true);
      }
      return [];
    };
  }

  // ---- what the browser keeps ----------------------------------------------------------------------

  const MOST_KEPT = 20000;

  // Read what `keep` wrote, and trust none of it: entries that make no sense are counted and left out.
  function readKept(text, model) {
    const out = { ratings: new Map(), hidden: new Set(), unseen: new Set(), by: null, dropped: 0, unreadable: false };
    if (text === null || text === undefined) return out;
    let stored;
    try {
      stored = JSON.parse(text);
    } catch {
      return { ...out, unreadable: true };
    }
    const sound = stored && stored.version === 1 && Array.isArray(stored.ratings) && Array.isArray(stored.hidden);
    if (!sound) return { ...out, unreadable: true };
    if (model.likes && (stored.by === "likes" || stored.by === "ratings")) out.by = stored.by;
    for (const entry of stored.ratings.slice(0, MOST_KEPT)) {
      const [movie, value, time] = Array.isArray(entry) ? entry : [];
      const film = model.codeOf.get(movie);
      const right =
        film !== undefined && !out.ratings.has(film) && isRating(model.scale, value) &&
        Number.isSafeInteger(time) && time >= 0;
      if (right) out.ratings.set(film, { value, time });
      else out.dropped++;
    }
    // What was kept before the page asked has no list of films not seen.
    const unseen = Array.isArray(stored.unseen) ? stored.unseen : [];
    for (const [list, set] of [[stored.hidden, out.hidden], [unseen, out.unseen]]) {
      for (const movie of list.slice(0, MOST_KEPT)) {
        const film = model.codeOf.get(movie);
        if (film !== undefined) set.add(film);
        else out.dropped++;
      }
    }
    for (const list of [stored.ratings, stored.hidden, unseen]) out.dropped += Math.max(0, list.length - MOST_KEPT);
    return out;
  }

  // unseen: the films to which the answer was "not seen". by: which model ranks, "likes" or "ratings"; undefined where
  // there is one only.
  function keep(model, ratings, hidden, unseen, by) {
    return JSON.stringify({
      version: 1,
      by,
      ratings: Array.from(ratings, ([film, { value, time }]) => [model.ids[film], value, time]),
      hidden: Array.from(hidden, (film) => model.ids[film]),
      unseen: Array.from(unseen, (film) => model.ids[film]),
    });
  }

  const field = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));

  // The columns of the data; the reader's own id belongs to nobody there.
  function toCsv(model, ratings) {
    const rows = Array.from(ratings, ([film, { value, time }]) => [model.reader, model.ids[film], value, time]);
    return [[...model.columns, "rating", "timestamp"], ...rows].map((row) => `${row.map(field).join(",")}\n`).join("");
  }

  return {
    decode, cholesky, solve, foldIn, likeIn, deviation, ask, scores, recommend, explain, similar, searcher, words, prefixDistance,
    readKept, keep, toCsv, ratingScale, isRating,
  };
});

// Debiased exponential average. It only ever appends, skips what is no number, and a constant stays.

export class Smoother {
  out = [];
  #average = 0;
  #seen = 0;

  constructor(weight) {
    this.weight = weight;
  }

  /** Append the averages of what is new in `values`. */
  extend(values) {
    for (let i = this.out.length; i < values.length; i++) {
      const value = values[i];
      if (!Number.isFinite(value)) {
        this.out.push(null);
        continue;
      }
      this.#average = this.#average * this.weight + (1 - this.weight) * value;
      this.#seen++;
      this.out.push(this.#average / (1 - this.weight ** this.#seen));
    }
    return this.out;
  }
}

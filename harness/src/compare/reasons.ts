/** Reasons with the number of cases, most frequent first. */
export class Reasons {
  readonly #counts = new Map<string, number>();

  add(reason: string): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  lines(): readonly string[] {
    return [...this.#counts].sort(([, a], [, b]) => b - a).map(([reason, count]) => `  ${count} x ${reason}`);
  }
}

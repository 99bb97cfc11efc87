/**
 * The words that a byte of a state stands for: word `i` of the list is stored as byte `i`, so that a new state is all
 * first words. Code reads and writes words; only `Machine` and its views know that there are bytes.
 */

export class Words<Word extends string> {
  readonly all: readonly Word[];
  readonly #bytes: Readonly<Record<string, number>>;

  constructor(...all: readonly Word[]) {
    this.all = all;
    this.#bytes = Object.fromEntries(all.map((word, byte) => [word, byte]));
  }

  word(byte: number): Word {
    return this.all[byte] as Word;
  }

  byte(word: Word): number {
    return this.#bytes[word] as number;
  }
}

/** The union of a list's words: `WordOf<typeof EPT>`. */
export type WordOf<List> = List extends Words<infer Word> ? Word : never;

/**
 * The words that a byte of a state stands for: word `i` of the list is stored as byte `i`, so that a new state is all
 * first words. Code reads and writes words; only the views of a state know that there are bytes.
 *
 * A list that guards read is a constant of its view's module and not exported: V8 folds such constants into the code, and
 * loads what is imported or exported from a cell each time.
 */

export class Words<Word extends string> {
  readonly all: readonly Word[];

  constructor(all: readonly Word[]) {
    this.all = all;
  }

  word(byte: number): Word {
    return this.all[byte] as Word;
  }

  /** By search: the lists are short, and a look-up by name is slower. */
  byte(word: Word): number {
    for (let byte = 0; byte < this.all.length; byte++) if (this.all[byte] === word) return byte;
    throw new RangeError(`${word} is none of ${this.all.join(", ")}`);
  }
}

/** The known words nearest to an unknown one, for messages. */

const NEAREST_MAX = 3;
/** Longer than any word of ours: of a word that is longer, what comes first is compared. */
const COMPARED_LENGTH_MAX = 128;

/** Levenshtein distance: how many characters to add, drop or change. */
function distance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const change = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(change, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** The known ids that look most like `id`; all of them if there are only a few. */
export function nearest(id: string, known: readonly string[]): readonly string[] {
  if (known.length <= 6) return known;
  const word = id.slice(0, COMPARED_LENGTH_MAX);
  return known
    .map((candidate) => ({
      candidate,
      distance:
        distance(word, candidate.slice(0, COMPARED_LENGTH_MAX)) - (candidate.includes(id) ? id.length : 0),
    }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, NEAREST_MAX)
    .map(({ candidate }) => candidate);
}

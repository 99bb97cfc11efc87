/** Sets of actors as bit masks of as many words as a model's actors need. */

/** Bit `actor & 31` of word `actor >> 5`. */
export type ActorSet = Int32Array;

export function actorWords(actors: number): number {
  return Math.max(1, Math.ceil(actors / 32));
}

export function noActors(actors: number): ActorSet {
  return new Int32Array(actorWords(actors));
}

/** @param at where the set begins in an array of sets */
export function addActor(sets: ActorSet, actor: number, at: number = 0): void {
  const word = at + (actor >> 5);
  sets[word] = (sets[word] as number) | (1 << (actor & 31));
}

export function hasActor(sets: ActorSet, actor: number, at: number = 0): boolean {
  return ((sets[at + (actor >> 5)] as number) & (1 << (actor & 31))) !== 0;
}

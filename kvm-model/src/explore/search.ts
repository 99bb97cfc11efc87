/** Questions to a graph: is there a state such that ..., and how does one get there? */
import { type CycleQuery, findFairLasso } from "./cycles.ts";
import type { Graph } from "./explorer.ts";
import { formatToken } from "./path.ts";

/** A way into trouble (or to a witness): `cycle` is empty unless it is a lasso. */
export type Finding = { readonly token: string; readonly steps: number };

/** The shortest path to a state for which `holds`. States are in breadth-first order, so the first hit is shortest. */
export function findState(graph: Graph, holds: (state: Uint8Array) => boolean): Finding | null {
  const words = new Int32Array(graph.store.words);
  const state = new Uint8Array(words.buffer);
  for (let index = 0; index < graph.states; index++) {
    graph.store.load(index, words);
    if (holds(state)) return pathFinding(graph, index);
  }
  return null;
}

/** The shortest path to a state in which nothing is enabled and which is not a proper end. */
export function findDeadlock(graph: Graph, isEnd: (state: Uint8Array) => boolean): Finding | null {
  for (const index of graph.terminals) if (!isEnd(graph.state(index))) return pathFinding(graph, index);
  return null;
}

export function findLivelock(graph: Graph, query: CycleQuery): Finding | null {
  const lasso = findFairLasso(graph, query);
  if (lasso === null) return null;
  return { token: formatToken(lasso.stem, lasso.cycle), steps: lasso.stem.length + lasso.cycle.length };
}

function pathFinding(graph: Graph, index: number): Finding {
  const path = graph.pathTo(index);
  return { token: formatToken(path), steps: path.length };
}

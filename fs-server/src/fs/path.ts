/** Slash-separated paths on top of node ids: for clients that know no nodes (libfuse's high level, tests, tools). */
import { type FileSystem, type NodeId, type Place, ROOT_NODE } from "./filesystem.ts";
import { type ComponentName, componentName } from "./names.ts";

/** The components of an absolute path within the file system; `/` has none. */
export function components(path: string): readonly ComponentName[] {
  return path
    .split("/")
    .filter((part) => part !== "")
    .map(componentName);
}

/** Runs `work` on the node that `names` lead to, and gives back every reference taken on the way. */
export function atPath<T>(fs: FileSystem, names: readonly ComponentName[], work: (node: NodeId) => T): T {
  const taken: NodeId[] = [];
  try {
    let node = ROOT_NODE;
    for (const name of names) {
      node = fs.lookup(node, name).node;
      taken.push(node);
    }
    return work(node);
  } finally {
    for (const node of taken) fs.forget(node, 1n);
  }
}

/** Runs `work` on the place that `names` denote: the parent's node and the last component. */
export function atPlace<T>(
  fs: FileSystem,
  names: readonly ComponentName[],
  work: (place: Place) => T,
): T | null {
  const name = names.at(-1);
  if (name === undefined) return null;
  return atPath(fs, names.slice(0, -1), (parent) => work({ parent, name }));
}

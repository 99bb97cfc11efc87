/** Sizes that all threads of a mount share. */
import { describe, expect, it } from "vitest";
import { files } from "../../../sys/src/index.ts";
import { ClientSizes } from "../../src/core/client-sizes.ts";
import { type Attributes, type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { NULL_FILE_SYSTEM } from "../../src/fs/null.ts";
import { sharedSizes } from "../../src/passthrough/shared-sizes.ts";
import { newTables } from "../../src/passthrough/tables.ts";

const tables = () => newTables({ nodes: 100, pins: 100, locks: 0, handles: 10 }, -1);
const regular = (sizeBytes: bigint): Attributes => ({
  ...NULL_FILE_SYSTEM.getattr(ROOT_NODE),
  mode: files.S_IFREG,
  sizeBytes,
});
const node = (id: bigint): NodeId => id as NodeId;

describe("shared sizes", () => {
  it("shows one thread what another has set, an empty file among it, and nothing that was not set", () => {
    const shared = tables();
    const [one, other] = [sharedSizes(shared).latest, sharedSizes(shared).latest];
    expect(other.get(node(7n))).toBeUndefined();
    one.set(node(7n), 0n);
    one.set(node(8n), 2n ** 62n);
    expect([other.get(node(7n)), other.get(node(8n)), other.get(ROOT_NODE)]).toEqual([
      0n,
      2n ** 62n,
      undefined,
    ]);
    other.delete(node(7n));
    expect(one.get(node(7n))).toBeUndefined();
    other.clear();
    expect(one.get(node(8n))).toBeUndefined();
  });

  it("keeps every node's size apart, and takes an id that is no node's", () => {
    const { latest: sizes, made } = sharedSizes(tables());
    for (let id = 1n; id <= 101n; id += 1n) sizes.set(node(id), id * 10n);
    for (let id = 1n; id <= 101n; id += 1n) expect(sizes.get(node(id))).toBe(id * 10n);
    for (const id of [0n, 250n, 2n ** 63n, 2n ** 64n - 1n]) sizes.set(node(id), 1n);
    expect(sizes.get(node(1n))).toBe(10n);
    for (let id = 1n; id <= 101n; id += 1n) expect(made.get(node(id))).toBeUndefined();
    made.set(node(1n), 7n);
    expect([sizes.get(node(1n)), made.get(node(1n))]).toEqual([10n, 7n]);
  });

  it("lets a session know what another one's client wrote", () => {
    const shared = tables();
    const [one, other] = [new ClientSizes(sharedSizes(shared)), new ClientSizes(sharedSizes(shared))];
    sharedSizes(shared).latest.set(node(3n), 100n);
    other.written(node(3n), 200n);
    expect([one.isAtEnd(node(3n), 150n), one.isAtEnd(node(3n), 200n)]).toEqual([false, true]);
    other.truncated(node(3n), 0n);
    expect(one.isAtEnd(node(3n), 0n)).toBe(true);
  });

  it("takes for an append what is one to the client, whatever it was shown since its last change", () => {
    const [one, other] = [new ClientSizes(), new ClientSizes()];
    for (const sizes of [one, other]) sizes.shown(node(3n), regular(100n));
    one.truncated(node(3n), 20n);
    // An answer from before that, which the client leaves out; and one that has the host's own append.
    for (const shown of [100n, 40n]) {
      one.shown(node(3n), regular(shown));
      expect([0n, 10n, 20n, 30n, shown, 200n].map((offset) => one.isAtEnd(node(3n), offset))).toEqual([
        false,
        false,
        true,
        false,
        true,
        true,
      ]);
    }
    one.written(node(3n), 25n, true);
    expect([20n, 25n, 40n].map((offset) => one.isAtEnd(node(3n), offset))).toEqual([false, true, true]);
    // Alone: where it has written behind the end, an answer from before that does not make a later write an append.
    other.written(node(3n), 200n);
    other.shown(node(3n), regular(100n));
    expect([50n, 150n, 200n].map((offset) => other.isAtEnd(node(3n), offset))).toEqual([false, false, true]);
  });
});

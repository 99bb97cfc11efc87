/** Sizes that all threads of a mount share. */
import { describe, expect, it } from "vitest";
import { ClientSizes } from "../../src/core/client-sizes.ts";
import { type NodeId, ROOT_NODE } from "../../src/fs/filesystem.ts";
import { SharedSizes } from "../../src/passthrough/shared-sizes.ts";
import { newTables } from "../../src/passthrough/tables.ts";

const tables = () => newTables({ nodes: 100, pins: 100, locks: 0, handles: 10 }, -1);
const node = (id: bigint): NodeId => id as NodeId;

describe("SharedSizes", () => {
  it("shows one thread what another has set, an empty file among it, and nothing that was not set", () => {
    const shared = tables();
    const [one, other] = [new SharedSizes(shared), new SharedSizes(shared)];
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
    const sizes = new SharedSizes(tables());
    for (let id = 1n; id <= 101n; id += 1n) sizes.set(node(id), id * 10n);
    for (let id = 1n; id <= 101n; id += 1n) expect(sizes.get(node(id))).toBe(id * 10n);
    for (const id of [0n, 250n, 2n ** 63n, 2n ** 64n - 1n]) sizes.set(node(id), 1n);
    expect(sizes.get(node(1n))).toBe(10n);
  });

  it("lets a session know what another one's client wrote", () => {
    const shared = tables();
    const [one, other] = [new ClientSizes(new SharedSizes(shared)), new ClientSizes(new SharedSizes(shared))];
    const sizes = new SharedSizes(shared);
    sizes.set(node(3n), 100n);
    other.written(node(3n), 200n);
    expect([one.isAtEnd(node(3n), 150n), one.isAtEnd(node(3n), 200n)]).toEqual([false, true]);
    other.truncated(node(3n));
    expect(one.isAtEnd(node(3n), 0n)).toBe(true);
  });
});

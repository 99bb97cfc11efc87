/**
 * A recall is over when the VMM has unmapped, not when it has answered: with a VMM that answers first, as QEMU does, and two
 * vCPUs that never stop touching.
 */
import { closeSync, ftruncateSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { files, receiveWithDescriptors, sendWithDescriptors, socketPair } from "../../../../sys/src/index.ts";
import { isLong } from "../../../../sys/test/support/long.ts";
import { checkedRange } from "../../../src/dax/window.ts";
import type { NodeId } from "../../../src/fs/filesystem.ts";
import { BackendChannel } from "../../../src/transport/vhost-user/backend-channel.ts";
import { mapsKeyOf, PeerMaps } from "../../../src/transport/vhost-user/peer-maps.ts";
import { type Entry, WindowFile } from "../../../src/transport/vhost-user/window-file.ts";
import { temporaryDirectory } from "../../support/directories.ts";
import { MappedWindow } from "../../support/mapped-window.ts";

const RANGE = 2 * 2 ** 20;
const PAGES = 8;
/** From QEMU's answer to its commit: some milliseconds. Its vCPUs' turns come on top. */
const COMMIT_MS = 3;
const BOUND_MS = 5000;
const ROUNDS = isLong ? 300 : 25;

/** One request of the channel's, if there is one, and what is due. */
function serveOnce(socket: number, window: MappedWindow): void {
  window.turn();
  if (files.pollReadable(socket, 0) !== 1) return;
  const bytes = Buffer.alloc(52);
  const { lengthBytes, fds } = receiveWithDescriptors(socket, bytes);
  if (lengthBytes !== bytes.length) return;
  const [fd = -1] = fds;
  const result = window.answer({
    kind: bytes.readUInt32LE(0) === 9 ? "map" : "unmap",
    fdOffset: bytes.readBigUInt64LE(20),
    windowOffset: bytes.readBigUInt64LE(28),
    lengthBytes: bytes.readBigUInt64LE(36),
    fd,
  });
  const answer = Buffer.alloc(20);
  answer.writeUInt32LE(bytes.readUInt32LE(0), 0);
  answer.writeUInt32LE(5, 4);
  answer.writeUInt32LE(8, 8);
  answer.writeBigUInt64LE(result, 12);
  sendWithDescriptors(socket, answer, []);
}

/** Rounds of recall, truncation, touch and growth. Returns in how many of them a vCPU met a page that was lost. */
async function lostRounds(
  end: "barrier" | "bare answer",
): Promise<{ readonly lost: number; readonly loads: number }> {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(RANGE, "f"));
  const fd = openSync(path, "r+");
  const [ours, theirs] = socketPair();
  const broken: string[] = [];
  const channel = new BackendChannel(ours, (reason) => broken.push(reason));
  const window = new MappedWindow(RANGE, COMMIT_MS);
  const [key, peer] = [mapsKeyOf(fd), new PeerMaps(process.pid)];
  const file = new WindowFile({
    fd,
    channel,
    log: (line) => broken.push(line),
    size: () => BigInt(RANGE),
    reach: (_, sizeBytes) => sizeBytes,
    barrier: async (fromBytes) => {
      if (end === "barrier") await peer.vanished(key, fromBytes, BOUND_MS);
    },
    onChange: () => undefined,
  });
  let isOver = false;
  const vmm = (async () => {
    for (; !isOver; await nextTurn()) serveOnce(theirs, window);
  })();
  let lost = 0;
  try {
    const range = checkedRange(0n, BigInt(RANGE), BigInt(RANGE), 4096n);
    const mapping = { node: 2n as NodeId, fileOffset: 0n, range, writable: true };
    const entry: Entry = { mapping, pieces: [] };
    expect(await file.map(entry)).toBe(true);
    await window.spin(PAGES);
    for (let round = 0; round < ROUNDS; round += 1) {
      const before = window.lost;
      const { maps } = window;
      await file.recall({ fromBytes: 0n, by: "the test" });
      ftruncateSync(fd, 0);
      await sleep(1);
      // Until what the VMM still has is gone: the touches of a round are that round's.
      while (end === "bare answer" && peer.hasMapped(key)) await sleep(1);
      if (window.lost > before) lost += 1;
      ftruncateSync(fd, RANGE);
      file.settle(BigInt(RANGE));
      while (window.maps === maps) await nextTurn();
    }
    const { loads } = window;
    return { lost, loads };
  } finally {
    await window.close();
    channel.close();
    isOver = true;
    await vmm;
    files.close(theirs);
    closeSync(fd);
    expect(broken.filter((line) => line !== "closed")).toEqual([]);
  }
}

describe("a recall beside two vCPUs that spin", { timeout: 120_000 }, () => {
  it(`with the barrier, loses nothing in ${ROUNDS} rounds`, async () => {
    const { lost, loads } = await lostRounds("barrier");
    expect(lost).toBe(0);
    expect(loads).toBeGreaterThan(ROUNDS * PAGES);
  });

  it("with the bare answer, loses pages in nearly all rounds: the two can be told apart", async () => {
    const { lost } = await lostRounds("bare answer");
    expect(lost).toBeGreaterThan(ROUNDS * 0.8);
  });
});

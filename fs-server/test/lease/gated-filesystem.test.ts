/** Truncations that wait for the gate: each ticket ends, however its request does. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { files } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { Session } from "../../src/core/session.ts";
import { GatedFileSystem } from "../../src/lease/gated-filesystem.ts";
import type { GateTicket, TruncationGate } from "../../src/lease/truncation-gate.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";
import { encodeRequest, MemoryClient } from "../../src/transport/memory/client.ts";

const FATTR_SIZE = 1 << 3;

/** A gate that opens when it is told to, and knows which tickets have not ended. */
class TestGate implements TruncationGate {
  readonly pending = new Set<GateTicket>();
  isOpenNow = false;
  asked = 0;

  ask(): GateTicket {
    this.asked += 1;
    this.pending.add(this.asked);
    return this.asked;
  }
  isOpen(): boolean {
    return this.isOpenNow;
  }
  isHeldNow: () => boolean = () => true;
  isHeld(): boolean {
    return this.isHeldNow();
  }
  readonly sizes: bigint[] = [];
  grown(_file: unknown, sizeBytes: bigint): void {
    this.sizes.push(sizeBytes);
  }
  done(ticket: GateTicket): void {
    if (!this.pending.delete(ticket)) throw new Error(`ticket ${ticket} ends twice`);
  }
}

let source: string;
let clock = 0;
beforeEach(() => {
  source = temporaryDirectory();
  writeFileSync(join(source, "file"), "x".repeat(1000));
});

function served() {
  const fs = new PassthroughFileSystem(source);
  const gate = new TestGate();
  const session = new Session({ fs: new GatedFileSystem(fs, gate), now: () => clock });
  const client = new MemoryClient(session);
  client.init();
  const node = client.call("LOOKUP", { names: ["file"] }).body.getBigUint64(0, true);
  const truncate = (unique: bigint, size: number): string => {
    const request = encodeRequest("SETATTR", unique, { node, args: { valid: FATTR_SIZE, size } });
    return client.send(request).result.kind;
  };
  const later = (): void => {
    clock += 10;
    session.handleDue();
  };
  return { gate, session, client, node, truncate, later, fs };
}

const size = (): number => readFileSync(join(source, "file")).length;

describe("a truncation behind the gate", () => {
  it("asks once, waits, and ends its ticket when it is done", () => {
    const { gate, client, truncate, later } = served();
    expect(truncate(100n, 10)).toBe("postponed");
    later();
    later();
    expect([gate.asked, gate.pending.size, size()]).toEqual([1, 1, 1000]);
    gate.isOpenNow = true;
    later();
    expect([client.answers.get(100n), gate.pending.size, size()]).toEqual([1, 0, 10]);
  });

  it.each([
    [
      "is interrupted",
      ({ client }: ReturnType<typeof served>) => client.post("INTERRUPT", { args: { unique: 100n } }),
    ],
    ["loses its client", ({ session }: ReturnType<typeof served>) => session.end()],
  ])("ends its ticket when it %s, and truncates nothing", (_how, end) => {
    const all = served();
    all.truncate(100n, 10);
    all.later();
    expect(all.gate.pending.size).toBe(1);
    end(all);
    expect([all.gate.pending.size, size()]).toEqual([0, 1000]);
    all.later();
    expect([all.gate.asked, all.gate.pending.size]).toEqual([1, 0]);
  });

  it("ends its ticket when the file has become shorter meanwhile, or is gone", () => {
    const { gate, client, truncate, later, node } = served();
    truncate(100n, 500);
    writeFileSync(join(source, "file"), "short");
    later();
    expect([client.answers.get(100n), gate.pending.size, size()]).toEqual([1, 0, 500]);
    truncate(101n, 50);
    client.post("FORGET", { node, args: { nlookup: 1n } });
    later();
    expect([client.answers.get(101n), gate.pending.size]).toEqual([1, 0]);
  });

  it("keeps the ticket for another one that waits for the same", () => {
    const { gate, client, truncate, later } = served();
    truncate(100n, 10);
    truncate(101n, 10);
    client.post("INTERRUPT", { args: { unique: 100n } });
    expect([gate.asked, gate.pending.size]).toEqual([1, 1]);
    gate.isOpenNow = true;
    later();
    expect([client.answers.get(101n), gate.pending.size, size()]).toEqual([1, 0, 10]);
  });
});

describe("a file that grows", () => {
  function opened() {
    const all = served();
    const { client, node, gate } = all;
    const fh = client.call("OPEN", { node, args: { flags: files.O_RDWR } }).body.getBigUint64(0, true);
    const write = (offset: number): void => {
      const payload = Buffer.from("0123456789");
      const args = { fh, offset: BigInt(offset), size: payload.length };
      expect(client.call("WRITE", { node, args, payload }).errno).toBe(0);
    };
    return { ...all, gate, fh, write };
  }

  it("is reported where it is held, also by a lease that is granted during the write", () => {
    const { gate, write } = opened();
    write(995);
    expect(gate.sizes).toEqual([1005n]);
    write(0);
    expect(gate.sizes).toEqual([1005n]);
    const answers = [false, true];
    gate.isHeldNow = () => answers.shift() ?? true;
    write(1005);
    expect(gate.sizes).toEqual([1005n, 1015n]);
    gate.isHeldNow = () => false;
    write(1015);
    expect(gate.sizes).toHaveLength(2);
  });

  it("is reported when it grows by a copy", () => {
    const { gate, client, node, fh } = opened();
    const args = { fh_in: fh, off_in: 0n, nodeid_out: node, fh_out: fh, off_out: 1000n, len: 10n, flags: 0n };
    expect(client.call("COPY_FILE_RANGE", { node, args }).errno).toBe(0);
    expect(gate.sizes).toEqual([1010n]);
  });
});

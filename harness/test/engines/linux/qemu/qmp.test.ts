import { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import {
  countersOf,
  parseQmp,
  Qmp,
  QmpError,
  type QmpEvent,
  statusOf,
  threadIdsOf,
} from "../../../../src/engines/linux/qemu/qmp.ts";

describe("parseQmp", () => {
  it.each([
    ['{"QMP": {"version": {}, "capabilities": ["oob"]}}', { kind: "greeting" }],
    ['{"return": {}, "id": 7}', { kind: "answer", id: 7, value: {} }],
    ['{"return": []}', { kind: "answer", id: null, value: [] }],
    [
      '{"id": 3, "error": {"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}}',
      { kind: "error", id: 3, message: "GenericError: Resetting the Virtual Machine is required" },
    ],
    [
      '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}',
      { kind: "event", event: { name: "SHUTDOWN", data: { guest: true, reason: "guest-reset" } } },
    ],
    ['{"timestamp": {"seconds": 1}, "event": "STOP"}', { kind: "event", event: { name: "STOP", data: {} } }],
  ])("%s", (line, message) => {
    expect(parseQmp(line)).toEqual(message);
  });

  it.each(["[]", "7", '{"some": "thing"}', '{"return": '])("refuses %s", (line) => {
    expect(() => parseQmp(line)).toThrow(SyntaxError);
  });
});

/** QEMU's end of the socket, as the client sees it. */
class FakeQemu extends Duplex {
  readonly written: { readonly execute: string; readonly id: number }[] = [];

  override _read(): void {}

  override _write(piece: Buffer, _encoding: string, done: () => void): void {
    for (const line of piece.toString().split("\n")) if (line !== "") this.written.push(JSON.parse(line));
    done();
  }
}

describe("Qmp", () => {
  function connected(): { qemu: FakeQemu; qmp: Qmp; events: QmpEvent[] } {
    const qemu = new FakeQemu();
    const events: QmpEvent[] = [];
    return { qemu, qmp: new Qmp(qemu, (event) => events.push(event)), events };
  }

  it("gives each answer to its command, whatever comes between, in pieces of any size", async () => {
    const { qemu, qmp, events } = connected();
    const status = qmp.execute("query-status");
    const cpus = qmp.execute("query-cpus-fast");
    const text = [
      '{"QMP": {}}',
      '{"event": "RESUME"}',
      '{"id": 2, "return": []}',
      '{"id": 1, "return": {"status": "running"}}',
      "",
    ].join("\r\n");
    for (const character of text) qemu.push(character);
    expect(statusOf(await status)).toBe("running");
    expect(await cpus).toEqual([]);
    expect(events).toEqual([{ name: "RESUME", data: {} }]);
    expect(qemu.written.map(({ execute }) => execute)).toEqual(["query-status", "query-cpus-fast"]);
  });

  it("rejects what QEMU refuses, and what it never answers because it has gone", async () => {
    const { qemu, qmp } = connected();
    const refused = qmp.execute("cont");
    const unanswered = qmp.execute("query-stats");
    qemu.push('{"id": 1, "error": {"class": "GenericError", "desc": "no"}}\n');
    await expect(refused).rejects.toThrow(new QmpError("GenericError: no"));
    qemu.destroy();
    await expect(unanswered).rejects.toThrow("QEMU has closed its QMP socket");
    await expect(qmp.execute("query-status")).rejects.toThrow(QmpError);
  });

  it("gives up on a stream that is no QMP", async () => {
    const { qemu, qmp } = connected();
    const asked = qmp.execute("query-status");
    qemu.push("qemu: could not open disk\n");
    await expect(asked).rejects.toThrow(QmpError);
  });
});

describe("answers", () => {
  it("has the threads by the index of their vCPU", () => {
    const cpu = (index: number, tid: number) => ({ "cpu-index": index, "thread-id": tid });
    expect(threadIdsOf([cpu(1, 31), cpu(0, 30)])).toEqual([30, 31]);
    expect(threadIdsOf(null)).toEqual([]);
  });

  it("has KVM's counters of each vCPU, and no histograms", () => {
    const stats = (taken: number) => ({
      provider: "kvm",
      "qom-path": "/machine/unattached/device[0]",
      stats: [
        { name: "pf_taken", value: taken },
        { name: "halt_wait_hist", value: [1, 2, 3] },
      ],
    });
    expect(countersOf([stats(5), stats(7)])).toEqual([{ pf_taken: 5n }, { pf_taken: 7n }]);
    expect(countersOf({})).toEqual([]);
  });

  it.each([
    [{ status: "internal-error", running: false }, "internal-error"],
    [{}, "unknown"],
    [null, "unknown"],
  ])("%j has the run state %s", (answer, status) => {
    expect(statusOf(answer)).toBe(status);
  });
});

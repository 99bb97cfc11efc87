import { describe, expect, it } from "vitest";
import {
  CrossThreadGate,
  GateKeeper,
  type GateMessage,
  gateMemory,
} from "../../src/lease/cross-thread-gate.ts";
import { LeaseBook } from "../../src/lease/lease-book.ts";
import { FREE } from "../../src/lease/truncation-gate.ts";
import { RecordingHolder } from "../support/holder.ts";

const held = { device: 1n, ino: 7n };

function gates() {
  const memory = gateMemory();
  const book = new LeaseBook({ boundMs: 1000 });
  const keeper = new GateKeeper(memory, book);
  book.onChange = (file, change) => keeper.heldChanged(file, change);
  const posted: GateMessage[] = [];
  return {
    book,
    keeper,
    posted,
    memory,
    gate: new CrossThreadGate(memory, (message) => posted.push(message)),
  };
}

describe("the gate of a server that grants leases", () => {
  it("lets what nobody holds pass without a question", () => {
    const { book, gate, posted } = gates();
    const release = book.hold(held, new RecordingHolder());
    expect([gate.isHeld(held), gate.isHeld({ ...held, ino: 8n })]).toEqual([true, false]);
    expect(gate.ask({ ...held, ino: 8n }, 0n)).toBe(FREE);
    expect(posted).toEqual([]);
    release();
    expect(gate.ask(held, 0n)).toBe(FREE);
  });

  it("asks for a file that only shares its bucket, and is let through", () => {
    const { book, gate, keeper, posted } = gates();
    const holder = new RecordingHolder();
    book.hold(held, holder);
    const ticket = gate.ask({ ...held, ino: held.ino + 256n }, 0n);
    expect(gate.isOpen(ticket)).toBe(false);
    for (const message of posted) keeper.receive(message);
    expect(gate.isOpen(ticket)).toBe(true);
    expect(holder.recorded).toEqual([]);
  });

  it("opens for the file that is held when its holder has let go", async () => {
    const { book, gate, keeper, posted } = gates();
    const holder = new RecordingHolder();
    book.hold(held, holder);
    const ticket = gate.ask(held, 4096n);
    const open = holder.next(/recall 4096/);
    for (const message of posted) keeper.receive(message);
    await open;
    await new Promise(setImmediate);
    expect(gate.isOpen(ticket)).toBe(true);
  });

  it("does not open for a file because the holder of another one lets go, whose truncation was given up", async () => {
    const { book, gate, keeper, posted } = gates();
    const deliver = (): void => {
      for (const message of posted.splice(0)) keeper.receive(message);
    };
    const other = { ...held, ino: 8n };
    const letGo: (() => void)[] = [];
    const holder = new RecordingHolder(() => new Promise((done) => letGo.push(done)));
    for (const file of [held, other]) book.hold(file, holder);
    const turn = (): Promise<void> => new Promise((done) => setImmediate(done));
    const first = gate.ask(held, 0n);
    deliver();
    gate.done(first, 4096n);
    // The first one's holder lets go before the main thread sees that this is another question.
    const second = gate.ask(other, 0n);
    expect(second).toBe(first);
    letGo[0]?.();
    await turn();
    expect(gate.isOpen(second)).toBe(false);
    deliver();
    await turn();
    expect(gate.isOpen(second)).toBe(false);
    letGo[1]?.();
    await turn();
    expect(gate.isOpen(second)).toBe(true);
  });

  it("settles with the size that came last, whichever thread's message is received last", async () => {
    const { book, gate, keeper, posted, memory } = gates();
    const beside: GateMessage[] = [];
    const other = new CrossThreadGate(memory, (message) => beside.push(message), 1);
    const holder = new RecordingHolder();
    const release = book.hold(held, holder);
    const receive = (messages: GateMessage[]): void => {
      for (const message of messages.splice(0)) keeper.receive(message);
    };
    gate.grown(held, 5000n);
    other.grown(held, 6000n);
    receive(beside);
    receive(posted);
    expect(holder.recorded).toEqual(["settle 6000", "settle 6000"]);
    // A truncation that is over when the growth before it is received.
    other.grown(held, 7000n);
    const ticket = gate.ask(held, 100n);
    receive(posted);
    await new Promise(setImmediate);
    gate.done(ticket, 100n);
    receive(posted);
    receive(beside);
    expect(holder.recorded.slice(2)).toEqual(["recall 100", "settle 100", "settle 100"]);
    // Of a lease that was given back nothing is known.
    release();
    other.grown(held, 50n);
    book.hold(held, holder);
    receive(beside);
    expect(holder.recorded.slice(5)).toEqual(["settle 50"]);
  });

  it("counts a file until its last lease is given back, each once", () => {
    const { book, gate } = gates();
    const releases = [1, 2].map(() => book.hold(held, new RecordingHolder()));
    releases[0]?.();
    releases[0]?.();
    expect([gate.isHeld(held), book.isHeld(held)]).toEqual([true, true]);
    releases[1]?.();
    expect([gate.isHeld(held), book.isHeld(held)]).toEqual([false, false]);
    book.hold(held, new RecordingHolder());
    for (const release of releases) release();
    expect([gate.isHeld(held), book.isHeld(held)]).toEqual([true, true]);
  });
});
